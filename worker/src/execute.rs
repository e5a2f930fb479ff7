//! Runs one job, and decides what to tell the server about how it went.

use std::{any::Any, sync::Arc, time::Duration};

use jobqueue_shared::limits;
use tokio::task::JoinError;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{
    context::{Context, Stop, StopReason},
    handler::{Handler, HandlerError, HandlerResult, Kind, Output, clean},
    new_job::duration,
    proto::{
        LeasedJob,
        settlement::{Complete, Fail, Outcome, Release, Snooze},
    },
    runner::Core,
    session::Session,
    settle::Settling,
    slots::{Place, Slot},
};

/// How long a handler that was told to stop may take before it is dropped. Longer than the 5 s between SIGTERM and
/// SIGKILL that a command gets.
pub(crate) const STOPPING: Duration = Duration::from_secs(7);

/// How long a job that is held ready may wait for a slot.
const PATIENCE: Duration = Duration::from_millis(500);

/// The jobs of one session.
#[derive(Clone)]
pub(crate) struct Jobs {
    pub(crate) core: Arc<Core>,
    pub(crate) session: Arc<Session>,
    pub(crate) settling: Settling,
    pub(crate) tracker: TaskTracker,
}

/// How a handler ended.
enum Ended {
    Returned(HandlerResult),
    Panicked(String),
    /// Told to stop, it went on, and was dropped.
    Dropped,
}

impl Jobs {
    /// Runs it in a task of its own as soon as there is a slot, which it holds until its handler has ended.
    pub(crate) fn start(&self, job: LeasedJob) {
        let (jobs, place) = (self.clone(), self.core.slots.hold());
        let killed = self.core.killed.clone();
        self.tracker.spawn(async move { killed.run_until_cancelled_owned(jobs.run(job, place)).await });
    }

    /// Gives a job back unstarted.
    pub(crate) async fn give_back(&self, lease_id: String) {
        self.settling.send(lease_id, Outcome::Release(Release { no_handler: false })).await;
    }

    async fn run(self, leased: LeasedJob, place: Place) {
        let lease_id = leased.lease_id.clone();
        let task = leased.job.as_ref().map(|job| job.task.clone()).unwrap_or_default();
        let Some(handler) = self.core.handlers.find(&task) else {
            tracing::debug!(task, "no handler, giving the job back");
            self.settling.send(lease_id, Outcome::Release(Release { no_handler: true })).await;
            return;
        };
        let stop = self.session.begin(&lease_id);
        let Some(slot) = self.slot(&leased, &stop).await else {
            self.session.finish(&lease_id);
            if !stop.is_void() {
                self.give_back(lease_id).await;
            }
            return;
        };
        let context = Context::new(leased, Arc::clone(&stop), self.session.progress.clone());
        let mut running = spawn(handler, context.clone());
        let ended = self.supervise(&mut running, &context, &stop).await;
        self.session.finish(&lease_id);
        if let Some(outcome) = outcome(ended, stop.reason(), stop.is_void()) {
            self.settling.send(lease_id, outcome).await;
        }
        if !running.is_finished() {
            // It blocks its thread: the slot is not free before it yields.
            running.abort();
            let _ = running.await;
        }
        drop((slot, place));
    }

    /// The slot for a job that is held ready; none when it had better go back: it was stopped, the worker stops, or it
    /// has waited too long while others may be free.
    async fn slot(&self, leased: &LeasedJob, stop: &Stop) -> Option<Slot> {
        let slots = &self.core.slots;
        if let Some(slot) = slots.try_take() {
            return Some(slot);
        }
        let timeout = leased.job.as_ref().and_then(|job| job.attempt_timeout);
        let timeout = timeout.and_then(|timeout| Duration::try_from(timeout).ok());
        // The server counts an attempt's time from when it handed the job out.
        let patience = timeout.map_or(PATIENCE, |timeout| PATIENCE.min(timeout / 10));
        tokio::select! {
            biased;
            () = stop.token.cancelled() => None,
            () = self.core.stopping.cancelled() => None,
            slot = slots.take() => Some(slot),
            () = tokio::time::sleep(patience) => None,
        }
    }

    async fn supervise(&self, running: &mut AbortOnDropHandle<HandlerResult>, context: &Context, stop: &Stop) -> Ended {
        let time_is_up = async {
            match context.ends() {
                Some(ends) => tokio::time::sleep_until(ends).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            ended = &mut *running => return returned(ended),
            () = stop.token.cancelled() => {}
            () = time_is_up => stop.because(StopReason::TimedOut),
        }
        if let Ok(ended) = tokio::time::timeout(STOPPING, &mut *running).await {
            return returned(ended);
        }
        running.abort();
        Ended::Dropped
    }
}

/// In a task of its own, so that a panic ends the job and not the worker.
fn spawn(handler: Arc<dyn Handler>, context: Context) -> AbortOnDropHandle<HandlerResult> {
    AbortOnDropHandle::new(tokio::spawn(async move { handler.handle(context).await }))
}

fn returned(ended: Result<HandlerResult, JoinError>) -> Ended {
    match ended {
        Ok(result) => Ended::Returned(result),
        Err(error) => match error.try_into_panic() {
            Ok(payload) => Ended::Panicked(panic_text(payload.as_ref())),
            Err(_) => Ended::Dropped,
        },
    }
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("(no text)"))
}

