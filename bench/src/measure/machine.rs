//! Description of the machine that is measured on.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

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
    fact("system", output_of("uname", &["-sr"]));
    fact("file system", output_of("stat", &["--file-system", "--format=%T", &folder.display().to_string()]));
    fact("load before", load().map_or_else(String::new, |load| format!("{load:.2}")));
    fact("jobqueue", format!("{} {}", env!("CARGO_PKG_VERSION"), output_of("git", &["rev-parse", "--short", "HEAD"])));
    facts
}

/// Load of the machine: the average number of processes that wanted to run in the last minute.
pub fn load() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// Output of a program; empty when it cannot be run.
fn output_of(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or_else(|_| String::new(), |output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
