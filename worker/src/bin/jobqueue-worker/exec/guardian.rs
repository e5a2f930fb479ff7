//! Guardian: a process between the worker and a command, which ends everything that the command has started.
//!
//! The worker starts its own program once more for each command, as a child subreaper: processes whose parents have
//! ended become children of the guardian, whatever process group or session they have moved to. So no process is left
//! when the guardian has ended. A worker that dies, even by SIGKILL, takes its commands along, because the socket
//! between the two closes.

use std::{
    ffi::OsString,
    io,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{net::UnixStream as StdStream, process::CommandExt as _},
    },
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Resource, Rlimit, Signal, WaitOptions},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixStream, unix::pipe},
    signal::unix::{SignalKind, signal},
    time::Instant,
};

use crate::{
    exec::{
        guardian_protocol::{Event, GRACE, Header},
        processes,
    },
    signals,
};

/// First argument of a guardian; the second is the command.
pub(crate) const ARGUMENT: &str = "__guard-command";
/// Time after the first SIGKILL until the guardian gives up on processes that do not end: those of another user, and
/// those that hang in the kernel.
const KILL_TIME: Duration = Duration::from_secs(1);
/// Interval at which SIGKILL is sent again to remaining descendants; processes that they start meanwhile would escape
/// otherwise.
const KILL_INTERVAL: Duration = Duration::from_millis(20);

/// Main function of a guardian. Its standard input is the socket to the worker; its output streams are the command's.
pub(crate) fn main(command: &OsString) -> ExitCode {
    let guarded = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .and_then(|runtime| runtime.block_on(guard(command)));
    if guarded.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs the command until neither it nor anything that it has started is left.
async fn guard(command: &OsString) -> io::Result<()> {
    // The guardian ignores stop signals: a signal to all programs of this name also stops the worker, which stops this
    // guardian in time.
    let _ignored = signals::stopping()?;
    let mut child_ended = signal(SignalKind::child())?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    let mut worker = worker()?;

    let header = Header::read(&mut worker).await?;
    let mut payload = vec![0; usize::try_from(header.payload_bytes).map_err(io::Error::other)?];
    worker.read_exact(&mut payload).await?;
    limit_open_files(header.open_files);

    let started =
        Command::new("sh").arg("-c").arg(command).stdin(Stdio::piped()).process_group(0).spawn().and_then(|mut it| {
            let stdin = it.stdin.take().map(|stdin| pipe::Sender::from_owned_fd(OwnedFd::from(stdin))).transpose()?;
            Ok((it.id(), stdin))
        });
    let (id, stdin) = match started {
        Ok(started) => started,
        Err(error) => {
            let errno = error.raw_os_error().unwrap_or(Errno::IO.raw_os_error());
            return worker.write_all(&Event::Failed(errno).encode()).await;
        }
    };
    let shell = i32::try_from(id).map_err(io::Error::other)?;
    // The guardian closes its copies of the output pipes, so that these end with the last process that writes to them.
    let nowhere = std::fs::OpenOptions::new().write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdout(&nowhere)?;
    rustix::stdio::dup2_stderr(&nowhere)?;
    let _ = worker.write_all(&Event::Started(shell).encode()).await;

    let feeding = async {
        if let Some(mut stdin) = stdin {
            // The command may end, or close its input, before it has read all of it.
            let _ = stdin.write_all(&payload).await;
        }
    };
    tokio::pin!(feeding);
    let (mut fed, mut connected) = (false, true);
    // Times at which SIGKILL is due, and at which the guardian gives up.
    let mut kill_at: Option<Instant> = None;
    let mut give_up_at: Option<Instant> = None;
    loop {
        let mut request = [0; 1];
        tokio::select! {
            biased;
            _ = child_ended.recv() => if !reap(shell, &mut worker).await? {
                return Ok(());
            },
            read = worker.read(&mut request), if connected => if let Ok(1..) = read {
                if kill_at.is_none() {
                    processes::signal_descendants(shell, Signal::TERM);
                    kill_at = Some(Instant::now() + GRACE);
                }
            } else {
                connected = false;
                kill_at = Some(Instant::now());
            },
            () = sleep_until(kill_at) => {
                processes::signal_descendants(shell, Signal::KILL);
                let now = Instant::now();
                if now >= *give_up_at.get_or_insert(now + KILL_TIME) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                kill_at = Some(now + KILL_INTERVAL);
            }
            () = &mut feeding, if !fed => fed = true,
        }
    }
}

/// Socket to the worker, which was passed as standard input; /dev/null replaces it there.
fn worker() -> io::Result<UnixStream> {
    let stream = StdStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    stream.set_nonblocking(true)?;
    UnixStream::from_std(stream)
}

/// Sets the soft limit of open files, which the command inherits.
fn limit_open_files(soft: u64) {
    if soft != u64::MAX {
        let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
        // An error is ignored: a command runs with the worker's limit as well.
        let _ = rustix::process::setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum });
    }
}

/// Reaps every child that has ended. False when no child is left, and therefore no descendant.
async fn reap(shell: i32, worker: &mut UnixStream) -> io::Result<bool> {
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid.as_raw_pid() == shell => {
                // An error means that the worker has died, and is ignored.
                let _ = worker.write_all(&Event::Ended(status.as_raw()).encode()).await;
            }
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) => return Ok(true),
            Err(Errno::CHILD) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
}

async fn sleep_until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}
