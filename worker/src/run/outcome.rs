//! Outcome to report to the server when a handler has ended.

use std::time::Duration;

use jobqueue_shared::{
    limits,
    proto::v1::settlement::{Complete, Fail, Outcome, Release, Snooze},
};

use crate::{
    fields,
    handlers::{
        handler_error::{FailureKind, HandlerError},
        output::Output,
        stop::{Stop, StopReason},
    },
    run::supervise::HandlerEnd,
};

/// Outcome that releases a job; `None` when the server has ended its lease.
pub(crate) fn release(stop: &Stop) -> Option<Outcome> {
    (!stop.is_lease_over()).then_some(Outcome::Release(Release { no_handler: false }))
}

/// Outcome of an attempt by the `end` of its handler; `None` when the server has ended the attempt or will end it itself.
/// `limit` is the worker's own time limit, where that is the one that times the attempt out.
pub(crate) fn of(end: HandlerEnd, stop: &Stop, limit: Option<Duration>) -> Option<Outcome> {
    if stop.is_lease_over() {
        return None;
    }
    match (end, stop.reason()) {
        // Completed work is reported, however late: the server decides whether the lease is still valid.
        (HandlerEnd::Returned(Ok(output)), _) => Some(complete(output)),
        (end, Some(StopReason::TimedOut)) if limit.is_some() => Some(timed_out(end, limit.unwrap_or_default())),
        // The server ends the attempt by its own clock, and records "timed out" rather than the error of a stopped
        // handler.
        (_, Some(StopReason::TimedOut)) => None,
        // A permanent failure or a snooze is about the job itself, and not a consequence of the stop.
        (HandlerEnd::Returned(Err(error)), _) if !matches!(error.kind, FailureKind::Retry { .. }) => {
            Some(failed(error))
        }
        (_, Some(_)) | (HandlerEnd::Dropped, None) => release(stop),
        (HandlerEnd::Returned(Err(error)), None) => Some(failed(error)),
        (HandlerEnd::Panicked(text), None) => Some(failed(HandlerError::retry(text))),
    }
}

/// Outcome of an attempt that has reached the worker's limit, which the server does not know: a permanent failure or a
/// snooze that the handler returned, or else a failure that names the limit.
fn timed_out(end: HandlerEnd, limit: Duration) -> Outcome {
    let said = match end {
        HandlerEnd::Returned(Err(error)) if !matches!(error.kind, FailureKind::Retry { .. }) => return failed(error),
        HandlerEnd::Returned(Err(error)) => error.message,
        HandlerEnd::Panicked(text) => text,
        HandlerEnd::Returned(Ok(_)) | HandlerEnd::Dropped => "the handler did not stop and was dropped".to_owned(),
    };
    failed(HandlerError::retry(format!("timed out: an attempt may take {limit:?} on this worker ({said})")))
}

fn complete(output: Output) -> Outcome {
    Outcome::Complete(Complete { result_json: output.result_json, note: output.note })
}

fn failed(error: HandlerError) -> Outcome {
    let longest = Duration::from_millis(limits::DELAY_MS as u64);
    let text = |max| fields::text(error.message, max);
    match error.kind {
        FailureKind::Retry { after } => Outcome::Fail(Fail {
            error: text(limits::ERROR),
            permanent: false,
            retry_after: after.map(|after| fields::duration(after.min(longest))),
        }),
        FailureKind::Permanent => {
            Outcome::Fail(Fail { error: text(limits::ERROR), permanent: true, retry_after: None })
        }
        FailureKind::Snooze { delay } => {
            Outcome::Snooze(Snooze { delay: Some(fields::duration(delay.min(longest))), reason: text(limits::NOTE) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(end: HandlerEnd, stopped: Option<StopReason>, void: bool) -> Option<Outcome> {
        let stop = Stop::default();
        if let Some(reason) = stopped {
            if void { stop.by_server(reason) } else { stop.because(reason) }
        }
        of(end, &stop, None)
    }

    fn retry() -> HandlerEnd {
        HandlerEnd::Returned(Err(HandlerError::retry("no\0pe")))
    }

    #[test]
    fn a_handler_that_was_not_stopped_is_taken_at_its_word() {
        let told = |end| told(end, None, false).unwrap();
        assert!(
            matches!(told(HandlerEnd::Returned(Ok(Output::json("1")))), Outcome::Complete(it) if it.result_json == "1")
        );
        assert!(matches!(told(retry()), Outcome::Fail(it) if it.error == "no\u{fffd}pe" && !it.permanent));
        let bad = HandlerEnd::Returned(Err(HandlerError::permanent("bad")));
        assert!(matches!(told(bad), Outcome::Fail(it) if it.permanent));
        assert!(matches!(told(HandlerEnd::Panicked("panic: x".into())), Outcome::Fail(it) if it.error == "panic: x"));
        let long = HandlerError::snooze(Duration::MAX, "later");
        let Outcome::Snooze(snooze) = told(HandlerEnd::Returned(Err(long))) else { panic!() };
        assert_eq!(snooze.delay.unwrap().seconds, limits::DELAY_MS / 1_000);
    }

    #[test]
    fn a_stopped_handler_is_not_charged_and_finished_work_still_counts() {
        for reason in [StopReason::ShuttingDown, StopReason::LeaseLost] {
            assert!(matches!(told(retry(), Some(reason), false), Some(Outcome::Release(_))));
            assert!(matches!(told(HandlerEnd::Dropped, Some(reason), false), Some(Outcome::Release(_))));
            let done = HandlerEnd::Returned(Ok(Output::none()));
            assert!(matches!(told(done, Some(reason), false), Some(Outcome::Complete(_))));
            let bad = HandlerEnd::Returned(Err(HandlerError::permanent("bad")));
            assert!(matches!(told(bad, Some(reason), false), Some(Outcome::Fail(_))));
        }
    }

    #[test]
    fn the_server_judges_a_timeout_and_hears_nothing_of_leases_that_it_ended() {
        assert!(told(retry(), Some(StopReason::TimedOut), false).is_none());
        assert!(told(HandlerEnd::Dropped, Some(StopReason::TimedOut), false).is_none());
        let done = || HandlerEnd::Returned(Ok(Output::none()));
        assert!(told(done(), Some(StopReason::TimedOut), false).is_some());
        assert!(told(done(), Some(StopReason::Cancelled), true).is_none());
    }

    #[test]
    fn an_attempt_that_the_worker_times_out_has_failed() {
        let told = |end, void| {
            let stop = Stop::default();
            stop.because(StopReason::TimedOut);
            if void {
                stop.by_server(StopReason::TimedOut);
            }
            of(end, &stop, Some(Duration::from_mins(1)))
        };
        let Some(Outcome::Fail(fail)) = told(retry(), false) else { panic!() };
        assert_eq!(fail.error, "timed out: an attempt may take 60s on this worker (no\u{fffd}pe)");
        assert!(
            matches!(told(HandlerEnd::Dropped, false), Some(Outcome::Fail(it)) if it.error.ends_with("was dropped)"))
        );
        let bad = HandlerEnd::Returned(Err(HandlerError::permanent("bad")));
        assert!(matches!(told(bad, false), Some(Outcome::Fail(it)) if it.permanent && it.error == "bad"));
        assert!(matches!(told(HandlerEnd::Returned(Ok(Output::none())), false), Some(Outcome::Complete(_))));
        assert!(told(retry(), true).is_none());
    }
}
