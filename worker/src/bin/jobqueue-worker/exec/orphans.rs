//! Orphans: processes that this one inherits when it is the first of a container, and has to reap.

use std::collections::HashSet;

use parking_lot::{Mutex, MutexGuard, RwLock};
use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

use crate::exec::processes;

/// Process ids of the children whose end some part of this program waits for.
static OWN_CHILDREN: Mutex<Option<HashSet<i32>>> = Mutex::new(None);
/// Read lock held while a child is started and not yet in [`OWN_CHILDREN`]. Orphans are reaped under the write lock, so
/// that such a child is not taken for an orphan.
static STARTING: RwLock<()> = RwLock::new(());

/// Entry of a child in [`OWN_CHILDREN`], which keeps [`reap`] from reaping the child.
#[derive(Debug)]
pub(crate) struct OwnChild(i32);

impl OwnChild {
    /// Starts a child by `spawn`, which returns its process id, and registers it.
    pub(crate) fn spawned<T, E>(spawn: impl FnOnce() -> Result<(T, i32), E>) -> Result<(T, Self), E> {
        let _starting = STARTING.read();
        let (child, pid) = spawn()?;
        own_children().get_or_insert_default().insert(pid);
        Ok((child, Self(pid)))
    }
}

fn own_children() -> MutexGuard<'static, Option<HashSet<i32>>> {
    OWN_CHILDREN.lock()
}

impl Drop for OwnChild {
    fn drop(&mut self) {
        if let Some(own) = own_children().as_mut() {
            own.remove(&self.0);
        }
    }
}

/// Reaps processes that became children of this one by the death of their parent: the duty of init, which this process
/// is in a container that starts it as the first. Never returns.
pub(crate) async fn reap() {
    let Ok(mut ended) = signal(SignalKind::child()) else { return std::future::pending().await };
    loop {
        if ended.recv().await.is_none() {
            return std::future::pending().await;
        }
        let us = getpid().as_raw_pid();
        let zombies: Vec<_> = processes::all().into_iter().filter(|it| it.parent == us && it.is_zombie).collect();
        let _none_starts = STARTING.write();
        let own = own_children().clone();
        for orphan in zombies.iter().filter(|it| !own.as_ref().is_some_and(|own| own.contains(&it.pid))) {
            let _ = waitpid(Pid::from_raw(orphan.pid), WaitOptions::NOHANG);
        }
    }
}
