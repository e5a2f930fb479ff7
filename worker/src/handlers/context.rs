//! Context of a running job: its data, its progress reports, and the signal to stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jobqueue_shared::proto::v1::{Job, LeasedJob};
use prost_types::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::handlers::{
    progress::ProgressReports,
    stop::{Stop, StopReason},
};

/// Context that a handler receives with its job. Cheap to clone.
#[derive(Clone)]
pub struct Context(Arc<Inner>);

struct Inner {
    lease_id: String,
    job: Job,
    /// End of the attempt by the server's clock, which decides.
    deadline: Option<Timestamp>,
    /// End of the attempt by this machine's clock; `None` = unlimited.
    ends: Option<Instant>,
    /// The worker's time limit for the attempt, if the job has none or a longer one.
    limit: Option<Duration>,
    stop: Stop,
    progress: ProgressReports,
    has_reported: AtomicBool,
}

impl Context {
    /// Context of a leased job; `limit` is the worker's time limit for an attempt of it.
    pub(crate) fn new(leased: LeasedJob, limit: Option<Duration>, progress: ProgressReports) -> Self {
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
        Self::new(leased, None, ProgressReports::default())
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
        self.0.stop.reason()
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

    /// The worker's time limit for the attempt; `None` when the job's own limit applies, or none.
    pub(crate) fn limit(&self) -> Option<Duration> {
        self.0.limit
    }

    pub(crate) fn ends(&self) -> Option<Instant> {
        self.0.ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields;

    #[test]
    fn the_shorter_of_two_limits_counts() {
        let seconds = Duration::from_secs;
        let ends = |own: Option<Duration>, limit| {
            let job = Job { attempt_timeout: own.map(fields::duration), ..Job::default() };
            let leased = LeasedJob { job: Some(job), ..LeasedJob::default() };
            let context = Context::new(leased, limit, ProgressReports::default());
            (context.remaining().map(|left| left.as_secs_f64().round() as u64), context.limit())
        };
        assert_eq!(ends(None, None), (None, None));
        assert_eq!(ends(Some(seconds(500)), None), (Some(500), None));
        assert_eq!(ends(None, Some(seconds(900))), (Some(900), Some(seconds(900))));
        assert_eq!(ends(Some(seconds(500)), Some(seconds(900))), (Some(500), None));
        assert_eq!(ends(Some(seconds(900)), Some(seconds(500))), (Some(500), Some(seconds(500))));
    }
}
