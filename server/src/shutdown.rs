//! SIGTERM and Ctrl-C: the first asks the server to finish, the second ends it.

use std::{future::Future, io, process, thread};

use tokio::{
    runtime,
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};
use tracing::warn;

/// Listens for signals from now on, on a thread of its own, so that nothing else has to run for it. The future
/// completes at the first; the next ends the process at once.
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
        // The thread ends only with the process.
        let _ = requested.await;
    })
}
