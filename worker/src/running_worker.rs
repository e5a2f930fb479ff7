//! State that all parts of a running worker share, from the start of the worker to its end.

use tokio_util::sync::CancellationToken;

use crate::{
    config::Config,
    connection::{address::BadServer, worker_calls::WorkerCalls},
    handlers::by_task::Handlers,
};

/// State of a running worker.
pub(crate) struct RunningWorker {
    pub(crate) config: Config,
    pub(crate) handlers: Handlers,
    pub(crate) calls: WorkerCalls,
    /// Cancelled when the worker must take no more jobs.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when all running jobs must be dropped at once.
    pub(crate) killed: CancellationToken,
}

impl RunningWorker {
    pub(crate) fn new(config: Config, handlers: Handlers) -> Result<Self, BadServer> {
        let calls = WorkerCalls::new(&config.endpoint, &config.tls, config.lease_time)?;
        Ok(Self { config, handlers, calls, stopping: CancellationToken::new(), killed: CancellationToken::new() })
    }
}
