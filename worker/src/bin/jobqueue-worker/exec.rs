//! Handler that runs a job as a shell command, under a guardian process that ends everything the command has started.

use std::{
    io,
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream as StdStream, process::ExitStatusExt as _},
    },
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use jobqueue_worker::{Context, Handler, HandlerError, HandlerResult, Output};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    process::{Child, Command},
};

use crate::{
    capture::{Head, Tail},
    guardian::{self, Event, Header},
    open_files,
    processes::Own,
};

/// Time for which output is still read after the shell has ended, while a process that it started holds its pipes.
const AFTERGLOW: Duration = Duration::from_secs(1);
/// Time limit of an attempt of a job that sets no `attempt_timeout`, unless --attempt-timeout is given.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_hours(1);
/// Exit status of a permanent failure. It is `EX_DATAERR` of sysexits.h: the input is wrong, and will be wrong again.
const PERMANENT: i32 = 65;
const CANNOT_START: &str = "cannot start the command";

pub(crate) struct Exec {
    command: String,
    attempt_timeout: Option<Duration>,
}

/// Guardian of a running command, and the socket to it. Dropping this closes the socket, upon which the guardian kills
/// the command and everything that it has started.
struct Guarded {
    guardian: Child,
    control: UnixStream,
    _own: Own,
}

impl Exec {
    /// Handler that runs `command`; `attempt_timeout` applies to jobs that set none.
    pub(crate) fn new(command: String, attempt_timeout: Option<Duration>) -> Self {
        Self { command, attempt_timeout }
    }

    fn spawn(&self, context: &Context) -> io::Result<Guarded> {
        let job = context.job();
        let (ours, theirs) = StdStream::pair()?;
        ours.set_nonblocking(true)?;
        let control = UnixStream::from_std(ours)?;
        let mut command = Command::new(program());
        command
            .arg0("jobqueue-worker")
            .arg(guardian::ARGUMENT)
            .arg(&self.command)
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
        let (guardian, own) = Own::spawned(|| {
            let child = command.spawn()?;
            let pid = child.id().and_then(|id| i32::try_from(id).ok()).unwrap_or_default();
            Ok::<_, io::Error>((child, pid))
        })?;
        Ok(Guarded { guardian, control, _own: own })
    }
}

/// Path of this program's executable, valid also when its file has been replaced since the start.
fn program() -> std::path::PathBuf {
    #[cfg(test)]
    return tests::program();
    #[cfg(not(test))]
    "/proc/self/exe".into()
}

