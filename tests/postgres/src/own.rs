//! A PostgreSQL server that this process starts in a temporary folder.

use std::fmt::Write as _;

use parking_lot::{Mutex, MutexGuard};
use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::binaries::Binaries;
use crate::watchdog::Watchdog;
use crate::{Error, Setup, process};

/// Maximum length of the folder's path in bytes. A Unix socket's path may have 103 bytes on every system; PostgreSQL
/// appends `/.s.PGSQL.<port>.lock`.
const SOCKET_FOLDER_MAX: usize = 80;

/// Number of ports that are tried: a port that is free when it is chosen may be taken when PostgreSQL binds it.
const PORT_TRIES: usize = 5;

/// Time limit of a start: recovery after a crash takes a while, and a busy machine is slow.
const READY_WITHIN: Duration = Duration::from_mins(1);

/// A server with its folder. The watchdog ends the server and removes the folder when this value is dropped.
#[derive(Debug)]
pub(crate) struct Own {
    watchdog: Watchdog,
    folder: PathBuf,
    account: Option<Account>,
    binaries: Binaries,
    port: u16,
    /// `None` while the server is stopped.
    postmaster: Mutex<Option<Child>>,
}

/// Mode of stopping the server.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stop {
    /// Open transactions are rolled back, connections ended, a checkpoint written.
    Fast,
    /// Everything ends at once; the next start recovers from the log.
    Immediate,
}

