//! How statuses, outcomes and reasons look: always a shape, a word and a colour.

use jobqueue_shared::{
    proto::v1::{Job, attempt::Outcome, dead_letter::Reason, job::Status, worker_session},
    time::timestamp_ms,
};

/// One look: the icon's name, the word, and the class that colours both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    pub icon: &'static str,
    pub word: &'static str,
    pub tone: &'static str,
}

const fn look(icon: &'static str, word: &'static str, tone: &'static str) -> Look {
    Look { icon, word, tone }
}

/// A pending job whose time has not come is scheduled, or retrying once an attempt was used.
pub fn job(job: &Job, now: i64) -> Look {
    let due = job.run_at.as_ref().map_or(0, timestamp_ms);
    match job.status() {
        Status::Unspecified => look("circle", "unknown", "cancelled"),
        Status::Pending if due > now && job.attempt_count > 0 => look("retry", "retrying", "retrying"),
        Status::Pending if due > now => look("clock", "scheduled", "scheduled"),
        Status::Pending => look("circle", "pending", "pending"),
        Status::Running => look("play", "running", "running"),
        Status::Done => look("check", "done", "done"),
        Status::Failed => look("cross", "failed", "failed"),
        Status::Cancelled => look("prohibit", "cancelled", "cancelled"),
    }
}

pub fn outcome(outcome: Outcome) -> Look {
    match outcome {
        Outcome::Unspecified => look("circle", "unknown", "cancelled"),
        Outcome::Failed => look("cross", "failed", "failed"),
        Outcome::TimedOut => look("timer", "timed out", "failed"),
        Outcome::Lost => look("plugs", "worker lost", "failed"),
        Outcome::Released => look("return", "given back", "pending"),
        Outcome::NoHandler => look("question", "no handler", "retrying"),
        Outcome::Snoozed => look("clock", "snoozed", "scheduled"),
        Outcome::Cancelled => look("prohibit", "cancelled", "cancelled"),
        Outcome::Refused => look("shield", "refused", "retrying"),
        Outcome::Retried => look("retry", "retried by a person", "retrying"),
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

/// Why a job is a dead letter, in words.
pub fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Unspecified => "",
        Reason::AttemptsExhausted => "no attempts left",
        Reason::Permanent => "permanent failure",
        Reason::WorkerLost => "worker lost",
        Reason::TimedOut => "timed out",
    }
}

/// "1 of 3". A budget of 0 allows one attempt.
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
        for (job_, word) in [
            (pending(5_000, 0), "scheduled"),
            (pending(5_000, 1), "retrying"),
            (pending(1_000, 1), "pending"),
            (pending(0, 0), "pending"),
        ] {
            assert_eq!(job(&job_, 1_000).word, word);
        }
    }

    #[test]
    fn the_words_are_those_of_the_api() {
        for status in [Status::Pending, Status::Running, Status::Done, Status::Failed, Status::Cancelled] {
            let mut it = Job::default();
            it.set_status(status);
            assert_eq!(job(&it, 0).word, status.as_str_name());
        }
    }

    #[test]
    fn no_budget_is_one_attempt() {
        assert_eq!(attempts(&Job { attempt_count: 1, max_retries: 0, ..Job::default() }), "1 of 1");
    }
}
