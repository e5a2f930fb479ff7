//! Heartbeats of a session, which keep its lease and stop the handlers whose leases are over. They have a thread of
//! their own, so that handlers that block all threads of their runtime do not cost the worker its leases.

use std::{sync::Arc, thread, time::Duration};

use jobqueue_shared::proto::v1::HeartbeatRequest;
use tokio::{runtime::Handle, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    connection::{
        backoff::Backoff,
        worker_calls::{WorkerApi, WorkerCalls},
    },
    handlers::stop::StopReason,
    running_worker::RunningWorker,
    sessions::{
        blocked_runtime,
        session::{self, Session},
    },
};

/// Starts the heartbeats of a session on a new thread. They end with the session, or when the guard is dropped.
pub(crate) fn start(worker: &Arc<RunningWorker>, session: &Arc<Session>) -> DropGuard {
    let (worker, session, handlers) = (Arc::clone(worker), Arc::clone(session), Handle::current());
    let over = CancellationToken::new();
    let (ends, spare) = (over.clone(), (Arc::clone(&worker), Arc::clone(&session)));
    let thread = thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else {
            tracing::warn!("no runtime for heartbeats; handlers that block their threads will cost the lease");
            handlers.spawn(ends.run_until_cancelled_owned(run(worker.calls.shared_connection(), worker, session)));
            return;
        };
        runtime.block_on(ends.run_until_cancelled_owned(async move {
            // A connection is driven by the runtime that made it, so heartbeats need a connection of their own.
            let api = worker.calls.connect().unwrap_or_else(|_| worker.calls.shared_connection());
            tokio::join!(
                run(api, Arc::clone(&worker), Arc::clone(&session)),
                blocked_runtime::watch(&handlers, &session)
            );
        }));
    });
    if let Err(error) = thread {
        tracing::warn!(%error, "no thread for heartbeats; handlers that block their threads will cost the lease");
        let (worker, session) = spare;
        tokio::spawn(over.clone().run_until_cancelled_owned(run(worker.calls.shared_connection(), worker, session)));
    }
    over.drop_guard()
}

/// Keeps the lease until the session has ended.
async fn run(api: WorkerApi, worker: Arc<RunningWorker>, session: Arc<Session>) {
    tokio::select! {
        () = beat(&api, &worker.calls, &session) => {}
        () = stop_without_lease(&session) => {}
    }
}

/// Sends heartbeats until the server has ended the session.
async fn beat(api: &WorkerApi, calls: &WorkerCalls, session: &Session) {
    let mut draining = session.draining.subscribe();
    let mut pauses = Backoff::for_lease(session.lease_time);
    let mut pause = session.heartbeat_interval;
    let mut suspects = Vec::new();
    let limit = (session.lease_time / 3).min(Duration::from_secs(10));
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // Draining is reported at once, so that the list of workers shows it.
            _ = draining.changed() => {}
            () = session.beat_now.notified() => {}
        }
        let request = HeartbeatRequest { session_id: session.id.clone(), draining: *draining.borrow_and_update() };
        suspects.append(&mut session.take_suspects());
        let asked_at = Instant::now();
        match calls.heartbeat(api, request, limit).await {
            Ok(reply) => {
                session.leased_until.send_replace(asked_at + session.lease_time);
                session.stop_each(&reply.stop);
                // Leases that the reply names keep its reason, because the first reason counts.
                suspects.drain(..).for_each(|lease_id| session.stop(&lease_id, StopReason::LeaseLost));
                pauses.reset();
                pause = session.heartbeat_interval;
            }
            Err(status) if session::is_over(&status) => {
                session.ended.cancel();
                return;
            }
            Err(_) => pause = pauses.next(),
        }
    }
}

/// Stops the handlers when the lease time has passed without an answer, because rescue may then give their jobs to
/// others. If all servers were away, the lease is extended when one is back, and the outcomes are still sent.
async fn stop_without_lease(session: &Session) {
    let mut leased_until = session.leased_until.subscribe();
    loop {
        let until = *leased_until.borrow_and_update();
        tokio::select! {
            _ = leased_until.changed() => {}
            () = tokio::time::sleep_until(until) => {
                let jobs = session.stop_all(StopReason::LeaseLost);
                tracing::warn!(jobs, "the lease ran out while the server was away, stopping what runs");
                if leased_until.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
