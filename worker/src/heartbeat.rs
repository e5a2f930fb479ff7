//! Heartbeats of a session, which keep its lease and stop the handlers whose leases are over. They have a thread of
//! their own, so that handlers that block all threads of their runtime do not cost the worker its leases.

use std::{sync::Arc, thread, time::Duration};

use tokio::{runtime::Handle, sync::oneshot, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{
    backoff::Backoff,
    context::StopReason,
    proto::HeartbeatRequest,
    runner::{Core, WorkerApi},
    session::{self, Session},
};

/// Interval between checks that the handlers' runtime makes progress.
const LOOK: Duration = Duration::from_secs(1);
/// Time within which a runtime has to run a new task; otherwise it counts as blocked.
const BLOCKED: Duration = Duration::from_secs(1);
/// Minimum time between two warnings about a blocked runtime.
const WARNING: Duration = Duration::from_mins(1);

/// Starts the heartbeats of a session on a new thread. They end with the session, or when the guard is dropped.
pub(crate) fn start(core: &Arc<Core>, session: &Arc<Session>) -> DropGuard {
    let (core, session, handlers) = (Arc::clone(core), Arc::clone(session), Handle::current());
    let over = CancellationToken::new();
    let (ends, spare) = (over.clone(), (Arc::clone(&core), Arc::clone(&session)));
    let thread = thread::Builder::new().name("heartbeat".to_owned()).spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let Ok(runtime) = runtime else {
            tracing::warn!("no runtime for heartbeats; handlers that block their threads will cost the lease");
            handlers.spawn(ends.run_until_cancelled_owned(run(core.api.clone(), core, session)));
            return;
        };
        runtime.block_on(ends.run_until_cancelled_owned(async move {
            // A connection is driven by the runtime that made it, so heartbeats need a connection of their own.
            let api = core.connect().unwrap_or_else(|_| core.api.clone());
            tokio::join!(run(api, Arc::clone(&core), Arc::clone(&session)), watch_the_handlers(&handlers, &session));
        }));
    });
    if let Err(error) = thread {
        tracing::warn!(%error, "no thread for heartbeats; handlers that block their threads will cost the lease");
        let (core, session) = spare;
        tokio::spawn(over.clone().run_until_cancelled_owned(run(core.api.clone(), core, session)));
    }
    over.drop_guard()
}

/// Sends heartbeats and watches the lease until the session has ended.
async fn run(api: WorkerApi, core: Arc<Core>, session: Arc<Session>) {
    tokio::select! {
        () = beat(&api, &core, &session) => {}
        () = watch_the_lease(&session) => {}
    }
}

/// Warns when the handlers' runtime is blocked. Runs until the session has ended.
async fn watch_the_handlers(handlers: &Handle, session: &Session) {
    let mut warned: Option<Instant> = None;
    loop {
        tokio::select! {
            () = session.ended.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let (done, mut is_done) = oneshot::channel();
        handlers.spawn(async move {
            let _ = done.send(());
        });
        if tokio::time::timeout(BLOCKED, &mut is_done).await.is_ok() {
            continue;
        }
        if warned.is_none_or(|at| at.elapsed() >= WARNING) {
            warned = Some(Instant::now());
            let tasks = Vec::from_iter(session.tasks()).join(",");
            tracing::warn!(
                tasks,
                "handlers block all threads of their runtime: no outcome is sent and no job starts meanwhile; \
                 blocking work belongs into spawn_blocking"
            );
        }
        tokio::select! {
            () = session.ended.cancelled() => return,
            _ = is_done => {}
        }
    }
}

async fn beat(api: &WorkerApi, core: &Core, session: &Session) {
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
        match core.heartbeat(api, request, limit).await {
            Ok(reply) => {
                session.kept_until.send_replace(asked_at + session.lease_time);
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

/// Stops the handlers when the lease time has passed without an answer: rescue may then give their jobs to others. If all servers were away, the lease is
/// extended when one is back, and the outcomes are still sent.
async fn watch_the_lease(session: &Session) {
    let mut kept_until = session.kept_until.subscribe();
    loop {
        let until = *kept_until.borrow_and_update();
        tokio::select! {
            _ = kept_until.changed() => {}
            () = tokio::time::sleep_until(until) => {
                let jobs = session.stop_all(StopReason::LeaseLost);
                tracing::warn!(jobs, "the lease ran out while the server was away, stopping what runs");
                if kept_until.changed().await.is_err() {
                    return;
                }
            }
        }
    }
}
