//! Session: one run of this worker as the server knows it, and the jobs that it holds.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use jobqueue_shared::proto::v1::{EndSessionRequest, RegisterSessionResponse, StoppedLease, stopped_lease::Reason};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    connection::{backoff::Backoff, worker_calls::WorkerCalls},
    handlers::{context::Context, progress::ProgressReports, stop::StopReason},
};

/// Session that the server has registered.
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) lease_time: Duration,
    pub(crate) heartbeat_interval: Duration,
    /// Cancelled when the server has said that the session is over. Its jobs then belong to others.
    pub(crate) ended: CancellationToken,
    /// Time until which the server keeps the leases, by this machine's monotonic clock. Counted from when the call was
    /// sent, so that the network's delay is on the safe side.
    pub(crate) leased_until: watch::Sender<Instant>,
    /// True once the worker takes no more jobs.
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) progress: ProgressReports,
    /// Jobs that run or wait for a slot, by lease id.
    held: Mutex<HashMap<String, Context>>,
    /// Leases for which the server refused a call. The answer to the next heartbeat tells the reason.
    suspects: Mutex<Vec<String>>,
    /// Notified to send the next heartbeat at once.
    pub(crate) beat_now: Notify,
}

impl Session {
    /// Session that the server has registered, in answer to a request of `asked_at`. `wanted` is the lease time that
    /// was asked for.
    pub(crate) fn new(reply: RegisterSessionResponse, wanted: Duration, asked_at: Instant) -> Self {
        let given = |time: Option<prost_types::Duration>| time.and_then(|it| Duration::try_from(it).ok());
        let lease_time = given(reply.lease_time).unwrap_or(wanted);
        Self {
            id: reply.session_id,
            lease_time,
            heartbeat_interval: given(reply.heartbeat_interval).unwrap_or(lease_time / 3),
            ended: CancellationToken::new(),
            leased_until: watch::Sender::new(asked_at + lease_time),
            draining: watch::Sender::new(false),
            progress: ProgressReports::default(),
            held: Mutex::default(),
            suspects: Mutex::default(),
            beat_now: Notify::new(),
        }
    }

    /// Ends the session, which releases the jobs that it still holds. If the server cannot be reached within `limit`,
    /// the lease expires.
    pub(crate) async fn end(&self, calls: &WorkerCalls, limit: Duration) {
        let mut pauses = Backoff::for_lease(self.lease_time);
        let ending = async {
            while calls
                .end_session(EndSessionRequest { session_id: self.id.clone() }, limit)
                .await
                .is_err_and(|it| !is_over(&it))
            {
                tokio::time::sleep(pauses.next()).await;
            }
        };
        if tokio::time::timeout(limit, ending).await.is_err() {
            tracing::warn!(
                session_id = self.id,
                "the server did not hear that the session has ended; its lease runs out"
            );
        }
    }

    /// Waits while the leases may have expired: the server would refuse outcomes that are sent then, and record each
    /// refusal in the history of its job. The next heartbeat that is answered decides.
    pub(crate) async fn wait_until_leased(&self) {
        let mut leased_until = self.leased_until.subscribe();
        while *leased_until.borrow_and_update() <= Instant::now() {
            tokio::select! {
                () = self.ended.cancelled() => return,
                _ = leased_until.changed() => {}
            }
        }
    }

    /// Adds jobs to those that can be stopped by their lease.
    pub(crate) fn begin<'a>(&self, jobs: impl Iterator<Item = &'a Context>) {
        self.held.lock().extend(jobs.map(|job| (job.lease_id().to_owned(), job.clone())));
    }

    /// Removes a job that has ended.
    pub(crate) fn finish(&self, context: &Context) {
        self.held.lock().remove(context.lease_id());
        if context.has_reported() {
            self.progress.forget(context.lease_id());
        }
    }

    /// Number of jobs that the session holds.
    pub(crate) fn held(&self) -> usize {
        self.held.lock().len()
    }

    /// Tasks of the jobs that the session holds.
    pub(crate) fn tasks(&self) -> BTreeSet<String> {
        self.held.lock().values().map(|job| job.task().to_owned()).collect()
    }

    /// Stops the handler of a lease that the server has ended. A lease whose job has finished needs no stop.
    pub(crate) fn stop(&self, lease_id: &str, reason: StopReason) {
        if let Some(job) = self.held.lock().get(lease_id) {
            job.stop().by_server(reason);
        }
    }

    /// Stops the handlers of the leases that the answer to a heartbeat or to an acquire lists.
    pub(crate) fn stop_each(&self, leases: &[StoppedLease]) {
        for lease in leases {
            let reason = match lease.reason() {
                Reason::TimedOut => StopReason::TimedOut,
                Reason::Cancelled | Reason::Unspecified => StopReason::Cancelled,
            };
            self.stop(&lease.lease_id, reason);
        }
    }

    /// Notes that the server refused a call for a lease, and asks for a heartbeat at once.
    pub(crate) fn suspect(&self, lease_id: String) {
        self.suspects.lock().push(lease_id);
        self.beat_now.notify_one();
    }

    /// Removes the leases that were noted by [`Session::suspect`].
    pub(crate) fn take_suspects(&self) -> Vec<String> {
        std::mem::take(&mut *self.suspects.lock())
    }

    /// Stops all handlers. Their leases may still be valid, so their outcomes are sent, and the server decides.
    pub(crate) fn stop_all(&self, reason: StopReason) -> usize {
        let held = self.held.lock();
        held.values().for_each(|job| job.stop().because(reason));
        held.len()
    }

    /// Stops all handlers of a session that the server has ended. Their outcomes are not sent.
    pub(crate) fn abandon(&self) -> usize {
        let held = self.held.lock();
        held.values().for_each(|job| job.stop().by_server(StopReason::LeaseLost));
        held.len()
    }
}

/// True when the server does not know the session, or has ended it.
pub(crate) fn is_over(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::NotFound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_answer_about_the_session_ends_it() {
        assert!(is_over(&Status::failed_precondition("")) && !is_over(&Status::unavailable("")));
    }
}
