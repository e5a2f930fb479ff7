//! Runs a job as a shell command in a process group of its own.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use async_trait::async_trait;
use jobqueue_worker::{Context, Handler, HandlerError, HandlerResult, Output};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, ChildStdin, Command},
};

use crate::capture::{Head, Tail};

/// Between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(5);
/// How long output may still come when the command has ended but something that it started holds its pipes.
const AFTERGLOW: Duration = Duration::from_secs(1);
/// `EX_DATAERR` of sysexits.h: the input is wrong, and will be wrong again.
const PERMANENT: i32 = 65;

pub(crate) struct Exec {
    command: String,
}

impl Exec {
    pub(crate) fn new(command: String) -> Self {
        Self { command }
    }

    fn spawn(&self, context: &Context) -> io::Result<Child> {
        let job = context.job();
        let mut command = Command::new("sh");
        command
            .arg("-c")
            .arg(&self.command)
            .env("JOBQUEUE_JOB_ID", context.job_id())
            .env("JOBQUEUE_TASK", context.task())
            .env("JOBQUEUE_WORKER_ID", context.worker_id())
            .env("JOBQUEUE_ATTEMPT", context.attempt().to_string())
            .env("JOBQUEUE_MAX_RETRIES", context.max_retries().to_string())
            .env("JOBQUEUE_PRIORITY", job.priority.to_string())
            .env_remove("JOBQUEUE_CREATED_AT")
            .env_remove("JOBQUEUE_DEADLINE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        if let Some(created_at) = job.created_at {
            command.env("JOBQUEUE_CREATED_AT", created_at.to_string());
        }
        if let Some(deadline) = context.deadline() {
            command.env("JOBQUEUE_DEADLINE", deadline.to_string());
        }
        command.spawn()
    }
}

#[async_trait]
impl Handler for Exec {
    async fn handle(&self, context: Context) -> HandlerResult {
        let mut child =
            self.spawn(&context).map_err(|error| HandlerError::retry(format!("cannot start the command: {error}")))?;
        let mut group = Group::of(&child);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (mut output, mut errors) = (Head::default(), Tail::default());
        let mut stopped = false;
        let status = {
            // All three at once: a command that writes before it reads, or does not read at all, must not hang.
            let pipes = async {
                tokio::join!(
                    feed(stdin, context.payload_json()),
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
            let mut flowing = true;
            let status = loop {
                tokio::select! {
                    status = child.wait() => break status,
                    _ = &mut pipes, if flowing => flowing = false,
                    () = context.cancelled(), if !stopped => {
                        stopped = true;
                        group.signal(Signal::TERM);
                        group.kill_after(GRACE);
                    }
                    () = group.overdue() => group.signal(Signal::KILL),
                }
            };
            if flowing && tokio::time::timeout(AFTERGLOW, &mut pipes).await.is_err() {
                group.signal(Signal::KILL);
            }
            group.done();
            status
        };
        let status = status.map_err(|error| HandlerError::retry(format!("cannot wait for the command: {error}")))?;
        if stopped {
            // Many programs exit with 0 on SIGTERM: that says nothing about the work.
            return Err(HandlerError::retry(format!("stopped, {}", describe(status))));
        }
        verdict(status, output.into_output(), &errors.text())
    }
}

/// The command may end, or close its input, without having read it.
async fn feed(stdin: Option<ChildStdin>, payload: &str) {
    if let Some(mut stdin) = stdin {
        let _ = stdin.write_all(payload.as_bytes()).await;
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
        // What a shell says of a command that died by a signal.
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

/// The command and all that it started. Killed when dropped before it is done.
struct Group {
    leader: Option<Pid>,
    kill_at: Option<tokio::time::Instant>,
}

impl Group {
    fn of(child: &Child) -> Self {
        let leader = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        Self { leader, kill_at: None }
    }

    fn signal(&mut self, signal: Signal) {
        if let Some(leader) = self.leader {
            // Gone already is what was wanted.
            let _ = kill_process_group(leader, signal);
        }
        self.kill_at = None;
    }

    fn kill_after(&mut self, delay: Duration) {
        self.kill_at = Some(tokio::time::Instant::now() + delay);
    }

    async fn overdue(&self) {
        match self.kill_at {
            Some(time) => tokio::time::sleep_until(time).await,
            None => std::future::pending().await,
        }
    }

    /// The leader has been waited for: its number may soon be somebody else's.
    fn done(&mut self) {
        self.leader = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}

#[cfg(test)]
mod tests {
    use std::{path::Path, time::Instant};

    use jobqueue_worker::{Job, StopReason, limits};

    use super::*;

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
        Exec::new(command.to_owned()).handle(Context::detached(job(payload))).await
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
        // Writes all of its output before it reads.
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
        let handler = Exec::new(command);
        let running = handler.handle(context.clone());
        let stopping = async {
            until(&ready).await;
            context.cancel(StopReason::Cancelled);
        };
        let (result, ()) = tokio::join!(running, stopping);
        // Not done, whatever it exits with.
        assert!(result.unwrap_err().to_string().starts_with("stopped, "));
        until(&ended).await;
    }

    #[tokio::test]
    async fn a_command_that_ignores_sigterm_is_killed() {
        let folder = tempfile::tempdir().unwrap();
        let ready = folder.path().join("ready");
        let context = Context::detached(job("{}"));
        let handler = Exec::new(format!("trap '' TERM; touch {}; while :; do sleep 0.01; done", ready.display()));
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
        // The child says who it is, in one step.
        let command = format!(
            "sh -c 'echo $$ > {temporary}; mv {temporary} {id}; exec sleep 1000' & wait",
            temporary = temporary.display(),
            id = id.display()
        );
        let handler = Exec::new(command);
        tokio::select! {
            _ = handler.handle(Context::detached(job("{}"))) => panic!("it cannot end"),
            () = until(&id) => {}
        }
        let child: i32 = std::fs::read_to_string(&id).unwrap().trim().parse().unwrap();
        let gone = Instant::now() + Duration::from_secs(10);
        while is_running(child) {
            assert!(Instant::now() < gone, "process {child} still runs");
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_holds_the_pipes_in_the_background_does_not_hold_the_job() {
        assert_eq!(run("echo 1; sleep 1000 &", "{}").await.unwrap(), Output::json("1"));
    }

    async fn until(path: &Path) {
        let late = Instant::now() + Duration::from_secs(10);
        while !path.exists() {
            assert!(Instant::now() < late, "{} does not appear", path.display());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A zombie does not run.
    fn is_running(process: i32) -> bool {
        std::fs::read_to_string(format!("/proc/{process}/stat"))
            .is_ok_and(|stat| !stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('Z')))
    }
}
