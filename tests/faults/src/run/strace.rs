//! Fault injection into system calls: strace attaches to processes and makes their calls fail.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

/// Makes every `fsync` and `fdatasync` of some processes fail with EIO while this value lives.
#[derive(Debug)]
pub(super) struct FailingSync {
    strace: Child,
    output: PathBuf,
}

impl FailingSync {
    /// Attaches to the processes; with `threads_and_children`, also to their threads and children.
    pub(super) fn attach(pids: &[i32], threads_and_children: bool, output: &Path) -> Result<Self> {
        let mut command = Command::new("strace");
        command
            .args(["-qq", "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:error=EIO", "-o"])
            .arg(output);
        if threads_and_children {
            command.arg("--follow-forks");
        }
        for pid in pids {
            command.args(["--attach", &pid.to_string()]);
        }
        let log = File::create(output.with_extension("strace-log"))?;
        let strace =
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().context("cannot run strace")?;
        Ok(Self { strace, output: output.to_owned() })
    }

    /// Number of calls that have failed so far.
    pub(super) fn injected(&self) -> usize {
        let text = fs::read(&self.output).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().filter(|line| line.contains("(INJECTED)")).count()
    }

    /// Detaches from the processes; returns the number of calls that have failed.
    pub(super) fn detach(mut self) -> usize {
        self.end();
        self.injected()
    }

    fn end(&mut self) {
        // strace detaches on SIGTERM; it may have ended with the last of its processes.
        if let (Ok(None), Some(pid)) = (self.strace.try_wait(), Pid::from_raw(self.strace.id().cast_signed())) {
            let _ = kill_process(pid, Signal::TERM);
            let _ = self.strace.wait();
        }
    }
}

impl Drop for FailingSync {
    fn drop(&mut self) {
        self.end();
    }
}