/// Account that PostgreSQL runs under when this process is root, because PostgreSQL refuses to run as root.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Own {
    pub(crate) fn start(binaries: Binaries, setup: &Setup) -> Result<Self, Error> {
        let mut own = Self::in_a_folder(binaries, setup)?;
        own.initialise()?;
        own.configure(setup)?;
        own.start_on_a_free_port()?;
        Ok(own)
    }

    /// Starts a server on a copy of a running server, which it follows.
    pub(crate) fn start_standby(primary: &Self, setup: &Setup) -> Result<Self, Error> {
        let mut own = Self::in_a_folder(primary.binaries.clone(), setup)?;
        let mut copy = own.command("pg_basebackup");
        copy.arg("--pgdata").arg(own.data()).args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync"]);
        copy.args(["--host=127.0.0.1", "--username=postgres", "--port", &primary.port.to_string()]);
        process::run(&mut copy)?;
        own.configure(setup)?;
        own.start_on_a_free_port()?;
        Ok(own)
    }

    fn in_a_folder(binaries: Binaries, setup: &Setup) -> Result<Self, Error> {
        let parent = setup.parent.clone().unwrap_or_else(std::env::temp_dir);
        let temporary = tempfile::Builder::new()
            .prefix("jobqueue-pg-")
            .tempdir_in(parent)
            .map_err(Error::io("cannot make a temporary folder"))?;
        let folder = temporary.path().canonicalize().map_err(Error::io("cannot resolve the temporary folder"))?;
        let watchdog = Watchdog::start(&folder)?;
        // From here on the watchdog owns the folder.
        let _: PathBuf = TempDir::keep(temporary);

        let account = account()?;
        if let Some(Account { uid, gid }) = account {
            std::os::unix::fs::chown(&folder, Some(uid), Some(gid))
                .map_err(Error::io(format!("cannot hand {} over", folder.display())))?;
        }
        Ok(Self { watchdog, folder, account, binaries, port: 0, postmaster: Mutex::new(None) })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    pub(crate) fn kill9(&self) -> Result<(), Error> {
        let mut postmaster = self.running()?;
        let pid = id(&postmaster);
        // The postmaster is stopped first, so that it forks no child between the listing and the kill.
        process::signal(pid, Signal::STOP);
        let others = process::children(pid);
        for pid in others.iter().copied().chain([pid]) {
            process::signal(pid, Signal::KILL);
        }
        postmaster.wait().map_err(Error::io("cannot wait for PostgreSQL"))?;
        others.into_iter().try_for_each(process::wait_gone)
    }

    pub(crate) fn stop(&self, how: Stop) -> Result<(), Error> {
        let mut postmaster = self.running()?;
        let signal = match how {
            Stop::Fast => Signal::INT,
            Stop::Immediate => Signal::QUIT,
        };
        process::signal(id(&postmaster), signal);
        postmaster.wait().map(drop).map_err(Error::io("cannot wait for PostgreSQL"))
    }

    pub(crate) fn restart(&self) -> Result<(), Error> {
        match self.stop(Stop::Fast) {
            Ok(()) | Err(Error::NotRunning) => self.launch(),
            Err(error) => Err(error),
        }
    }

    /// Takes the running postmaster out of its field; the caller ends it.
    fn running(&self) -> Result<Child, Error> {
        let mut postmaster = self.postmaster().take().ok_or(Error::NotRunning)?;
        match postmaster.try_wait() {
            Ok(None) => Ok(postmaster),
            _ => Err(Error::NotRunning),
        }
    }

    /// Process id of the postmaster while it runs.
    pub(crate) fn pid(&self) -> Option<i32> {
        let mut postmaster = self.postmaster();
        let child = postmaster.as_mut()?;
        matches!(child.try_wait(), Ok(None)).then(|| id(child))
    }

    fn postmaster(&self) -> MutexGuard<'_, Option<Child>> {
        self.postmaster.lock()
    }

    fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    fn initialise(&self) -> Result<(), Error> {
        let mut initdb = self.command("initdb");
        initdb.arg("--pgdata").arg(self.data());
        initdb.args(["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-instructions"]);
        // Only the creation of the empty cluster goes unsynced; the server's own fsync stays on.
        process::run(initdb.arg("--no-sync")).map(drop)
    }

    fn configure(&self, setup: &Setup) -> Result<(), Error> {
        let file = self.data().join("postgresql.conf");
        let mut settings = fs::read_to_string(&file).map_err(Error::io("cannot read postgresql.conf"))?;
        let sockets = if self.folder.as_os_str().as_bytes().len() <= SOCKET_FOLDER_MAX {
            self.folder.as_path()
        } else {
            Path::new("")
        };
        let _ = write!(
            settings,
            "\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '{}'\nmax_connections = 300\n\
             fsync = on\nsynchronous_commit = on\nfull_page_writes = on\ntimezone = 'UTC'\nlog_timezone = 'UTC'\n",
            sockets.display().to_string().replace('\'', "''"),
        );
        for (name, value) in &setup.settings {
            let _ = writeln!(settings, "{name} = '{}'", value.replace('\'', "''"));
        }
        fs::write(&file, settings).map_err(Error::io("cannot write postgresql.conf"))
    }

    fn start_on_a_free_port(&mut self) -> Result<(), Error> {
        for _ in 1..PORT_TRIES {
            self.port = free_port()?;
            match self.launch() {
                Err(Error::Program { output, .. }) if output.contains("Address already in use") => {}
                other => return other,
            }
        }
        self.port = free_port()?;
        self.launch()
    }

    /// Starts the server and waits until it accepts connections. It is a child of this process, not of `pg_ctl`: only a
    /// parent can reap what it killed, and PostgreSQL takes an unreaped process for one that still runs.
    fn launch(&self) -> Result<(), Error> {
        let log = self.folder.join("server.log");
        let open = || File::options().create(true).append(true).open(&log);
        let (out, err) =
            open().and_then(|file| Ok((file.try_clone()?, file))).map_err(Error::io("cannot write a log"))?;
        let start = err.metadata().map_or(0, |metadata| metadata.len());
        let mut command = self.command("postgres");
        command.arg("-D").arg(self.data()).arg("-p").arg(self.port.to_string());
        // A process group of its own, because Ctrl-C would end the terminal's foreground group before the tests.
        command.process_group(0).stdin(Stdio::null()).stdout(out).stderr(err);
        let mut child = command.spawn().map_err(Error::io("cannot run postgres"))?;
        let deadline = Instant::now() + READY_WITHIN;
        while !self.is_ready(&child) {
            let ended = child.try_wait().map_err(Error::io("cannot wait for PostgreSQL"))?;
            let status = match ended {
                Some(status) => status.to_string(),
                None if Instant::now() > deadline => {
                    let _ = child.kill().and_then(|()| child.wait());
                    format!("not ready within {} s", READY_WITHIN.as_secs())
                }
                None => {
                    std::thread::sleep(Duration::from_millis(10));
                    continue;
                }
            };
            let output = fs::read(&log).unwrap_or_default();
            let new = output.get(usize::try_from(start).unwrap_or(0)..).unwrap_or_default();
            let output = String::from_utf8_lossy(new).into_owned();
            return Err(Error::Program { program: "postgres".to_owned(), status, output });
        }
        *self.postmaster() = Some(child);
        Ok(())
    }

    /// True if this very process has written that it accepts connections.
    fn is_ready(&self, postmaster: &Child) -> bool {
        let text = fs::read_to_string(self.data().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.first() == Some(&postmaster.id().to_string().as_str()) && lines.get(7) == Some(&"ready")
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.binaries.path(program));
        command.current_dir(&self.folder).env("LC_ALL", "C").env_remove("PGDATA").env_remove("PGPORT");
        if let Some(Account { uid, gid }) = self.account {
            command.uid(uid).gid(gid);
        }
        command
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        self.watchdog.finish();
        if let Some(mut postmaster) = self.postmaster().take() {
            let _ = postmaster.wait();
        }
    }
}

/// The account to run under; `None` unless this process is root.
pub(crate) fn account() -> Result<Option<Account>, Error> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        let id = |flag| process::run(Command::new("id").args([flag, name])).ok()?.trim().parse().ok();
        if let (Some(uid), Some(gid)) = (id("-u"), id("-g")) {
            return Ok(Some(Account { uid, gid }));
        }
    }
    Err(Error::NoAccount)
}

fn id(child: &Child) -> i32 {
    // Process ids of Linux end at 2^22.
    i32::try_from(child.id()).unwrap_or(i32::MAX)
}

pub(crate) fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::io("no free port on 127.0.0.1"))?;
    Ok(listener.local_addr().map_err(Error::io("no free port on 127.0.0.1"))?.port())
}
