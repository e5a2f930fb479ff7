//! SIGTERM and Ctrl-C: the first signal starts a graceful shutdown, the second ends the process.

use std::{future::Future, io, process, thread};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::warn;

/// Installs the signal handlers. They run on a thread of their own, so that a blocked runtime does not delay them. The
/// future completes at the first signal; the second ends the process at once.
pub fn requested() -> io::Result<impl Future<Output = ()>> {
    let runtime = runtime::Builder::new_current_thread().enable_io().build()?;
    let (mut terminate, mut interrupt) = {
        let _entered = runtime.enter();
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?)
    };
    let (first, requested) = oneshot::channel();
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut next = || {
            runtime.block_on(async {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
            });
        };
        next();
        let _ = first.send(());
        next();
        warn!("a second signal: exiting at once");
        process::exit(1);
    })?;
    Ok(async move {
        // The thread lives as long as the process.
        let _ = requested.await;
    })
}
