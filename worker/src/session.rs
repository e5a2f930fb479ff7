//! One run of this worker as the server knows it, and the jobs that it holds.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
    time::Duration,
};

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
    /// The server has said that the session is over. What it held belongs to others.
    pub(crate) ended: CancellationToken,
    /// Until when the server keeps the leases, by this machine's monotonic clock and with the trip not counted.
    pub(crate) kept_until: watch::Sender<Instant>,
    pub(crate) draining: watch::Sender<bool>,
    pub(crate) progress: Progress,
    running: Mutex<HashMap<String, Context>>,
    /// Leases that the server refused something for. The next heartbeat, which is due at once, says why.
    suspects: Mutex<Vec<String>>,
    pub(crate) beat_now: Notify,
}

impl Session {
    /// Asks until the server answers. `None` when the worker is stopped before that.
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

    /// Gives back whatever is still held. Not getting through is no harm: the lease runs out.
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

    /// Waits while the leases may be over: what is said of them then would only be refused, and stand in the jobs'
    /// history. The next heartbeat that is answered tells.
    pub(crate) async fn is_kept(&self) {
        let mut kept_until = self.kept_until.subscribe();
        while *kept_until.borrow_and_update() <= Instant::now() {
            tokio::select! {
                () = self.ended.cancelled() => return,
                _ = kept_until.changed() => {}
            }
        }
    }

    /// From now on each job can be stopped by its lease.
    pub(crate) fn begin<'a>(&self, jobs: impl Iterator<Item = &'a Context>) {
        self.lock().extend(jobs.map(|job| (job.lease_id().to_owned(), job.clone())));
    }

    pub(crate) fn finish(&self, context: &Context) {
        self.lock().remove(context.lease_id());
        if context.has_reported() {
            self.progress.forget(context.lease_id());
        }
    }

    pub(crate) fn running(&self) -> usize {
        self.lock().len()
    }

    /// The tasks of the jobs that it holds.
    pub(crate) fn tasks(&self) -> BTreeSet<String> {
        self.lock().values().map(|job| job.task().to_owned()).collect()
    }

    /// The server says that this lease is over. One that is no longer running needs no stop.
    pub(crate) fn stop(&self, lease_id: &str, reason: StopReason) {
        if let Some(job) = self.lock().get(lease_id) {
            job.stop().by_server(reason);
        }
    }

    /// What a heartbeat or an acquire says is over.
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
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).push(lease_id);
        self.beat_now.notify_one();
    }

    pub(crate) fn take_suspects(&self) -> Vec<String> {
        std::mem::take(&mut *self.suspects.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The leases may still count: what handlers return is sent, and the server judges.
    pub(crate) fn stop_all(&self, reason: StopReason) -> usize {
        let running = self.lock();
        running.values().for_each(|job| job.stop().because(reason));
        running.len()
    }

    /// The session is over for the server too: nothing that handlers return is sent.
    pub(crate) fn abandon(&self) -> usize {
        let running = self.lock();
        running.values().for_each(|job| job.stop().by_server(StopReason::LeaseLost));
        running.len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Context>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The server does not know the session, or no longer.
pub(crate) fn is_over(status: &Status) -> bool {
    matches!(status.code(), Code::FailedPrecondition | Code::NotFound)
}

/// Registering again would be answered the same way.
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