impl Guarded {
    /// Sends the payload, upon which the guardian starts the command. Returns the process id of its shell.
    async fn start(&mut self, payload: &str) -> io::Result<i32> {
        let header = Header { payload_bytes: payload.len() as u64, open_files: open_files::for_commands() };
        self.control.write_all(&header.encode()).await?;
        self.control.write_all(payload.as_bytes()).await?;
        match self.event().await? {
            Event::Started(shell) => Ok(shell),
            Event::Failed(errno) => Err(io::Error::from_raw_os_error(errno)),
            Event::Ended(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    async fn event(&mut self) -> io::Result<Event> {
        let mut event = [0; 5];
        self.control.read_exact(&mut event).await?;
        Event::decode(event)
    }

    /// Asks the guardian to end the command. An error means that the guardian is gone, and is ignored.
    async fn stop(&mut self) {
        let _ = self.control.write_all(guardian::STOP).await;
    }
}

#[async_trait]
impl Handler for Exec {
    fn default_attempt_timeout(&self) -> Option<Duration> {
        self.attempt_timeout
    }

    async fn handle(&self, context: Context) -> HandlerResult {
        let cannot_start = |error: io::Error| {
            open_files::shortage(CANNOT_START, &error)
                .unwrap_or_else(|| HandlerError::retry(format!("{CANNOT_START}: {error}")))
        };
        let mut guarded = self.spawn(&context).map_err(cannot_start)?;
        let (stdout, stderr) = (guarded.guardian.stdout.take(), guarded.guardian.stderr.take());
        let shell = guarded.start(context.payload_json()).await.map_err(cannot_start)?;
        let (mut output, mut errors) = (Head::default(), Tail::default());
        let status = {
            let pipes = async {
                tokio::join!(
                    async {
                        if let Some(stdout) = stdout {
                            output.fill(stdout).await;
                        }
                    },
                    async {
                        if let Some(stderr) = stderr {
                            errors.fill(stderr).await;
                        }
                    },
                )
            };
            tokio::pin!(pipes);
            let (mut flowing, mut stopped) = (true, false);
            // `read_exact` is not cancel safe, but the guardian writes the five bytes of an event in one piece.
            let mut event = [0; 5];
            let status = loop {
                tokio::select! {
                    ended = guarded.control.read_exact(&mut event) => break ended.and_then(|_| Event::decode(event)),
                    _ = &mut pipes, if flowing => flowing = false,
                    () = context.cancelled(), if !stopped => {
                        stopped = true;
                        guarded.stop().await;
                    }
                }
            };
            let Ok(Event::Ended(status)) = status else {
                // The command's processes have another parent now: only its process group can be killed.
                guardian::kill_group(shell);
                return Err(HandlerError::retry("the process that guards the command was killed"));
            };
            // The shell has ended. Processes that it started are ended now: at once when none of them holds an output
            // pipe, otherwise after AFTERGLOW.
            let (was_stopped, mut asked) = (stopped, stopped);
            let late = tokio::time::sleep(AFTERGLOW);
            tokio::pin!(late);
            let guardian = loop {
                tokio::select! {
                    ended = guarded.guardian.wait() => break ended,
                    _ = &mut pipes, if flowing => flowing = false,
                    () = context.cancelled(), if !asked => {
                        asked = true;
                        guarded.stop().await;
                    }
                    () = &mut late, if !asked && flowing => {
                        asked = true;
                        guarded.stop().await;
                    }
                    () = std::future::ready(()), if !asked && !flowing => {
                        asked = true;
                        guarded.stop().await;
                    }
                }
            };
            if !guardian.is_ok_and(|status| status.success()) {
                tracing::warn!(job_id = context.job_id(), "processes that a command started could not be killed");
            }
            if flowing {
                let _ = tokio::time::timeout(AFTERGLOW, &mut pipes).await;
            }
            (ExitStatus::from_raw(status), was_stopped)
        };
        let (status, stopped) = status;
        if stopped {
            // Many programs exit with 0 on SIGTERM: that says nothing about the work.
            return Err(HandlerError::retry(format!("stopped, {}", describe(status))));
        }
        verdict(status, output.into_output(), &errors.text())
    }
}

fn verdict(status: ExitStatus, output: Output, errors: &str) -> HandlerResult {
    if status.success() {
        return Ok(output);
    }
    let text = describe(status);
    let text = if errors.is_empty() { text } else { format!("{text}: {errors}") };
    Err(if status.code() == Some(PERMANENT) { HandlerError::permanent(text) } else { HandlerError::retry(text) })
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        // A shell exits with 128 + n when its command died by signal n.
        (Some(code @ 129..=159), _) if signal_name(code - 128).is_some() => {
            format!("exit status {code} ({})", signal_name(code - 128).unwrap_or_default())
        }
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => {
            signal_name(signal).map_or_else(|| format!("killed by signal {signal}"), |name| format!("killed by {name}"))
        }
        (None, None) => status.to_string(),
    }
}

fn signal_name(signal: i32) -> Option<&'static str> {
    const NAMES: [(Signal, &str); 14] = [
        (Signal::HUP, "SIGHUP"),
        (Signal::INT, "SIGINT"),
        (Signal::QUIT, "SIGQUIT"),
        (Signal::ILL, "SIGILL"),
        (Signal::TRAP, "SIGTRAP"),
        (Signal::ABORT, "SIGABRT"),
        (Signal::BUS, "SIGBUS"),
        (Signal::FPE, "SIGFPE"),
        (Signal::KILL, "SIGKILL"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::PIPE, "SIGPIPE"),
        (Signal::ALARM, "SIGALRM"),
        (Signal::TERM, "SIGTERM"),
        (Signal::XCPU, "SIGXCPU"),
    ];
    NAMES.iter().find(|(known, _)| known.as_raw() == signal).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use std::{
        path::{Path, PathBuf},
        sync::OnceLock,
        time::Instant,
    };

    use jobqueue_worker::{Job, StopReason, limits};

    use super::*;

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

    fn job(payload_json: impl Into<String>) -> Job {
        let created_at = Some(jobqueue_shared::time::timestamp(1_700_000_000_123));
        Job {
            id: "0192f5a6-1000-7000-8000-000000000000".to_owned(),
            worker_id: "worker-1a".to_owned(),
            task: "email".to_owned(),
            payload_json: payload_json.into(),
            attempt_count: 2,
            max_retries: 5,
            priority: 5,
            created_at,
            ..Job::default()
        }
    }

    async fn run(command: &str, payload: impl Into<String>) -> HandlerResult {
        Exec::new(command.to_owned(), None).handle(Context::detached(job(payload))).await
    }

    async fn error(command: &str) -> String {
        run(command, "{}").await.unwrap_err().to_string()
    }

    #[tokio::test]
    async fn the_payload_comes_in_and_the_result_goes_out() {
        assert_eq!(run("cat", r#"{"a":"ü"}"#).await.unwrap(), Output::json(r#"{"a":"ü"}"#));
        assert_eq!(run("echo hello", "{}").await.unwrap(), Output::json("\"hello\""));
        assert_eq!(run("true", "{}").await.unwrap(), Output::none());
        assert_eq!(run("printf 'a\\0b'", "{}").await.unwrap(), Output::json("\"a\\u0000b\""));
    }

    #[tokio::test]
    async fn the_facts_are_in_the_environment() {
        let command = "echo $JOBQUEUE_JOB_ID $JOBQUEUE_TASK $JOBQUEUE_WORKER_ID $JOBQUEUE_ATTEMPT \
                       $JOBQUEUE_MAX_RETRIES $JOBQUEUE_PRIORITY $JOBQUEUE_CREATED_AT ${JOBQUEUE_DEADLINE-none}";
        let facts = "0192f5a6-1000-7000-8000-000000000000 email worker-1a 2 5 5 2023-11-14T22:13:20.123Z none";
        assert_eq!(run(command, "{}").await.unwrap(), Output::json(format!("\"{facts}\"")));
    }

    #[tokio::test]
    async fn a_command_that_does_not_read_does_not_hang() {
        let large = format!("\"{}\"", "x".repeat(1_000_000));
        assert_eq!(run("echo 1", &large).await.unwrap(), Output::json("1"));
        assert_eq!(run("exec <&-; echo 1", &large).await.unwrap(), Output::json("1"));
        // The command writes all of its output before it reads.
        let output = run("head -c 1000000 /dev/zero | tr '\\0' x; cat >/dev/null", &large).await.unwrap();
        assert_eq!(output, Output::too_large(1_000_000));
    }

    #[tokio::test]
    async fn exit_statuses_and_signals_are_told_apart() {
        assert_eq!(error("echo bad >&2; exit 3").await, "exit status 3: bad");
        assert_eq!(error("exit 75").await, "exit status 75");
        assert_eq!(error("kill -9 $$").await, "killed by SIGKILL");
        assert!(error("sh -c 'kill -TERM $$'; exit $?").await.starts_with("exit status 143 (SIGTERM)"));
        assert!(error("no-such-command-anywhere").await.starts_with("exit status 127: "));
        let long = error("head -c 100000 /dev/zero | tr '\\0' x >&2; echo the end >&2; exit 1").await;
        assert!(long.starts_with("exit status 1: …xxx") && long.ends_with("xthe end"), "{long}");
        assert!(long.len() <= limits::ERROR);
        let permanent = run("exit 65", "{}").await.unwrap_err();
        assert!(format!("{permanent:?}").contains("Permanent"), "{permanent:?}");
    }

    #[tokio::test]
    async fn a_cancelled_command_gets_sigterm_with_all_that_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let [ready, ended] = ["ready", "ended"].map(|name| folder.path().join(name));
        let command = format!(
            "(trap 'echo child > {ended}; exit 0' TERM; touch {ready}; while :; do sleep 0.01; done) & wait; exit 0",
            ended = ended.display(),
            ready = ready.display()
        );
        let context = Context::detached(job("{}"));
        let handler = Exec::new(command, None);
        let running = handler.handle(context.clone());
        let stopping = async {
            until(&ready).await;
            context.cancel(StopReason::Cancelled);
        };
        let (result, ()) = tokio::join!(running, stopping);
        // A cancelled command does not complete its job, although it exits with 0 here.
        assert!(result.unwrap_err().to_string().starts_with("stopped, "));
        until(&ended).await;
    }

    #[tokio::test]
    async fn a_command_that_ignores_sigterm_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let context = Context::detached(job("{}"));
        let handler = Exec::new(format!("trap '' TERM; touch {}; while :; do sleep 0.01; done", ready.display()), None);
        let stopping = async {
            until(&ready).await;
            context.cancel(StopReason::ShuttingDown);
        };
        let (result, ()) = tokio::join!(handler.handle(context.clone()), stopping);
        assert_eq!(result.unwrap_err().to_string(), "stopped, killed by SIGKILL");
    }

    #[tokio::test]
    async fn dropping_the_handler_kills_the_whole_group() {
        let folder = tempfile::tempdir().unwrap();
        let id = folder.path().join("id");
        let temporary = folder.path().join("temporary");
        // The child writes its process id to a file that appears in one step.
        let command = format!(
            "sh -c 'echo $$ > {temporary}; mv {temporary} {id}; exec sleep 1000' & wait",
            temporary = temporary.display(),
            id = id.display()
        );
        let handler = Exec::new(command, None);
        tokio::select! {
            _ = handler.handle(Context::detached(job("{}"))) => panic!("it cannot end"),
            () = until(&id) => {}
        }
        gone(process_in(&id)).await;
    }

    #[tokio::test]
    async fn what_holds_the_pipes_in_the_background_does_not_hold_the_job() {
        assert_eq!(run("echo 1; sleep 1000 &", "{}").await.unwrap(), Output::json("1"));
    }

    /// Shell command that starts a background process which ignores SIGTERM and holds no pipe, and the path of the file
    /// to which that process writes its id.
    fn leaves(folder: &Path, how: &str) -> (String, PathBuf) {
        let (id, temporary) = (folder.join("id"), folder.join("temporary"));
        let child = format!(
            "trap \"\" TERM; echo $$ > {temporary}; mv {temporary} {id}; exec sleep 1000",
            temporary = temporary.display(),
            id = id.display()
        );
        let command = format!(
            "{how} sh -c '{child}' >/dev/null 2>&1 <&- & while [ ! -e {id} ]; do sleep 0.01; done",
            id = id.display()
        );
        (command, id)
    }

    fn process_in(file: &Path) -> i32 {
        std::fs::read_to_string(file).unwrap().trim().parse().unwrap()
    }

    #[tokio::test]
    async fn nothing_that_a_command_started_outlives_its_job() {
        for how in ["", "setsid", "setsid setsid"] {
            let folder = tempfile::tempdir().unwrap();
            let (command, id) = leaves(folder.path(), how);
            assert_eq!(run(&format!("{command}; echo 1"), "{}").await.unwrap(), Output::json("1"));
            assert!(!is_running(process_in(&id)), "{how}");
        }
    }

    #[tokio::test]
    async fn a_child_that_ignores_sigterm_is_killed_although_the_shell_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let (command, id) = leaves(folder.path(), "");
        let context = Context::detached(job("{}"));
        // SIGTERM ends the shell, but not the process that it has started.
        let handler = Exec::new(format!("{command}; sleep 1000"), None);
        let stopping = async {
            until(&id).await;
            context.cancel(StopReason::TimedOut);
        };
        let (result, ()) = tokio::join!(handler.handle(context.clone()), stopping);
        assert_eq!(result.unwrap_err().to_string(), "stopped, killed by SIGTERM");
        assert!(!is_running(process_in(&id)));
    }

    #[tokio::test]
    async fn dropping_the_handler_kills_what_has_left_the_group() {
        let folder = tempfile::tempdir().unwrap();
        let (command, id) = leaves(folder.path(), "setsid");
        let handler = Exec::new(format!("{command}; sleep 1000"), None);
        tokio::select! {
            _ = handler.handle(Context::detached(job("{}"))) => panic!("it cannot end"),
            () = until(&id) => {}
        }
        gone(process_in(&id)).await;
    }

    async fn gone(process: i32) {
        let late = Instant::now() + Duration::from_secs(10);
        while is_running(process) {
            assert!(Instant::now() < late, "process {process} still runs");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn until(path: &Path) {
        let late = Instant::now() + Duration::from_secs(10);
        while !path.exists() {
            assert!(Instant::now() < late, "{} does not appear", path.display());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// True while the process exists and is no zombie.
    fn is_running(process: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{process}/stat"))
            .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
    }
}
