//! Texts about a worker's session and the jobs that it holds.

use jobqueue_shared::{
    proto::v1::{HeldJob, WorkerSession, job::Status, worker_session::State},
    time::{duration_ms, timestamp_ms},
};

use super::{
    number::plural,
    span,
    status::{self, Look},
};

/// Explanation of the session's state, in a sentence or two.
pub fn explain(session: &WorkerSession) -> String {
    let lease = span::exact(session.lease_time.as_ref().map_or(0, duration_ms));
    match session.state() {
        State::Unspecified => String::new(),
        State::Live => format!("It takes jobs. Each heartbeat extends its lease by {lease}."),
        State::Draining => "It finishes what it runs and takes nothing new.".into(),
        State::Expired => {
            format!("It has been silent for longer than its lease of {lease}. What it holds is about to be taken back.")
        }
        State::Ended => "It said goodbye. What it still held went back to the queue, uncharged.".into(),
        State::Lost => {
            // A session that ends before its lease was taken over by a worker that saw its process gone.
            let how = if ended_early(session) {
                "Its process was gone, and a new worker took over from it.".to_owned()
            } else {
                format!("It was silent for longer than its lease of {lease}.")
            };
            format!(
                "{how} What it held was taken back: the jobs that it had started were charged an attempt, \
                 what it merely held was not."
            )
        }
    }
}

fn ended_early(session: &WorkerSession) -> bool {
    let time = |at: &Option<_>| at.as_ref().map(timestamp_ms);
    time(&session.ended_at).zip(time(&session.expires_at)).is_some_and(|(ended, expires)| ended < expires)
}

/// Label for the time at which the session's lease ends.
pub fn lease_end(session: &WorkerSession) -> &'static str {
    match is_over(session.state()) {
        false => "Lease runs out",
        true if ended_early(session) => "Lease was to end",
        true => "Lease ran until",
    }
}

/// True when the session holds nothing any more; the listed jobs are those that it held last.
pub fn is_over(state: State) -> bool {
    matches!(state, State::Ended | State::Lost)
}

/// Title of the session's list of jobs.
pub fn jobs_title(state: State) -> &'static str {
    match state {
        State::Lost => "Jobs it held when it was lost",
        State::Ended => "Jobs it held when it ended",
        State::Unspecified | State::Live | State::Draining | State::Expired => "Jobs it holds",
    }
}

/// Summary of a session's jobs, such as "3 jobs, 2 of them started".
pub fn tally(jobs: &[HeldJob]) -> String {
    let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
    let started = jobs.iter().filter(|job| job.started).count();
    let all = plural(number(jobs.len()), "job", "jobs");
    match started {
        0 => format!("{all}, none started"),
        _ if started == jobs.len() => format!("{all}, started"),
        _ => format!("{all}, {} of them started", super::number::count(number(started))),
    }
}

/// Look and explanation of a job's part in the session: started, or merely held.
pub fn part(job: &HeldJob, state: State) -> (Look, &'static str) {
    let look = |icon, word, tone| Look { icon, word, tone };
    match (job.started, state) {
        (true, State::Lost) => (look("play", "started", "failed"), "It was charged an attempt"),
        (true, State::Ended) => (look("play", "started", "pending"), "It went back uncharged"),
        (true, _) => (look("play", "started", "running"), "It has one of the session's slots"),
        (false, State::Lost | State::Ended) => (look("half", "held", "pending"), "It went back uncharged"),
        (false, _) => (look("half", "held", "pending"), "It waits for one of the session's slots"),
    }
}

/// Look of the job's present status.
pub fn present(job: &HeldJob) -> Look {
    match job.status() {
        Status::Unspecified => Look { icon: "trash", word: "deleted", tone: "cancelled" },
        status => status::plain(status),
    }
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::time::{duration, timestamp};

    use super::*;

    fn session(state: State) -> WorkerSession {
        WorkerSession {
            state: state.into(),
            lease_time: Some(duration(30_000)),
            expires_at: Some(timestamp(60_000)),
            ..WorkerSession::default()
        }
    }

    fn held(started: bool, status: Status) -> HeldJob {
        HeldJob { started, status: status.into(), ..HeldJob::default() }
    }

    #[test]
    fn a_lost_session_says_how_and_what_it_cost() {
        let mut lost = session(State::Lost);
        lost.ended_at = Some(timestamp(61_000));
        assert!(explain(&lost).starts_with("It was silent for longer than its lease of 30 s. What it held"));
        lost.ended_at = Some(timestamp(59_000));
        assert!(explain(&lost).starts_with("Its process was gone, and a new worker took over from it. What it held"));
        assert_eq!(lease_end(&lost), "Lease was to end");
        lost.ended_at = Some(timestamp(61_000));
        assert_eq!((lease_end(&lost), lease_end(&session(State::Live))), ("Lease ran until", "Lease runs out"));
    }

    #[test]
    fn every_state_is_explained() {
        for state in [State::Live, State::Draining, State::Expired, State::Ended, State::Lost] {
            assert!(explain(&session(state)).ends_with('.'), "{state:?}");
        }
        assert!(is_over(State::Lost) && is_over(State::Ended) && !is_over(State::Expired));
    }

    #[test]
    fn started_and_held_are_counted_and_told_apart() {
        let both = [held(true, Status::Failed), held(false, Status::Pending), held(false, Status::Pending)];
        assert_eq!(tally(&both), "3 jobs, 1 of them started");
        assert_eq!(tally(&both[..1]), "1 job, started");
        assert_eq!(tally(&both[1..]), "2 jobs, none started");
        assert_eq!(part(&both[0], State::Lost).1, "It was charged an attempt");
        assert_eq!(part(&both[1], State::Lost).1, "It went back uncharged");
        assert_eq!(part(&both[1], State::Live).1, "It waits for one of the session's slots");
    }

    #[test]
    fn a_job_that_is_gone_is_said_to_be_deleted() {
        assert_eq!(present(&held(true, Status::Unspecified)).word, "deleted");
        assert_eq!(present(&held(true, Status::Done)).word, "done");
    }
}
