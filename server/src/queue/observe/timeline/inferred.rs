//! Events that have no row in `attempts`: they follow from the job's row, or from other attempts.

use jobqueue_shared::{
    proto::v1::timeline_event::Kind,
    state::{FailureReason, State},
};
use jobqueue_store::{AttemptOutcome, AttemptRecord, JobRecord};

use super::event::{Event, event};

/// The dead-letter event before a retry. A retried job was a dead letter or cancelled, and the row of its dead letter
/// is gone: without an earlier cancellation, its last failed attempt had made it a dead letter.
pub(super) fn death_before(retried: &AttemptRecord, attempts: &[AttemptRecord]) -> Option<Event> {
    use AttemptOutcome as O;
    let mut before = attempts.iter().filter(|it| it.run_no == retried.run_no && it.ended_at_ms <= retried.ended_at_ms);
    if before.clone().any(|it| it.outcome == O::Cancelled) {
        return None;
    }
    let last = before.find(|it| matches!(it.outcome, O::Failed | O::TimedOut | O::Lost))?;
    let text = match last.outcome {
        O::TimedOut => reason_words(FailureReason::TimedOut),
        O::Lost => reason_words(FailureReason::WorkerLost),
        // The failure may have been permanent.
        _ => "",
    };
    Some(Event { text: text.to_owned(), ..event(Kind::DeadLetter, last.ended_at_ms, last.run_no) })
}

/// Events that follow from the job's present state and have no row in `attempts`.
pub(super) fn present(job: &JobRecord, host: &str, attempts: &[AttemptRecord]) -> Vec<Event> {
    let mut events = Vec::new();
    let of_session =
        |kind, at_ms| Event { session_id: job.session_id, host: host.to_owned(), ..event(kind, at_ms, job.run_no) };
    // The acquire of an attempt in `attempts` is among the events already.
    let told = |outcomes: &[AttemptOutcome]| {
        attempts
            .iter()
            .any(|it| it.run_no == job.run_no && outcomes.contains(&it.outcome) && it.started_at_ms.is_some())
    };
    let ends = [AttemptOutcome::Failed, AttemptOutcome::TimedOut, AttemptOutcome::Lost, AttemptOutcome::Cancelled];
    if let Some(started_at_ms) = job.started_at_ms
        && !told(&ends)
    {
        events.push(of_session(Kind::Acquired, started_at_ms));
    }
    let Some(finished_at_ms) = job.finished_at_ms else { return events };
    match job.state {
        State::Done => events.push(Event { text: job.note.clone(), ..of_session(Kind::Completed, finished_at_ms) }),
        State::Failed => {
            let text = job.failure.map_or("", reason_words).to_owned();
            events.push(Event { text, ..event(Kind::DeadLetter, finished_at_ms, job.run_no) });
        }
        State::Cancelled => {
            let by_attempt = attempts.iter().any(|it| {
                (it.run_no, it.outcome, it.ended_at_ms) == (job.run_no, AttemptOutcome::Cancelled, finished_at_ms)
            });
            if !by_attempt {
                events.push(Event { text: job.note.clone(), ..event(Kind::Cancelled, finished_at_ms, job.run_no) });
            }
        }
        State::Pending | State::Running => {}
    }
    events
}

fn reason_words(reason: FailureReason) -> &'static str {
    match reason {
        FailureReason::AttemptsExhausted => "no attempt is left",
        FailureReason::Permanent => "its handler said that trying again is useless",
        FailureReason::WorkerLost => "no attempt is left; the last worker was lost",
        FailureReason::TimedOut => "no attempt is left; the last one timed out",
    }
}
