//! Service of one session: everything that runs while a worker has it, and its orderly end.

use std::{sync::Arc, time::Duration};

use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::{
    handlers::stop::StopReason,
    report::{outcome_queue::OutcomeQueue, progress, settle},
    run::{
        acquire,
        execute::{HeldJob, SessionJobs},
        slots::Slots,
        supervise::STOP_TIME,
    },
    running_worker::RunningWorker,
    sessions::{heartbeat, session::Session},
};

/// Time that a stopping worker has to deliver its outcomes.
const DELIVERY_TIME: Duration = Duration::from_secs(10);
/// Time that a stopping worker then has to end its session.
const SESSION_END_TIME: Duration = Duration::from_secs(5);

/// Reason why serving a session ended.
pub(crate) enum Served {
    /// The worker was told to stop.
    Stopped,
    /// The server ended the session.
    Ended,
}

/// Runs jobs in a session until the server has ended it or the worker is stopped. A stopped worker finishes its jobs,
/// delivers their outcomes, and ends the session.
pub(crate) async fn serve(worker: &Arc<RunningWorker>, slots: &Slots<HeldJob>, session: Arc<Session>) -> Served {
    let outcomes = Arc::new(OutcomeQueue::default());
    let settled = AbortOnDropHandle::new(tokio::spawn({
        let (worker, session, outcomes) = (Arc::clone(worker), Arc::clone(&session), Arc::clone(&outcomes));
        async move { settle::run(&worker.calls, &session, &outcomes).await }
    }));
    let _heartbeat = heartbeat::start(worker, &session);
    let _progress = AbortOnDropHandle::new(tokio::spawn(progress::run(Arc::clone(worker), Arc::clone(&session))));
    let jobs = Arc::new(SessionJobs {
        worker: Arc::clone(worker),
        slots: slots.clone(),
        session: Arc::clone(&session),
        outcomes,
        tracker: TaskTracker::new(),
    });

    acquire::run(&jobs).await;
    jobs.tracker.close();
    if !session.ended.is_cancelled() {
        drain(&jobs).await;
    }
    if session.ended.is_cancelled() {
        let stopped = session.abandon();
        let worker_id = &worker.config.worker_id;
        tracing::warn!(
            worker_id,
            session_id = session.id,
            jobs = stopped,
            "the server has ended the session, stopping what runs"
        );
        worker.calls.forget_failures();
        if worker.stopping.is_cancelled() {
            let _ = tokio::time::timeout(STOP_TIME, jobs.tracker.wait()).await;
            return Served::Stopped;
        }
        return Served::Ended;
    }
    jobs.outcomes.close();
    if tokio::time::timeout(DELIVERY_TIME, settled).await.is_err() {
        tracing::warn!("the server did not take all outcomes; the jobs run again when the lease has run out");
    }
    session.end(&worker.calls, SESSION_END_TIME).await;
    tracing::info!(worker_id = worker.config.worker_id, session_id = session.id, "stopped");
    Served::Stopped
}

/// Lets running jobs finish within the grace period, then stops them.
async fn drain(jobs: &SessionJobs) {
    let (session, running) = (&jobs.session, &jobs.tracker);
    session.draining.send_replace(true);
    let grace = jobs.worker.config.grace;
    let worker_id = &jobs.worker.config.worker_id;
    tracing::info!(worker_id, jobs = session.held(), ?grace, "stopping: finishing what runs");
    tokio::select! {
        () = session.ended.cancelled() => return,
        () = running.wait() => return,
        () = tokio::time::sleep(grace) => {}
    }
    let stopped = session.stop_all(StopReason::ShuttingDown);
    tracing::warn!(worker_id, jobs = stopped, "the grace is over, giving back what still runs");
    tokio::select! {
        () = session.ended.cancelled() => {}
        () = running.wait() => {}
        // A second longer than each handler gets, so that all jobs have been released.
        () = tokio::time::sleep(STOP_TIME + Duration::from_secs(1)) => {}
    }
}
