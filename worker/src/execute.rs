//! Runs jobs with their handlers, and decides which outcome to report to the server.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    time::Duration,
};

use jobqueue_shared::limits;
use tokio::time::Instant;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

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
    settle::Outcomes,
    slots::{Due, Place, Queued, Room, Slot},
};

/// Time that a handler has to return after it was told to stop, before it is dropped. Longer than the 5 s between
/// SIGTERM and SIGKILL that a command gets.
pub(crate) const STOPPING: Duration = Duration::from_secs(7);

/// Maximum time that a prefetched job waits for a slot.
const PATIENCE: Duration = Duration::from_millis(500);

/// Interval between checks for prefetched jobs that have waited too long.
const LOOK: Duration = Duration::from_millis(50);

/// State that the jobs of one session share.
pub(crate) struct Jobs {
    pub(crate) core: Arc<Core>,
    pub(crate) session: Arc<Session>,
    pub(crate) outcomes: Arc<Outcomes<Place<HeldJob>>>,
    pub(crate) tracker: TaskTracker,
}

/// Job that the worker holds and has not finished.
pub(crate) struct HeldJob {
    context: Context,
    handler: Arc<dyn Handler>,
    place: Place<HeldJob>,
    jobs: Arc<Jobs>,
    /// Keeps the session's tracker open until this job is finished.
    _tracked: TaskTrackerToken,
}

impl Queued for HeldJob {
    fn turn(&self) -> (i32, Due) {
        let job = self.context.job();
        (job.priority, job.run_at.map_or((0, 0), |at| (at.seconds, at.nanos)))
    }

    fn until(&self) -> Instant {
        // The server counts an attempt's time from when it leased the job, so a job may spend at most a tenth of it
        // waiting.
        Instant::now() + self.context.remaining().map_or(PATIENCE, |timeout| PATIENCE.min(timeout / 10))
    }
}

/// End of a handler's run.
enum Ended {
    Returned(HandlerResult),
    Panicked(String),
    /// The handler went on after it was told to stop, and was dropped.
    Dropped,
}

impl Jobs {
    /// Runs each job as soon as it has a slot, which it keeps until its handler has ended. Releases jobs without a
    /// handler, and jobs for which there is no room.
    pub(crate) fn start(self: &Arc<Self>, mut room: Room<HeldJob>, leased: Vec<LeasedJob>) {
        let begun: Vec<_> = leased.into_iter().map(|leased| self.job(leased)).collect();
        self.session.begin(begun.iter().map(|(context, _)| context));
        let mut jobs = Vec::with_capacity(begun.len());
        for (context, handler) in begun {
            let place = room.one();
            let Some(handler) = handler else {
                tracing::debug!(task = context.task(), "no handler, giving the job back");
                self.end(&context, Some(Outcome::Release(Release { no_handler: true })), place);
                continue;
            };
            let Some(place) = place else {
                // The server sent more jobs than were asked for.
                self.end(&context, release(context.stop()), None);
                continue;
            };
            jobs.push(HeldJob { context, handler, place, jobs: Arc::clone(self), _tracked: self.tracker.token() });
        }
        drop(room);
        for (slot, held) in self.core.slots.take(jobs) {
            tokio::spawn(self.core.killed.clone().run_until_cancelled_owned(run(slot, held)));
        }
    }

    fn job(&self, leased: LeasedJob) -> (Context, Option<Arc<dyn Handler>>) {
        let job = leased.job.as_ref();
        let handler = self.core.handlers.find(job.map_or("", |job| &job.task));
        let default = || handler.as_ref().and_then(|handler| handler.default_attempt_timeout());
        let default = if job.is_some_and(|job| job.attempt_timeout.is_some()) { None } else { default() };
        let limit = self.core.config.attempt_timeout.into_iter().chain(default).min();
        (Context::new(leased, limit, self.session.progress.clone()), handler)
    }

    fn end(&self, context: &Context, outcome: Option<Outcome>, place: Option<Place<HeldJob>>) {
        self.session.finish(context);
        if let Some(outcome) = outcome {
            self.outcomes.push(context.lease_id().to_owned(), outcome, place);
        }
    }

    /// Releases a job that was not started.
    pub(crate) fn give_back(&self, lease_id: String) {
        self.outcomes.push(lease_id, Outcome::Release(Release { no_handler: false }), None);
    }
}

/// Runs a job, and then the jobs that wait for its slot.
async fn run(mut slot: Slot<HeldJob>, first: HeldJob) {
    let mut next = Some(first);
    while let Some(held) = next {
        held.run().await;
        next = slot.next();
        // Handlers that never yield must not starve the task that sends their outcomes.
        tokio::task::coop::consume_budget().await;
    }
}

