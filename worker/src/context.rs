//! Context of a running job: its data, its progress reports, and the signal to stop.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use prost_types::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{job::Job, progress::Progress, proto::LeasedJob};

/// Context that a handler receives with its job. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    lease_id: String,
    job: Job,
    deadline: Option<Timestamp>,
    ends: Option<Instant>,
    /// The worker's time limit for an attempt, where it is shorter than the job's own.
    limit: Option<Duration>,
    stop: Stop,
    progress: Progress,
    has_reported: AtomicBool,
}

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

impl Context {
    /// Context of a leased job; `limit` is the worker's time limit for an attempt of it.
    pub(crate) fn new(leased: LeasedJob, limit: Option<Duration>, progress: Progress) -> Self {
        let job = leased.job.unwrap_or_default();
        // The end is counted from now by this machine's clock. The server's clock may be set differently, and decides.
        let timeout = job.attempt_timeout.and_then(|timeout| Duration::try_from(timeout).ok());
        let limit = limit.filter(|&limit| timeout.is_none_or(|timeout| limit < timeout));
        let ends = limit.or(timeout).and_then(|timeout| Instant::now().checked_add(timeout));
        Self(Arc::new(Inner {
            lease_id: leased.lease_id,
            job,
            deadline: leased.deadline,
            ends,
            limit,
            stop: Stop::default(),
            progress,
            has_reported: AtomicBool::new(false),
        }))
    }

    /// Context that belongs to no worker, for testing a handler by itself. Its progress reports are not sent.
    pub fn detached(job: Job) -> Self {
        let leased = LeasedJob { job: Some(job), ..LeasedJob::default() };
        Self::new(leased, None, Progress::default())
    }

    pub fn job(&self) -> &Job {
        &self.0.job
    }

    pub fn job_id(&self) -> &str {
        &self.0.job.id
    }

    pub fn worker_id(&self) -> &str {
        &self.0.job.worker_id
    }

    /// Task of the job; "" = none.
    pub fn task(&self) -> &str {
        &self.0.job.task
    }

    /// Payload as submitted, byte for byte.
    pub fn payload_json(&self) -> &str {
        &self.0.job.payload_json
    }

    /// Number of this attempt, from 1 up to [`Context::max_retries`].
    pub fn attempt(&self) -> u32 {
        self.0.job.attempt_count.try_into().unwrap_or(1)
    }

    /// Number of attempts that the job has in all; 0 means one.
    pub fn max_retries(&self) -> u32 {
        self.0.job.max_retries.try_into().unwrap_or(0)
    }

    /// True when a failure of this attempt makes the job a dead letter.
    pub fn is_last_attempt(&self) -> bool {
        self.attempt() >= jobqueue_shared::state::attempts_allowed(self.max_retries())
    }

    /// Time at which the server times the attempt out, by the server's clock; `None` = never.
    pub fn deadline(&self) -> Option<Timestamp> {
        self.0.deadline
    }

    /// Time that the attempt may still take; `None` = unlimited.
    pub fn remaining(&self) -> Option<Duration> {
        self.0.ends.map(|ends| ends.saturating_duration_since(Instant::now()))
    }

    /// Reports the job's progress: `fraction` from 0 to 1, `message` cut to 1 KiB. Returns at once. Of reports that
    /// come faster than one a second only the newest is sent, and a report that cannot be sent is dropped.
    pub fn progress(&self, fraction: f64, message: impl Into<String>) {
        self.0.has_reported.store(true, Ordering::Release);
        self.0.progress.report(&self.0.lease_id, fraction, message.into());
    }

    /// Completes when the handler has to stop. The handler then has a few seconds before it is dropped. Its return
    /// value counts only if the server still accepts it.
    pub async fn cancelled(&self) {
        self.0.stop.token.cancelled().await;
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.stop.token.is_cancelled()
    }

    /// Reason for the stop; `None` until there is one.
    pub fn stop_reason(&self) -> Option<StopReason> {
        self.0.stop.reason.get().copied()
    }

    /// Token for functions that take one. It is a child of the job's own token, so that cancelling it stops nothing
    /// else.
    pub fn cancellation_token(&self) -> CancellationToken {
        self.0.stop.token.child_token()
    }

    /// Cancels the job's token with `reason` as the worker would, for testing a handler.
    pub fn cancel(&self, reason: StopReason) {
        self.0.stop.because(reason);
    }

    pub(crate) fn lease_id(&self) -> &str {
        &self.0.lease_id
    }

    pub(crate) fn has_reported(&self) -> bool {
        self.0.has_reported.load(Ordering::Acquire)
    }

    pub(crate) fn stop(&self) -> &Stop {
        &self.0.stop
    }

    pub(crate) fn limit(&self) -> Option<Duration> {
        self.0.limit
    }

    pub(crate) fn ends(&self) -> Option<Instant> {
        self.0.ends
    }
}

/// Stop signal of one running job.
#[derive(Default)]
pub(crate) struct Stop {
    pub(crate) token: CancellationToken,
    reason: OnceLock<StopReason>,
    /// True when the server has said that the lease is over, so that it would refuse whatever the handler returns.
    void: AtomicBool,
}

impl Stop {
    /// Signals the stop. The first reason is kept.
    pub(crate) fn because(&self, reason: StopReason) {
        let _ = self.reason.set(reason);
        self.token.cancel();
    }

    pub(crate) fn by_server(&self, reason: StopReason) {
        self.void.store(true, Ordering::Release);
        self.because(reason);
    }

    pub(crate) fn reason(&self) -> Option<StopReason> {
        self.reason.get().copied()
    }

    pub(crate) fn is_void(&self) -> bool {
        self.void.load(Ordering::Acquire)
    }
}
