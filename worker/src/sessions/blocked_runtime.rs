//! Warning when handlers block all threads of their runtime, which stops everything but the heartbeats.

use std::time::Duration;

use tokio::{runtime::Handle, sync::oneshot, time::Instant};

use crate::sessions::session::Session;

/// Interval between checks that the runtime makes progress.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Time within which a runtime has to run a new task; otherwise it counts as blocked.
const BLOCKED: Duration = Duration::from_secs(1);
/// Minimum time between two warnings.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Warns when `handlers`, the runtime of the handlers, is blocked. Runs until the session has ended, on another
/// runtime.
pub(crate) async fn watch(handlers: &Handle, session: &Session) {
    let mut warned: Option<Instant> = None;
    loop {
        tokio::select! {
            () = session.ended.cancelled() => return,
            () = tokio::time::sleep(CHECK_INTERVAL) => {}
        }
        let (done, mut is_done) = oneshot::channel();
        handlers.spawn(async move {
            let _ = done.send(());
        });
        if tokio::time::timeout(BLOCKED, &mut is_done).await.is_ok() {
            continue;
        }
        if warned.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
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