impl HeldJob {
    async fn run(self) {
        if self.context.is_cancelled() {
            return self.give_back();
        }
        let ended = supervise(&*self.handler, &self.context).await;
        let outcome = outcome(ended, self.context.stop(), self.context.limit());
        self.jobs.end(&self.context, outcome, Some(self.place));
    }

    fn give_back(self) {
        self.jobs.end(&self.context, release(self.context.stop()), Some(self.place));
    }
}

/// Releases prefetched jobs that should wait no longer: they were stopped, the worker stops, or they have waited too
/// long while other workers may be free. Runs until it is dropped.
pub(crate) async fn release_waiting_too_long(core: &Core) {
    loop {
        core.slots.waits().await;
        tokio::select! {
            () = core.stopping.cancelled(), if !core.stopping.is_cancelled() => {}
            () = tokio::time::sleep(LOOK) => {}
        }
        let (stopping, now) = (core.stopping.is_cancelled(), Instant::now());
        let over = |until: Instant, held: &HeldJob| stopping || until <= now || held.context.is_cancelled();
        core.slots.give_up(over).into_iter().for_each(HeldJob::give_back);
    }
}

/// Runs a handler to its end, or until it has been told to stop and [`STOPPING`] has passed. A handler that blocks its
/// thread keeps its slot until it yields.
async fn supervise(handler: &dyn Handler, context: &Context) -> Ended {
    let mut handling = handler.handle(context.clone());
    // A panic ends the attempt and not the worker.
    let mut ended =
        std::future::poll_fn(|task| match catch_unwind(AssertUnwindSafe(|| handling.as_mut().poll(task))) {
            Ok(polled) => polled.map(Ended::Returned),
            Err(payload) => Poll::Ready(Ended::Panicked(panic_text(payload.as_ref()))),
        });
    let time_is_up = async {
        match context.ends() {
            Some(ends) => tokio::time::sleep_until(ends).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        biased;
        ended = &mut ended => ended,
        reason = async {
            tokio::select! {
                () = context.cancelled() => None,
                () = time_is_up => Some(StopReason::TimedOut),
            }
        } => {
            if let Some(reason) = reason {
                context.stop().because(reason);
            }
            tokio::time::timeout(STOPPING, &mut ended).await.unwrap_or(Ended::Dropped)
        }
    };
    // Dropping the handler's future may panic as well.
    let _ = catch_unwind(AssertUnwindSafe(|| drop(handling)));
    ended
}

fn panic_text(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    format!("panic: {}", text.unwrap_or("(no text)"))
}

/// Outcome that releases a job; `None` when the server has ended its lease.
fn release(stop: &Stop) -> Option<Outcome> {
    (!stop.is_void()).then_some(Outcome::Release(Release { no_handler: false }))
}

/// Outcome to report to the server; `None` when the server knows it already or is about to. `limit` is the worker's own
/// time limit, where that is the one that times the attempt out.
fn outcome(ended: Ended, stop: &Stop, limit: Option<Duration>) -> Option<Outcome> {
    if stop.is_void() {
        return None;
    }
    match (ended, stop.reason()) {
        // Completed work is reported, however late: the server decides whether the lease is still valid.
        (Ended::Returned(Ok(output)), _) => Some(complete(output)),
        (ended, Some(StopReason::TimedOut)) if limit.is_some() => Some(timed_out(ended, limit.unwrap_or_default())),
        // The server ends the attempt by its own clock, and records "timed out" rather than the error of a stopped
        // handler.
        (_, Some(StopReason::TimedOut)) => None,
        // A permanent failure or a snooze is about the job itself, and not a consequence of the stop.
        (Ended::Returned(Err(error)), _) if !matches!(error.kind, Kind::Retry { .. }) => Some(failed(error)),
        (_, Some(_)) | (Ended::Dropped, None) => release(stop),
        (Ended::Returned(Err(error)), None) => Some(failed(error)),
        (Ended::Panicked(text), None) => Some(failed(HandlerError::retry(text))),
    }
}

/// Outcome of an attempt that has reached the worker's limit, which the server does not know: a permanent failure or a
/// snooze that the handler returned, or else a failure that names the limit.
fn timed_out(ended: Ended, limit: Duration) -> Outcome {
    let said = match ended {
        Ended::Returned(Err(error)) if !matches!(error.kind, Kind::Retry { .. }) => return failed(error),
        Ended::Returned(Err(error)) => error.message,
        Ended::Panicked(text) => text,
        Ended::Returned(Ok(_)) | Ended::Dropped => "the handler did not stop and was dropped".to_owned(),
    };
    failed(HandlerError::retry(format!("timed out: an attempt may take {limit:?} on this worker ({said})")))
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

    fn told(ended: Ended, stopped: Option<StopReason>, void: bool) -> Option<Outcome> {
        let stop = Stop::default();
        if let Some(reason) = stopped {
            if void { stop.by_server(reason) } else { stop.because(reason) }
        }
        outcome(ended, &stop, None)
    }

    fn retry() -> Ended {
        Ended::Returned(Err(HandlerError::retry("no\0pe")))
    }

    #[test]
    fn a_handler_that_was_not_stopped_is_taken_at_its_word() {
        let told = |ended| told(ended, None, false).unwrap();
        assert!(matches!(told(Ended::Returned(Ok(Output::json("1")))), Outcome::Complete(it) if it.result_json == "1"));
        assert!(matches!(told(retry()), Outcome::Fail(it) if it.error == "no\u{fffd}pe" && !it.permanent));
        let bad = Ended::Returned(Err(HandlerError::permanent("bad")));
        assert!(matches!(told(bad), Outcome::Fail(it) if it.permanent));
        assert!(matches!(told(Ended::Panicked("panic: x".into())), Outcome::Fail(it) if it.error == "panic: x"));
        let long = HandlerError::snooze(Duration::MAX, "later");
        let Outcome::Snooze(snooze) = told(Ended::Returned(Err(long))) else { panic!() };
        assert_eq!(snooze.delay.unwrap().seconds, limits::DELAY_MS / 1_000);
    }

    #[test]
    fn a_stopped_handler_is_not_charged_and_finished_work_still_counts() {
        for reason in [StopReason::ShuttingDown, StopReason::LeaseLost] {
            assert!(matches!(told(retry(), Some(reason), false), Some(Outcome::Release(_))));
            assert!(matches!(told(Ended::Dropped, Some(reason), false), Some(Outcome::Release(_))));
            let done = Ended::Returned(Ok(Output::none()));
            assert!(matches!(told(done, Some(reason), false), Some(Outcome::Complete(_))));
            let bad = Ended::Returned(Err(HandlerError::permanent("bad")));
            assert!(matches!(told(bad, Some(reason), false), Some(Outcome::Fail(_))));
        }
    }

    #[test]
    fn the_server_judges_a_timeout_and_hears_nothing_of_leases_that_it_ended() {
        assert!(told(retry(), Some(StopReason::TimedOut), false).is_none());
        assert!(told(Ended::Dropped, Some(StopReason::TimedOut), false).is_none());
        let done = || Ended::Returned(Ok(Output::none()));
        assert!(told(done(), Some(StopReason::TimedOut), false).is_some());
        assert!(told(done(), Some(StopReason::Cancelled), true).is_none());
    }

    #[test]
    fn an_attempt_that_the_worker_times_out_has_failed() {
        let told = |ended, void| {
            let stop = Stop::default();
            stop.because(StopReason::TimedOut);
            if void {
                stop.by_server(StopReason::TimedOut);
            }
            outcome(ended, &stop, Some(Duration::from_mins(1)))
        };
        let Some(Outcome::Fail(fail)) = told(retry(), false) else { panic!() };
        assert_eq!(fail.error, "timed out: an attempt may take 60s on this worker (no\u{fffd}pe)");
        assert!(matches!(told(Ended::Dropped, false), Some(Outcome::Fail(it)) if it.error.ends_with("was dropped)")));
        let bad = Ended::Returned(Err(HandlerError::permanent("bad")));
        assert!(matches!(told(bad, false), Some(Outcome::Fail(it)) if it.permanent && it.error == "bad"));
        assert!(matches!(told(Ended::Returned(Ok(Output::none())), false), Some(Outcome::Complete(_))));
        assert!(told(retry(), true).is_none());
    }

    #[test]
    fn the_shorter_of_two_limits_counts() {
        let seconds = Duration::from_secs;
        let ends = |own: Option<Duration>, limit| {
            let job = crate::Job { attempt_timeout: own.map(duration), ..crate::Job::default() };
            let leased = LeasedJob { job: Some(job), ..LeasedJob::default() };
            let context = Context::new(leased, limit, crate::progress::Progress::default());
            (context.remaining().map(|left| left.as_secs_f64().round() as u64), context.limit())
        };
        assert_eq!(ends(None, None), (None, None));
        assert_eq!(ends(Some(seconds(500)), None), (Some(500), None));
        assert_eq!(ends(None, Some(seconds(900))), (Some(900), Some(seconds(900))));
        assert_eq!(ends(Some(seconds(500)), Some(seconds(900))), (Some(500), None));
        assert_eq!(ends(Some(seconds(900)), Some(seconds(500))), (Some(500), Some(seconds(500))));
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
        let ended = supervise(&Panics, &Context::detached(job)).await;
        assert!(matches!(ended, Ended::Panicked(text) if text == "panic: attempt 2"));
        assert_eq!(panic_text(&7), "panic: (no text)");
    }
}
