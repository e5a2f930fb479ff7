//! A program under test and its output; killed when it is dropped.

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

/// Maximum number of log lines that a failed test prints.
const SHOWN: usize = 200;

/// A running program. The end of its log is printed when the test fails.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    /// Exit status, known once it has ended.
    ended: Option<ExitStatus>,
    output: TempDir,
}

impl Process {
    /// Starts `command` without the JOBQUEUE_ variables of this process's environment.
    pub fn start(name: &str, command: &mut Command) -> Self {
        for (variable, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("JOBQUEUE_")) {
            // Variables that the caller has set on the command stay.
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

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Maximum memory that it has had at once, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Standard output so far.
    pub fn stdout(&self) -> String {
        self.printed("stdout")
    }

    /// Standard error so far.
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
            // The process may have ended by itself, and an error could not be reported here.
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
