//! SIGTERM and Ctrl-C: the first asks the server to finish, the second ends it.

use std::{future::Future, io};

use tokio::signal::unix::{SignalKind, signal};
use tracing::warn;

/// Listens for signals from now on. The future completes at the first; the next ends the process at once.
pub fn requested() -> io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            warn!("a second signal: exiting at once");
            std::process::exit(1);
        });
    })
}
