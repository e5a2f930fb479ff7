//! Descendants of this process, as /proc shows them.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
};

use parking_lot::{Mutex, MutexGuard, RwLock};
use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, kill_process_group, waitpid};
use tokio::signal::unix::{SignalKind, signal};

struct Process {
    pid: i32,
    parent: i32,
    group: i32,
    is_zombie: bool,
}

/// Sends `signal` to every descendant of this process. Members of the process group `group` get it at the same time.
pub(crate) fn signal_descendants(group: i32, signal: Signal) {
    let descendants = descendants(&all(), getpid().as_raw_pid());
    let (together, apart): (Vec<_>, Vec<_>) = descendants.into_iter().partition(|(_, of)| *of == group);
    // Errors are ignored: a process may have ended meanwhile.
    if !together.is_empty()
        && let Some(group) = Pid::from_raw(group)
    {
        let _ = kill_process_group(group, signal);
    }
    for pid in apart.into_iter().filter_map(|(pid, _)| Pid::from_raw(pid)) {
        let _ = kill_process(pid, signal);
    }
}

/// Process id and group of each descendant of `root`.
fn descendants(all: &[Process], root: i32) -> Vec<(i32, i32)> {
    let mut children: BTreeMap<i32, Vec<&Process>> = BTreeMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(process);
    }
    let (mut found, mut parents) = (Vec::new(), vec![root]);
    while let Some(parent) = parents.pop() {
        for process in children.remove(&parent).unwrap_or_default() {
            found.push((process.pid, process.group));
            parents.push(process.pid);
        }
    }
    found
}

fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)).collect()
}

/// Parses /proc/PID/stat: `pid (name) state ppid pgrp …`, with any characters in the name.
fn parse(pid: i32, stat: &str) -> Option<Process> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let is_zombie = fields.next()? == "Z";
    Some(Process { pid, parent: fields.next()?.parse().ok()?, group: fields.next()?.parse().ok()?, is_zombie })
}

/// Process ids of children that this process waits for itself.
static OWN: Mutex<Option<HashSet<i32>>> = Mutex::new(None);
/// Read lock held while a child is started and not yet in [`OWN`]. Orphans are reaped under the write lock, so that
/// such a child is not taken for an orphan.
static STARTING: RwLock<()> = RwLock::new(());

/// Entry of a child in [`OWN`], which keeps [`reap_orphans`] from reaping the child.
#[derive(Debug)]
pub(crate) struct Own(i32);

impl Own {
    /// Starts a child by `spawn`, which returns its process id, and registers it.
    pub(crate) fn spawned<T, E>(spawn: impl FnOnce() -> Result<(T, i32), E>) -> Result<(T, Self), E> {
        let _starting = STARTING.read();
        let (child, pid) = spawn()?;
        own().get_or_insert_default().insert(pid);
        Ok((child, Self(pid)))
    }
}

fn own() -> MutexGuard<'static, Option<HashSet<i32>>> {
    OWN.lock()
}

impl Drop for Own {
    fn drop(&mut self) {
        if let Some(own) = own().as_mut() {
            own.remove(&self.0);
        }
    }
}

/// Reaps processes that became children of this one by the death of their parent. That is init's duty, and this process
/// is init in a container that starts it as its first. Never returns.
pub(crate) async fn reap_orphans() {
    let Ok(mut ended) = signal(SignalKind::child()) else { return std::future::pending().await };
    loop {
        if ended.recv().await.is_none() {
            return std::future::pending().await;
        }
        let us = getpid().as_raw_pid();
        let zombies: Vec<_> = all().into_iter().filter(|it| it.parent == us && it.is_zombie).collect();
        let _none_starts = STARTING.write();
        let own = own().clone();
        for orphan in zombies.iter().filter(|it| !own.as_ref().is_some_and(|own| own.contains(&it.pid))) {
            let _ = waitpid(Pid::from_raw(orphan.pid), WaitOptions::NOHANG);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_are_found_whatever_their_names() {
        let stats = [
            (2, "2 (sh) S 1 2 2 0"),
            (3, "3 (a) b (c) Z 2 3 3 0"),
            (4, "4 (x y) R 3 2 2 0"),
            (5, "5 (other) S 9 5 5 0"),
        ];
        let all: Vec<_> = stats.iter().filter_map(|(pid, stat)| parse(*pid, stat)).collect();
        assert_eq!(all.len(), 4);
        assert!(all[1].is_zombie && !all[0].is_zombie);
        let mut found = descendants(&all, 1);
        found.sort_unstable();
        assert_eq!(found, [(2, 2), (3, 3), (4, 2)]);
        assert!(parse(7, "7 (cut").is_none());
    }

    #[test]
    fn this_process_is_seen_with_its_parent() {
        let us = getpid().as_raw_pid();
        let parent = all().into_iter().find(|it| it.pid == us).unwrap().parent;
        assert_eq!(Some(parent), rustix::process::getppid().map(Pid::as_raw_pid));
    }
}
