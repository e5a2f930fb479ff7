//! Execution of jobs: each leased job gets its handler and a slot, runs, and has its outcome reported.

use std::{sync::Arc, time::Duration};

use jobqueue_shared::proto::v1::{
    LeasedJob,
    settlement::{Outcome, Release},
};
use tokio::time::Instant;
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    handlers::{context::Context, handler::Handler},
    report::outcome_queue::OutcomeQueue,
    run::{
        outcome,
        slots::{Permit, QueuedJob, Reservation, RunAt, Slot, Slots},
        supervise::supervise,
    },
    running_worker::RunningWorker,
    sessions::session::Session,
};

/// Maximum time that a prefetched job waits for a slot.
const QUEUE_TIME: Duration = Duration::from_millis(500);

/// Interval between checks for prefetched jobs that have waited too long.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// Jobs of one session, and what their runs need.
pub(crate) struct SessionJobs {
    pub(crate) worker: Arc<RunningWorker>,
    pub(crate) slots: Slots<HeldJob>,
    pub(crate) session: Arc<Session>,
    pub(crate) outcomes: Arc<OutcomeQueue<Permit<HeldJob>>>,
    /// Open until all jobs have finished.
    pub(crate) tracker: TaskTracker,
}

/// Job that the worker holds and has not finished.
pub(crate) struct HeldJob {
    context: Context,
    handler: Arc<dyn Handler>,
    permit: Permit<HeldJob>,
    jobs: Arc<SessionJobs>,
    /// Keeps the session's tracker open until this job is finished.
    _tracked: TaskTrackerToken,
}

impl QueuedJob for HeldJob {
    fn order(&self) -> (i32, RunAt) {
        let job = self.context.job();
        (job.priority, job.run_at.map_or((0, 0), |at| (at.seconds, at.nanos)))
    }

    fn waits_until(&self) -> Instant {
        // The server counts an attempt's time from when it leased the job, so a job may spend at most a tenth of it
        // waiting.
        Instant::now() + self.context.remaining().map_or(QUEUE_TIME, |timeout| QUEUE_TIME.min(timeout / 10))
    }
}

impl SessionJobs {
    /// Runs each job as soon as it has a slot, which it keeps until its handler has ended. Releases jobs without a
    /// handler, and jobs for which no permit is left.
    pub(crate) fn start(self: &Arc<Self>, mut reservation: Reservation<HeldJob>, leased: Vec<LeasedJob>) {
        let leased: Vec<_> = leased.into_iter().map(|leased| self.prepare(leased)).collect();
        self.session.begin(leased.iter().map(|(context, _)| context));
        let mut jobs = Vec::with_capacity(leased.len());
        for (context, handler) in leased {
            let permit = reservation.take_permit();
            let Some(handler) = handler else {
                tracing::debug!(task = context.task(), "no handler, giving the job back");
                self.end(&context, Some(Outcome::Release(Release { no_handler: true })), permit);
                continue;
            };
            let Some(permit) = permit else {
                // The server sent more jobs than were asked for.
                self.end(&context, outcome::release(context.stop()), None);
                continue;
            };
            jobs.push(HeldJob { context, handler, permit, jobs: Arc::clone(self), _tracked: self.tracker.token() });
        }
        drop(reservation);
        for (slot, held) in self.slots.start_or_queue(jobs) {
            tokio::spawn(self.worker.killed.clone().run_until_cancelled_owned(run_in_slot(slot, held)));
        }
    }

    /// Context of a leased job, and its handler if there is one.
    fn prepare(&self, leased: LeasedJob) -> (Context, Option<Arc<dyn Handler>>) {
        let job = leased.job.as_ref();
        let handler = self.worker.handlers.find(job.map_or("", |job| &job.task));
        let default = || handler.as_ref().and_then(|handler| handler.default_attempt_timeout());
        let default = if job.is_some_and(|job| job.attempt_timeout.is_some()) { None } else { default() };
        let limit = self.worker.config.attempt_timeout.into_iter().chain(default).min();
        (Context::new(leased, limit, self.session.progress.clone()), handler)
    }

    /// Removes a job from the session, and reports its outcome, if there is one to report.
    fn end(&self, context: &Context, outcome: Option<Outcome>, permit: Option<Permit<HeldJob>>) {
        self.session.finish(context);
        if let Some(outcome) = outcome {
            self.outcomes.push(context.lease_id().to_owned(), outcome, permit);
        }
    }

    /// Releases a job that was not started.
    pub(crate) fn release_unstarted(&self, lease_id: String) {
        self.outcomes.push(lease_id, Outcome::Release(Release { no_handler: false }), None);
    }
}

/// Runs a job, and then queued jobs one after another in its slot, until none is queued.
async fn run_in_slot(mut slot: Slot<HeldJob>, first: HeldJob) {
    let mut next = Some(first);
    while let Some(held) = next {
        held.run().await;
        next = slot.next_job();
        // Handlers that never yield must not starve the task that sends their outcomes.
        tokio::task::coop::consume_budget().await;
    }
}

impl HeldJob {
    /// Runs the handler of the job, and reports the outcome.
    async fn run(self) {
        if self.context.is_cancelled() {
            return self.release();
        }
        let end = supervise(&*self.handler, &self.context).await;
        let outcome = outcome::of(end, self.context.stop(), self.context.limit());
        self.jobs.end(&self.context, outcome, Some(self.permit));
    }

    /// Releases a job that was not started.
    fn release(self) {
        self.jobs.end(&self.context, outcome::release(self.context.stop()), Some(self.permit));
    }
}

/// Releases prefetched jobs that should wait no longer: they were stopped, the worker stops, or they have waited too
/// long while other workers may be free. Runs until it is dropped.
pub(crate) async fn release_waiting_too_long(worker: &RunningWorker, slots: &Slots<HeldJob>) {
    loop {
        slots.wait_for_queued_job().await;
        tokio::select! {
            () = worker.stopping.cancelled(), if !worker.stopping.is_cancelled() => {}
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
        let (stopping, now) = (worker.stopping.is_cancelled(), Instant::now());
        let over = |until: Instant, held: &HeldJob| stopping || until <= now || held.context.is_cancelled();
        slots.remove_queued(over).into_iter().for_each(HeldJob::release);
    }
}
