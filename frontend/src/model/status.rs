//! Looks of statuses, events and reasons: always an icon, a word and a colour.

use jobqueue_shared::{
    proto::v1::{Job, dead_letter::Reason, job::Status, timeline_event::Kind, worker_session},
    time::timestamp_ms,
};

/// Name of an icon, a word, and the class that colours both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Look {
    pub icon: &'static str,
    pub word: &'static str,
    pub tone: &'static str,
}

pub(super) const fn look(icon: &'static str, word: &'static str, tone: &'static str) -> Look {
    Look { icon, word, tone }
}

/// Status of a job, and what tells pending jobs apart as time passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobStatus {
    status: Status,
    /// Time from which the job may run.
    due: i64,
    /// True once an attempt was used.
    attempted: bool,
    /// True after a worker without a handler for the task gave the job back. Until one that has a handler comes, the
    /// job is offered again and again, each time later; it is not scheduled by anybody.
    waits_for_handler: bool,
}

impl JobStatus {
    pub fn of(job: &Job) -> Self {
        let due = job.run_at.as_ref().map_or(0, timestamp_ms);
        Self { status: job.status(), due, attempted: job.attempt_count > 0, waits_for_handler: job.waits_for_handler }
    }

    /// Look at the time `now`. A pending job whose time has not come is scheduled, or retrying once an attempt was
    /// used, unless what it waits for is a worker with a handler.
    pub fn look(self, now: i64) -> Look {
        match self.status {
            Status::Pending if self.waits_for_handler => event(Kind::NoHandler),
            Status::Pending if self.due > now && self.attempted => look("retry", "retrying", "retrying"),
            Status::Pending if self.due > now => look("clock", "scheduled", "scheduled"),
            status => plain(status),
        }
    }
}

/// Look of a status alone.
pub fn plain(status: Status) -> Look {
    match status {
        Status::Unspecified => look("circle", "unknown", "cancelled"),
        Status::Pending => look("circle", "pending", "pending"),
        Status::Running => look("play", "running", "running"),
        Status::Done => look("check", "done", "done"),
        Status::Failed => look("cross", "failed", "failed"),
        Status::Cancelled => look("prohibit", "cancelled", "cancelled"),
    }
}

/// Look of a timeline event.
pub fn event(kind: Kind) -> Look {
    match kind {
        Kind::Unspecified => look("circle", "unknown", "cancelled"),
        Kind::Submitted => look("submit", "submitted", "pending"),
        Kind::Acquired => look("play", "acquired", "running"),
        Kind::Progress => look("half", "progress", "running"),
        Kind::Completed => look("check", "done", "done"),
        Kind::AttemptFailed => look("cross", "failed", "failed"),
        Kind::AttemptTimedOut => look("timer", "timed out", "failed"),
        Kind::Rescued => look("plugs", "worker lost", "failed"),
        Kind::Released => look("return", "given back", "pending"),
        Kind::NoHandler => look("question", "no handler", "retrying"),
        Kind::Snoozed => look("clock", "snoozed", "scheduled"),
        Kind::Cancelled => look("prohibit", "cancelled", "cancelled"),
        Kind::Refused => look("shield", "refused", "retrying"),
        Kind::Retried => look("retry", "retried by a person", "retrying"),
        Kind::DeadLetter => look("letters", "dead letter", "failed"),
    }
}

pub fn session(state: worker_session::State) -> Look {
    use worker_session::State;
    match state {
        State::Unspecified => look("circle", "unknown", "cancelled"),
        State::Live => look("check", "live", "done"),
        State::Draining => look("clock", "draining", "scheduled"),
        State::Expired => look("timer", "expired", "retrying"),
        State::Ended => look("prohibit", "ended", "cancelled"),
        State::Lost => look("plugs", "lost", "failed"),
    }
}

/// Reason why a job is a dead letter, in words.
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "",
        Reason::AttemptsExhausted => "no attempts left",
        Reason::Permanent => "permanent failure",
        Reason::WorkerLost => "worker lost",
        Reason::TimedOut => "timed out",
    }
}

/// Percentage, such as "45 %". `fraction` is clamped to the range from 0 to 1.
pub fn percent(fraction: f64) -> String {
    format!("{} %", whole_percent(fraction))
}

/// Percentage as a whole number from 0 to 100. `fraction` is clamped to the range from 0 to 1.
pub fn whole_percent(fraction: f64) -> f64 {
    // `max` turns NaN into 0.
    (fraction.clamp(0.0, 1.0) * 100.0).max(0.0).round()
}

/// Attempts used and allowed, such as "1 of 3". A `max_retries` of 0 allows one attempt.
pub fn attempts(job: &Job) -> String {
    format!("{} of {}", job.attempt_count, job.max_retries.max(1))
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::time::timestamp;

    use super::*;

    fn pending(run_at: i64, attempt_count: i32) -> Job {
        let mut job = Job { run_at: Some(timestamp(run_at)), attempt_count, ..Job::default() };
        job.set_status(Status::Pending);
        job
    }

    #[test]
    fn waiting_jobs_say_what_they_wait_for() {
        for (job, word) in [
            (pending(5_000, 0), "scheduled"),
            (pending(5_000, 1), "retrying"),
            (pending(1_000, 1), "pending"),
            (pending(0, 0), "pending"),
            (Job { waits_for_handler: true, ..pending(5_000, 0) }, "no handler"),
            (Job { waits_for_handler: true, ..pending(5_000, 2) }, "no handler"),
            (Job { waits_for_handler: true, ..pending(0, 0) }, "no handler"),
        ] {
            assert_eq!(JobStatus::of(&job).look(1_000).word, word);
        }
        let mut given_back = Job { waits_for_handler: true, ..pending(5_000, 0) };
        given_back.set_status(Status::Running);
        assert_eq!(JobStatus::of(&given_back).look(1_000).word, "running", "another worker has it");
    }

    #[test]
    fn the_words_are_those_of_the_api() {
        for status in [Status::Pending, Status::Running, Status::Done, Status::Failed, Status::Cancelled] {
            let mut it = Job::default();
            it.set_status(status);
            assert_eq!(JobStatus::of(&it).look(0).word, status.as_str_name());
        }
    }

    #[test]
    fn progress_stays_between_nothing_and_all() {
        for (fraction, text) in [(0.0, "0 %"), (0.454, "45 %"), (1.0, "100 %"), (7.5, "100 %"), (f64::NAN, "0 %")] {
            assert_eq!(percent(fraction), text);
        }
    }

    #[test]
    fn no_budget_is_one_attempt() {
        assert_eq!(attempts(&Job { attempt_count: 1, max_retries: 0, ..Job::default() }), "1 of 1");
    }
}
