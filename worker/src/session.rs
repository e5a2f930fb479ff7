//! Session: one run of this worker as the server knows it, and the jobs that it holds.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::{
    backoff::Backoff,
    context::{Context, StopReason},
    new_job::duration,
    progress::Progress,
    proto::{EndSessionRequest, RegisterSessionRequest, StoppedLease, stopped_lease::Reason},
    runner::{Core, RunError},
    takeover,
};

pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) lease_time: Duration,
    pub(crate) heartbeat_interval: Duration,
    /// Cancelled when the server has said that the session is over. Its jobs then belong to others.
    pub(crate) ended: CancellationToken,
    /// Time until which the server keeps the leases, by this machine's monotonic clock. Counted from when the call was
    /// sent, so that the network's delay is on the safe side.
    pub(crate) kept_until: watch::Sender<Instant>,
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) progress: Progress,
    running: Mutex<HashMap<String, Context>>,
    /// Leases for which the server refused a call. The next heartbeat, which is sent at once, tells the reason.
    suspects: Mutex<Vec<String>>,
    pub(crate) beat_now: Notify,
}

impl Session {
    /// Registers a session, and repeats the call until the server answers. `None` when the worker is stopped before
    /// that.
    pub(crate) async fn register(core: &Core, takeover: bool) -> Result<Option<Self>, RunError> {
        let config = &core.config;
        let request = RegisterSessionRequest {
            worker_id: config.worker_id.clone(),
            host: config.host.clone(),
            pid: std::process::id().try_into().unwrap_or_default(),
            version: config.version.clone(),
            tasks: core.handlers.tasks(),
            slots: config.concurrency.try_into().unwrap_or(i32::MAX),
            lease_time: Some(duration(config.lease_time)),
            predecessors: Vec::new(),
        };
        let mut pauses = Backoff::for_lease(config.lease_time);
        loop {
            let asked_at = Instant::now();
            let answer = tokio::select! {
                biased;
                () = core.stopping.cancelled() => return Ok(None),
                answer = takeover::register(core, request.clone(), takeover) => answer,
            };
            match answer {
                Ok(reply) => {
                    let given = |time: Option<prost_types::Duration>| time.and_then(|it| Duration::try_from(it).ok());
                    let lease_time = given(reply.lease_time).unwrap_or(config.lease_time);
                    return Ok(Some(Self {
                        id: reply.session_id,
                        lease_time,
                        heartbeat_interval: given(reply.heartbeat_interval).unwrap_or(lease_time / 3),
                        ended: CancellationToken::new(),
                        kept_until: watch::Sender::new(asked_at + lease_time),
                        draining: watch::Sender::new(false),
                        progress: Progress::default(),
                        running: Mutex::default(),
                        suspects: Mutex::default(),
                        beat_now: Notify::new(),
                    }));
                }
                Err(status) if is_final(&status) => return Err(RunError::Refused(Box::new(status))),
                Err(_) => tokio::select! {
                    () = core.stopping.cancelled() => return Ok(None),
                    () = tokio::time::sleep(pauses.next()) => {}
                },
            }
        }
    }

    /// Ends the session, which releases the jobs that it still holds. If the server cannot be reached, the lease
    /// expires.
    pub(crate) async fn end(&self, core: &Core, limit: Duration) {
        let mut pauses = Backoff::for_lease(self.lease_time);
        let ending = async {
            while core
                .end_session(EndSessionRequest { session_id: self.id.clone() })
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

    /// Waits while the leases may have expired: outcomes that are sent then would only be refused, and the refusals
    /// would appear in the jobs' history. The next heartbeat that is answered decides.
    pub(crate) async fn wait_until_kept(&self) {
        let mut kept_until = self.kept_until.subscribe();
        while *kept_until.borrow_and_update() <= Instant::now() {
            tokio::select! {
                () = self.ended.cancelled() => return,
                _ = kept_until.changed() => {}
            }
        }
    }

    /// Adds jobs to those that can be stopped by their lease.
    pub(crate) fn begin<'a>(&self, jobs: impl Iterator<Item = &'a Context>) {
        self.running.lock().extend(jobs.map(|job| (job.lease_id().to_owned(), job.clone())));
    }

    pub(crate) fn finish(&self, context: &Context) {
        self.running.lock().remove(context.lease_id());
        if context.has_reported() {
            self.progress.forget(context.lease_id());
        }
    }

    pub(crate) fn running(&self) -> usize {
        self.running.lock().len()
    }

    /// Tasks of the jobs that the session holds.
    pub(crate) fn tasks(&self) -> BTreeSet<String> {
        self.running.lock().values().map(|job| job.task().to_owned()).collect()
    }

    /// Stops the handler of a lease that the server has ended. A lease whose job has finished needs no stop.
    pub(crate) fn stop(&self, lease_id: &str, reason: StopReason) {
        if let Some(job) = self.running.lock().get(lease_id) {
            job.stop().by_server(reason);
        }
    }

    /// Stops the handlers of the leases that the answer to a heartbeat or an acquire lists.
    pub(crate) fn stop_each(&self, leases: &[StoppedLease]) {
        for lease in leases {
            let reason = match lease.reason() {
                Reason::TimedOut => StopReason::TimedOut,
                Reason::Cancelled | Reason::Unspecified => StopReason::Cancelled,
            };
            self.stop(&lease.lease_id, reason);
        }
    }

    pub(crate) fn suspect(&self, lease_id: String) {
        self.suspects.lock().push(lease_id);
        self.beat_now.notify_one();
    }

    pub(crate) fn take_suspects(&self) -> Vec<String> {
        std::mem::take(&mut *self.suspects.lock())
    }

    /// Stops all handlers. Their leases may still be valid, so their outcomes are sent, and the server decides.
    pub(crate) fn stop_all(&self, reason: StopReason) -> usize {
        let running = self.running.lock();
        running.values().for_each(|job| job.stop().because(reason));
        running.len()
    }

    /// Stops all handlers of a session that the server has ended. Their outcomes are not sent.
    pub(crate) fn abandon(&self) -> usize {
        let running = self.running.lock();
        running.values().for_each(|job| job.stop().by_server(StopReason::LeaseLost));
        running.len()
    }
}

/// True when the server does not know the session, or has ended it.
pub(crate) fn is_over(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::NotFound)
}

/// True when registering again would get the same answer.
fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied | Code::Unauthenticated
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_that_cannot_change_end_the_worker() {
        assert!(is_final(&Status::invalid_argument("worker_id")) && is_final(&Status::unimplemented("")));
        assert!(!is_final(&Status::unavailable("")) && !is_final(&Status::internal("")));
        assert!(is_over(&Status::failed_precondition("")) && !is_over(&Status::unavailable("")));
    }
}
