//! Slot for one program, which is started again whenever it has ended, as a service manager does.

use std::{
    fs::{self, File},
    io,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

/// Delay before a program that ended by itself is started again.
const RESTART_AFTER: Duration = Duration::from_millis(300);
/// Exit code of a server that ends at a failpoint.
const FAILPOINT_EXIT: i32 = 86;

/// Changes that apply to the next start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Changes {
    /// Hours by which its clock is off.
    pub(super) hours: Option<i32>,
    pub(super) failpoints: String,
}

/// One run of the program.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) name: String,
    child: Child,
    /// File of standard error; beside it, `.out` is standard output.
    log: PathBuf,
    changes: Changes,
    asked_to_end: bool,
    killed: bool,
}

#[derive(Debug)]
pub(super) struct Slot {
    role: &'static str,
    number: usize,
    generation: u32,
    pub(super) running: Option<Running>,
    /// Whether the program is started again when it has ended.
    wanted: bool,
    not_before: Instant,
    pub(super) changes: Changes,
    /// True for a server, which is ready once it listens; the other programs are ready at once.
    announces: bool,
}

/// Description of a program that ended without having been told to.
#[derive(Debug)]
pub(super) struct Surprise(pub(super) String);

impl Slot {
    pub(super) fn new(role: &'static str, number: usize, announces: bool) -> Self {
        Self {
            role,
            number,
            generation: 0,
            running: None,
            wanted: true,
            not_before: Instant::now(),
            changes: Changes::default(),
            announces,
        }
    }

    /// Name of the present run; of the next one while the program is down.
    pub(super) fn name(&self) -> String {
        self.running.as_ref().map_or_else(|| self.next_name(), |it| it.name.clone())
    }

    pub(super) fn next_name(&self) -> String {
        format!("{}-{}.{}", self.role, self.number, self.generation + 1)
    }

    /// Number of the latest run, counted from 1.
    pub(super) fn latest(&self) -> u32 {
        self.generation
    }

    pub(super) fn is_due(&self) -> bool {
        self.wanted && self.running.is_none() && Instant::now() >= self.not_before
    }

    /// Starts the program, which the kernel kills when this process ends.
    pub(super) fn start(&mut self, command: &Command, folder: &Path) -> io::Result<()> {
        let name = self.next_name();
        let log = folder.join(format!("{name}.log"));
        let mut dying_with_us = Command::new("setpriv");
        dying_with_us.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
        for (variable, value) in command.get_envs() {
            match value {
                Some(value) => dying_with_us.env(variable, value),
                None => dying_with_us.env_remove(variable),
            };
        }
        if let Some(hours) = self.changes.hours {
            // Both names of the setting are set, because libfaketime has renamed it.
            let library = "/usr/$LIB/faketime/libfaketimeMT.so.1";
            dying_with_us.env("LD_PRELOAD", library).env("FAKETIME", format!("{hours:+}h"));
            dying_with_us.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        dying_with_us.env("FAILPOINTS", &self.changes.failpoints).env("RUST_BACKTRACE", "1");
        let child = dying_with_us
            .stdin(Stdio::null())
            .stdout(File::create(log.with_extension("out"))?)
            .stderr(File::create(&log)?)
            .spawn()?;
        self.generation += 1;
        let changes = self.changes.clone();
        self.running = Some(Running { name, child, log, changes, asked_to_end: false, killed: false });
        Ok(())
    }

    /// Checks whether the program has ended; returns a `Surprise` if that was not expected.
    pub(super) fn tick(&mut self) -> io::Result<Option<Surprise>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        let Some(status) = running.child.try_wait()? else { return Ok(None) };
        Ok(self.ended(status))
    }

    fn ended(&mut self, status: ExitStatus) -> Option<Surprise> {
        let running = self.running.take()?;
        let by_failpoint = !running.changes.failpoints.is_empty() && status.code() == Some(FAILPOINT_EXIT);
        let fine = by_failpoint
            || (running.killed && status.signal() == Some(Signal::KILL.as_raw()))
            || (running.asked_to_end && status.success())
            // A server that cannot reach its database ends at start, and is started until it succeeds.
            || (self.announces && !running.has_announced() && status.code() == Some(1));
        if !running.killed && !running.asked_to_end {
            self.not_before = Instant::now() + RESTART_AFTER;
        }
        (!fine).then(|| {
            let log = fs::read_to_string(&running.log).unwrap_or_default();
            let end: Vec<_> = log.lines().rev().take(5).collect();
            let end = end.into_iter().rev().collect::<Vec<_>>().join("\n    ");
            Surprise(format!("{} ended by itself ({status}); its log ends with\n    {end}", running.name))
        })
    }

    /// Kills the program with SIGKILL; it is started again after `down`. Returns its name and exit status.
    pub(super) fn kill9(&mut self, down: Duration) -> io::Result<Option<(String, ExitStatus)>> {
        let Some(running) = &mut self.running else { return Ok(None) };
        running.killed = true;
        running.signal(Signal::KILL)?;
        let status = running.child.wait()?;
        let name = running.name.clone();
        self.running = None;
        self.not_before = Instant::now() + down;
        Ok(Some((name, status)))
    }

    /// Sends SIGTERM; the program is started again when it has ended.
    pub(super) fn terminate(&mut self) -> io::Result<()> {
        let Some(running) = &mut self.running else { return Ok(()) };
        running.asked_to_end = true;
        running.signal(Signal::TERM)
    }

    /// Sends SIGTERM; the program is not started again.
    pub(super) fn dismiss(&mut self) -> io::Result<()> {
        self.wanted = false;
        self.terminate()
    }

    pub(super) fn is_ready(&self) -> bool {
        self.running.as_ref().is_some_and(|it| !it.asked_to_end && (!self.announces || it.has_announced()))
    }
}

impl Running {
    pub(super) fn pid(&self) -> i32 {
        // Process ids of Linux end at 2^22.
        self.child.id().cast_signed()
    }

    pub(super) fn signal(&self, signal: Signal) -> io::Result<()> {
        let pid = Pid::from_raw(self.pid()).ok_or(io::ErrorKind::NotFound)?;
        Ok(kill_process(pid, signal)?)
    }

    /// State letter of /proc/<pid>/stat: T for stopped.
    pub(super) fn state(&self) -> io::Result<char> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim_start());
        after_name.chars().next().ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// True if the process has mapped this library.
    pub(super) fn has_loaded(&self, library: &str) -> io::Result<bool> {
        Ok(fs::read_to_string(format!("/proc/{}/maps", self.pid()))?.contains(library))
    }

    pub(super) fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    fn has_announced(&self) -> bool {
        fs::read_to_string(self.log.with_extension("out")).is_ok_and(|out| out.contains("listening"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The process may have ended already; a stopped one is ended by SIGKILL only.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