/// What to tell the server; `None` = nothing, for it knows already or is about to.
fn outcome(ended: Ended, stopped: Option<StopReason>, void: bool) -> Option<Outcome> {
    if void {
        return None;
    }
    let release = Some(Outcome::Release(Release { no_handler: false }));
    match (ended, stopped) {
        // Finished work counts, however late: the server judges whether the lease still does.
        (Ended::Returned(Ok(output)), _) => Some(complete(output)),
        // The server ends the attempt by its own clock, and says "timed out" rather than what came of being stopped.
        (_, Some(StopReason::TimedOut)) => None,
        // A verdict on the job itself, which being stopped does not explain.
        (Ended::Returned(Err(error)), _) if !matches!(error.kind, Kind::Retry { .. }) => Some(failed(error)),
        (_, Some(_)) | (Ended::Dropped, None) => release,
        (Ended::Returned(Err(error)), None) => Some(failed(error)),
        (Ended::Panicked(text), None) => Some(failed(HandlerError::retry(text))),
    }
}

fn complete(output: Output) -> Outcome {
    Outcome::Complete(Complete { result_json: output.result_json, note: output.note })
}

fn failed(error: HandlerError) -> Outcome {
    let longest = Duration::from_millis(limits::DELAY_MS as u64);
    let text = |max| clean(error.message, max);
    match error.kind {
        Kind::Retry { after } => Outcome::Fail(Fail {
            error: text(limits::ERROR),
            permanent: false,
            retry_after: after.map(|after| duration(after.min(longest))),
        }),
        Kind::Permanent => Outcome::Fail(Fail { error: text(limits::ERROR), permanent: true, retry_after: None }),
        Kind::Snooze { delay } => {
            Outcome::Snooze(Snooze { delay: Some(duration(delay.min(longest))), reason: text(limits::NOTE) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry() -> Ended {
        Ended::Returned(Err(HandlerError::retry("no\0pe")))
    }

    #[test]
    fn a_handler_that_was_not_stopped_is_taken_at_its_word() {
        let told = |ended| outcome(ended, None, false).unwrap();
        assert!(matches!(told(Ended::Returned(Ok(Output::json("1")))), Outcome::Complete(it) if it.result_json == "1"));
        assert!(matches!(told(retry()), Outcome::Fail(it) if it.error == "no\u{fffd}pe" && !it.permanent));
        let panicked = returned(Ok(Err(HandlerError::permanent("bad"))));
        assert!(matches!(told(panicked), Outcome::Fail(it) if it.permanent));
        assert!(matches!(told(Ended::Panicked("panic: x".into())), Outcome::Fail(it) if it.error == "panic: x"));
        let long = HandlerError::snooze(Duration::MAX, "later");
        let Outcome::Snooze(snooze) = told(Ended::Returned(Err(long))) else { panic!() };
        assert_eq!(snooze.delay.unwrap().seconds, limits::DELAY_MS / 1_000);
    }

    #[test]
    fn a_stopped_handler_is_not_charged_and_finished_work_still_counts() {
        for reason in [StopReason::ShuttingDown, StopReason::LeaseLost] {
            assert!(matches!(outcome(retry(), Some(reason), false), Some(Outcome::Release(_))));
            assert!(matches!(outcome(Ended::Dropped, Some(reason), false), Some(Outcome::Release(_))));
            let done = Ended::Returned(Ok(Output::none()));
            assert!(matches!(outcome(done, Some(reason), false), Some(Outcome::Complete(_))));
            let bad = Ended::Returned(Err(HandlerError::permanent("bad")));
            assert!(matches!(outcome(bad, Some(reason), false), Some(Outcome::Fail(_))));
        }
    }

    #[test]
    fn the_server_judges_a_timeout_and_hears_nothing_of_leases_that_it_ended() {
        assert!(outcome(retry(), Some(StopReason::TimedOut), false).is_none());
        assert!(outcome(Ended::Dropped, Some(StopReason::TimedOut), false).is_none());
        let done = || Ended::Returned(Ok(Output::none()));
        assert!(outcome(done(), Some(StopReason::TimedOut), false).is_some());
        assert!(outcome(done(), Some(StopReason::Cancelled), true).is_none());
    }

    #[tokio::test]
    async fn a_panic_is_caught_with_its_text() {
        struct Panics;
        #[async_trait::async_trait]
        impl Handler for Panics {
            async fn handle(&self, context: Context) -> HandlerResult {
                panic!("attempt {}", context.attempt());
            }
        }
        let job = crate::Job { attempt_count: 2, ..crate::Job::default() };
        let ended = returned(spawn(Arc::new(Panics), Context::detached(job)).await);
        assert!(matches!(ended, Ended::Panicked(text) if text == "panic: attempt 2"));
        assert_eq!(panic_text(&7), "panic: (no text)");
    }
}
