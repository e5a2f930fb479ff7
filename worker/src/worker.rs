//! Life cycle of a worker: one session after another until it is told to stop.

use std::sync::Arc;

use tokio_util::task::AbortOnDropHandle;
use tonic::Status;

use crate::{
    config::Config,
    connection::status,
    handlers::by_task::Handlers,
    run::{
        execute::{self, HeldJob},
        serve::{Served, serve},
        slots::Slots,
    },
    running_worker::RunningWorker,
    sessions::register::register,
};

/// Reason why [`Worker::run`] gave up. A server that is away is no reason: it is asked until it is back.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Address(String),
    /// The server refuses this worker, and would refuse it again.
    #[error("the server refuses this worker: {}", status::describe(.0))]
    Refused(Box<Status>),
}

/// Worker, which runs jobs. See [`Worker::builder`].
pub struct Worker {
    config: Config,
    handlers: Handlers,
}

/// Guard that drops all jobs together with the worker. Queued jobs hold a reference to the [`Slots`] whose queue holds
/// them, and would leak otherwise.
struct KilledWhenDropped<'a> {
    worker: &'a RunningWorker,
    slots: &'a Slots<HeldJob>,
}

impl Drop for KilledWhenDropped<'_> {
    fn drop(&mut self) {
        self.worker.killed.cancel();
        self.slots.remove_queued(|_, _| true);
    }
}

impl Worker {
    pub(crate) fn new(config: Config, handlers: Handlers) -> Self {
        Self { config, handlers }
    }

    /// Runs jobs until `shutdown` completes. Then the worker takes no more jobs, lets running jobs finish within the
    /// grace period, cancels and releases the rest, delivers all outcomes, and returns, at most 25 s after the grace
    /// period. Dropping the future stops everything at once; the server gives the jobs to others when the lease has
    /// expired.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let slots = Slots::new(self.config.concurrency);
        let worker = RunningWorker::new(self.config, self.handlers);
        let worker = Arc::new(worker.map_err(|error| RunError::Address(error.to_string()))?);
        let _killed_when_dropped = KilledWhenDropped { worker: &worker, slots: &slots };
        let working = work(&worker, &slots);
        tokio::pin!(working);
        tokio::select! {
            result = &mut working => return result,
            () = shutdown => worker.stopping.cancel(),
        }
        working.await
    }
}

/// Serves one session after another until the worker is stopped.
async fn work(worker: &Arc<RunningWorker>, slots: &Slots<HeldJob>) -> Result<(), RunError> {
    // Later sessions of this run have no predecessors but this run's own sessions.
    let mut takeover = worker.config.takeover;
    let _releasing = AbortOnDropHandle::new(tokio::spawn({
        let (worker, slots) = (Arc::clone(worker), slots.clone());
        async move { execute::release_waiting_too_long(&worker, &slots).await }
    }));
    loop {
        let registered = register(worker, takeover).await.map_err(|status| RunError::Refused(Box::new(status)))?;
        let Some(session) = registered else { return Ok(()) };
        takeover = false;
        tracing::info!(
            server = worker.config.endpoint,
            worker_id = worker.config.worker_id,
            session_id = session.id,
            slots = worker.config.concurrency,
            tasks = worker.handlers.tasks().join(","),
            "taking jobs"
        );
        if let Served::Stopped = serve(worker, slots, Arc::new(session)).await {
            return Ok(());
        }
    }
}
