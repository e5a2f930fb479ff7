//! Command under a guardian, from the worker's side: starts the guardian, hands it the payload, and hears from it.

use std::{
    io,
    os::{fd::OwnedFd, unix::net::UnixStream as StdStream},
    path::PathBuf,
    process::Stdio,
};

use jobqueue_worker::Context;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, Command},
};

use crate::{
    exec::{
        guardian,
        guardian_protocol::{self, Event, Header},
        orphans::OwnChild,
    },
    open_files,
};

/// Command under its guardian: the guardian's process, and the socket to it. Dropping this closes the socket, upon
/// which the guardian kills the command and everything that it has started.
pub(crate) struct GuardedCommand {
    pub(crate) guardian: Child,
    control: UnixStream,
    _own_child: OwnChild,
}

impl GuardedCommand {
    /// Starts a guardian for a command. The command itself does not start yet.
    pub(crate) fn spawn(command_line: &str, context: &Context) -> io::Result<Self> {
        let job = context.job();
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let control = UnixStream::from_std(ours)?;
        let mut command = Command::new(program());
        command
            .arg0("jobqueue-worker")
            .arg(guardian::ARGUMENT)
            .arg(command_line)
            .env("JOBQUEUE_JOB_ID", context.job_id())
            .env("JOBQUEUE_TASK", context.task())
            .env("JOBQUEUE_WORKER_ID", context.worker_id())
            .env("JOBQUEUE_ATTEMPT", context.attempt().to_string())
            .env("JOBQUEUE_MAX_RETRIES", context.max_retries().to_string())
            .env("JOBQUEUE_PRIORITY", job.priority.to_string())
            .env_remove("JOBQUEUE_CREATED_AT")
            .env_remove("JOBQUEUE_DEADLINE")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A process group of its own: Ctrl-C in a terminal reaches only the worker, which decides about its jobs.
            .process_group(0);
        if let Some(created_at) = job.created_at {
            command.env("JOBQUEUE_CREATED_AT", created_at.to_string());
        }
        if let Some(deadline) = context.deadline() {
            command.env("JOBQUEUE_DEADLINE", deadline.to_string());
        }
        let (guardian, own_child) = OwnChild::spawned(|| {
            let child = command.spawn()?;
            let pid = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
            Ok::<_, io::Error>((child, pid))
        })?;
        Ok(Self { guardian, control, _own_child: own_child })
    }

    /// Sends the payload, upon which the guardian starts the command. Returns the process id of its shell.
    pub(crate) async fn start(&mut self, payload: &str) -> io::Result<i32> {
        let header = Header { payload_bytes: payload.len() as u64, open_files: open_files::for_commands() };
        self.control.write_all(&header.encode()).await?;
        self.control.write_all(payload.as_bytes()).await?;
        match self.next_event().await? {
            Event::Started(shell) => Ok(shell),
            Event::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
            Event::Ended(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Waits for the next message of the guardian. Dropping the future in between loses nothing: `read_exact` is not
    /// cancel safe in general, but the guardian writes the five bytes of an event in one piece.
    pub(crate) async fn next_event(&mut self) -> io::Result<Event> {
        let mut event = [0; 5];
        self.control.read_exact(&mut event).await?;
        Event::decode(event)
    }

    /// Asks the guardian to end the command. An error means that the guardian is gone, and is ignored.
    pub(crate) async fn stop(&mut self) {
        let _ = self.control.write_all(guardian_protocol::STOP).await;
    }
}

/// Path of this program's executable, valid also when its file has been replaced since the start.
fn program() -> PathBuf {
    #[cfg(test)]
    return tests::program();
    #[cfg(not(test))]
    "/proc/self/exe".into()
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, sync::OnceLock};

    /// Path of the worker program: JOBQUEUE_WORKER_BIN, or else a build made now. The current executable is the test.
    pub(super) fn program() -> PathBuf {
        static BUILT: OnceLock<PathBuf> = OnceLock::new();
        let build = || {
            if let Some(given) = std::env::var_os("JOBQUEUE_WORKER_BIN") {
                return given.into();
            }
            let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
            // With the features of `cargo test --workspace`, so that little is compiled twice.
            let args = ["build", "--quiet", "--workspace", "--features", "jobqueue-server/failpoints", "--bins"];
            let built =
                std::process::Command::new(cargo).args(args).current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
            assert!(built.success());
            let test = std::env::current_exe().unwrap();
            test.ancestors().nth(2).unwrap().join("jobqueue-worker")
        };
        BUILT.get_or_init(build).clone()
    }
}
