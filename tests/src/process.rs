//! One program of ours, with what it prints; gone when it is dropped.

use std::{
    env,
    fs::{self, File},
    process::{Child, Command, ExitStatus, Stdio},
    thread,
};

pub use rustix::process::Signal;
use rustix::process::{Pid, kill_process};
use tempfile::TempDir;

use crate::poll::{PATIENCE, within};

/// Lines of a log that a failed test prints at most.
const SHOWN: usize = 200;

/// A running program. What it printed is shown when the test fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Known once it has ended.
    ended: Option<ExitStatus>,
    output: TempDir,
}

impl Process {
    /// Starts `command` without the settings that this process got from its environment.
    pub fn start(name: &str, command: &mut Command) -> Self {
        for (variable, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("JOBQUEUE_")) {
            // Those that the caller has set on the command stay.
            if !command.get_envs().any(|(set, _)| set == variable) {
                command.env_remove(variable);
            }
        }
        let output = tempfile::Builder::new().prefix("jobqueue-test-").tempdir().unwrap();
        let file = |name: &str| File::create(output.path().join(name)).unwrap();
        let child = command
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        Self { name: name.to_owned(), child, ended: None, output }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The most memory that it has had at once, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// All of its standard output so far.
    pub fn stdout(&self) -> String {
        self.printed("stdout")
    }

    /// All of its standard error so far.
    pub fn stderr(&self) -> String {
        self.printed("stderr")
    }

    fn printed(&self, stream: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.output.path().join(stream)).unwrap()).into_owned()
    }

    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().unwrap();
        }
        self.ended
    }

    /// Waits for its end.
    pub async fn ended(&mut self) -> ExitStatus {
        let what = format!("{} ends", self.name);
        within(2 * PATIENCE, &what, async || self.has_ended()).await
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Kills it with SIGKILL, as a crash would, and waits until it is gone.
    pub fn kill9(&mut self) {
        self.signal(Signal::KILL);
        self.ended = Some(self.child.wait().unwrap());
    }

    pub fn signal(&mut self, signal: Signal) {
        if self.has_ended().is_none() {
            let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).unwrap();
            kill_process(pid, signal).unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.ended.is_none() {
            // It may have ended by itself; and there is nobody to tell.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let log = self.stderr();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(SHOWN)..];
            eprintln!("--- {}, the end of its log ---\n{}\n---", self.name, shown.join("\n"));
        }
    }
}
