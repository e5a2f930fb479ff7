//! Keeps a session alive, and stops the handlers whose leases are over.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    backoff::Backoff,
    context::StopReason,
    proto::HeartbeatRequest,
    runner::Core,
    session::{self, Session},
};

/// Until the session has ended, or it is dropped.
pub(crate) async fn run(core: Arc<Core>, session: Arc<Session>) {
    tokio::select! {
        () = beat(&core, &session) => {}
        () = watch_the_lease(&session) => {}
    }
}

async fn beat(core: &Core, session: &Session) {
    let mut draining = session.draining.subscribe();
    let mut pauses = Backoff::for_lease(session.lease_time);
    let mut pause = session.heartbeat_interval;
    let mut suspects = Vec::new();
    let limit = (session.lease_time / 3).min(Duration::from_secs(10));
    loop {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            // People see at once that it drains.
            _ = draining.changed() => {}
            () = session.beat_now.notified() => {}
        }
        let request = HeartbeatRequest { session_id: session.id.clone(), draining: *draining.borrow_and_update() };
        suspects.append(&mut session.take_suspects());
        let asked_at = Instant::now();
        match core.heartbeat(request, limit).await {
            Ok(reply) => {
                session.kept_until.send_replace(asked_at + session.lease_time);
                session.stop_each(&reply.stop);
                // Of those that it named, the reason stays.
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

/// When the lease time has passed without an answer, the server gives the jobs to others: handlers should not go on.
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
