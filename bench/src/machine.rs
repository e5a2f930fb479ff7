//! Description of the machine that is measured on, and the speed of its disk.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{Seek as _, SeekFrom, Write as _},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Size in bytes of a page of PostgreSQL's log.
const BLOCK: usize = 8 * 1024;

/// Describes the processor, the memory, the kernel, the file system of `folder`, and the version and commit of
/// jobqueue.
pub fn describe(folder: &Path) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut fact = |name: &str, value: String| facts.insert(name.to_owned(), value);
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    fact("processor", format!("{cores} cores, {}", model.map_or("unknown", |(_, name)| name.trim())));
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")?.split_whitespace().next()?.parse().ok());
    fact("memory", format!("{:.0} GiB", kib.unwrap_or(0.0) / 1024.0 / 1024.0));
    fact("system", said("uname", &["-sr"]));
    fact("file system", said("stat", &["--file-system", "--format=%T", &folder.display().to_string()]));
    fact("load before", load().map_or_else(String::new, |load| format!("{load:.2}")));
    fact("jobqueue", format!("{} {}", env!("CARGO_PKG_VERSION"), said("git", &["rev-parse", "--short", "HEAD"])));
    facts
}

/// Load of the machine: the average number of processes that wanted to run in the last minute.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Output of a program; empty when it cannot be run.
fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Number of blocks of 8 KiB per second that are written and synced to disk, one after the other.
pub fn fdatasyncs(folder: &Path, time: Duration) -> Result<f64> {
    let path = folder.join("fdatasync");
    let mut file = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
    let block = [7_u8; BLOCK];
    // Existing blocks are overwritten, as in a log.
    let blocks = 2_048;
    for _ in 0..blocks {
        file.write_all(&block)?;
    }
    file.sync_all()?;
    let begun = Instant::now();
    let mut count = 0_u64;
    while begun.elapsed() < time {
        if count.is_multiple_of(blocks) {
            file.seek(SeekFrom::Start(0))?;
        }
        file.write_all(&block)?;
        file.sync_data()?;
        count += 1;
    }
    let rate = count as f64 / begun.elapsed().as_secs_f64();
    fs::remove_file(path)?;
    Ok(rate)
}
