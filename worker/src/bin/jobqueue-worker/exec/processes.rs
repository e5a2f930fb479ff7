//! Processes as /proc shows them, and signals to those that descend from this one.

use std::{collections::BTreeMap, fs};

use rustix::process::{Pid, Signal, getpid, kill_process, kill_process_group};

/// Process that exists, or has ended and not been reaped.
pub(crate) struct Process {
    pub(crate) pid: i32,
    pub(crate) parent: i32,
    group: i32,
    pub(crate) is_zombie: bool,
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

/// Process id and process group of each descendant of `root`.
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

/// All processes of this machine, or of this container.
pub(crate) fn all() -> Vec<Process> {
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

/// Kills the process group of a shell whose guardian was killed.
pub(crate) fn kill_group(shell: i32) {
    if let Some(shell) = Pid::from_raw(shell) {
        // An error means that the group has ended already, and is ignored.
        let _ = kill_process_group(shell, Signal::KILL);
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
