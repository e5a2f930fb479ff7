//! Stop signal of a running job, with its reason.

use std::sync::{
    OnceLock,
    atomic::{AtomicBool, Ordering},
};

use tokio_util::sync::CancellationToken;

/// Reason why a handler has to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    /// The job was cancelled.
    Cancelled,
    /// The attempt took longer than the job's `attempt_timeout` or the worker's own limit.
    TimedOut,
    /// The server has not answered for the lease time or has ended the session: it gives the job to another worker.
    LeaseLost,
    /// The worker is shutting down and its grace period is over. The job is released unfinished.
    ShuttingDown,
}

/// Stop signal of one running job.
#[derive(Default)]
pub(crate) struct Stop {
    pub(crate) token: CancellationToken,
    reason: OnceLock<StopReason>,
    /// True when the server has said that the lease is over, so that it would refuse every outcome.
    lease_is_over: AtomicBool,
}

impl Stop {
    /// Signals the stop. The first reason is kept.
    pub(crate) fn because(&self, reason: StopReason) {
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    /// Signals the stop after the server has said that the lease is over.
    pub(crate) fn by_server(&self, reason: StopReason) {
        self.lease_is_over.store(true, Ordering::Release);
        self.because(reason);
    }

    /// Reason for the stop; `None` until there is one.
    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    pub(crate) fn is_lease_over(&self) -> bool {
        self.lease_is_over.load(Ordering::Acquire)
    }
}
