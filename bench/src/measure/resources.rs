//! Resources that running programs use, read from /proc.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result};

/// CPU time so far of a process, of its running descendants, and of children that have ended and been waited for.
pub fn cpu(pid: u32) -> Result<Duration> {
    let root = Stat::of(pid).with_context(|| format!("process {pid} is gone"))?;
    let mut ticks = root.own + root.ended;
    // A child may end between listing and reading; its time then appears only in its parent's next reading.
    ticks += descendants(pid).into_iter().filter_map(Stat::of).map(|stat| stat.own).sum::<u64>();
    Ok(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64))
}

/// Memory in use and its maximum, in MiB.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub now: f64,
    pub most: f64,
}

pub fn memory(pid: u32) -> Result<Memory> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).with_context(|| format!("process {pid} is gone"))?;
    Ok(Memory { now: mib(&status, "VmRSS:"), most: mib(&status, "VmHWM:") })
}

fn mib(status: &str, field: &str) -> f64 {
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib: Option<f64> = line.and_then(|rest| rest.split_whitespace().next()?.parse().ok());
    kib.unwrap_or_default() / 1024.0
}

/// Process ids of a process's children, their children, and so on.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut all = Vec::new();
    let mut next = vec![pid];
    while let Some(parent) = next.pop() {
        let tasks = fs::read_dir(format!("/proc/{parent}/task")).into_iter().flatten().flatten();
        for task in tasks {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            let children: Vec<u32> = children.split_whitespace().filter_map(|id| id.parse().ok()).collect();
            all.extend(&children);
            next.extend(children);
        }
    }
    all
}

struct Stat {
    /// Ticks of the process itself.
    own: u64,
    /// Ticks of children that it has waited for.
    ended: u64,
}

impl Stat {
    fn of(pid: u32) -> Option<Self> {
        Self::parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Parses /proc/PID/stat. In proc(5), utime, stime, cutime and cstime are fields 14 to 17; field 2, in parentheses,
    /// may hold anything.
    fn parse(stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self { own: field(14)? + field(15)?, ended: field(16)? + field(17)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_read_behind_any_name() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5 6 7";
        let stat = Stat::parse(stat).unwrap();
        assert_eq!((stat.own, stat.ended), (33, 77));
    }

    #[test]
    fn this_process_has_used_memory_and_time() {
        let pid = std::process::id();
        let memory = memory(pid).unwrap();
        assert!(memory.now > 0.5 && memory.most >= memory.now * 0.9, "{memory:?}");
        let before = cpu(pid).unwrap();
        let mut sum = 0_u64;
        while cpu(pid).unwrap() == before {
            sum = (0..100_000).fold(sum, |sum, n| std::hint::black_box(sum ^ n));
        }
        assert!(cpu(u32::MAX).is_err());
    }
}
