//! Handler that runs a job as a shell command.

use std::{
    io,
    os::unix::process::ExitStatusExt as _,
    pin::{Pin, pin},
    process::ExitStatus,
    time::Duration,
};

use async_trait::async_trait;
use jobqueue_worker::{Context, Handler, HandlerError, HandlerResult};

use crate::{
    capture::{Head, Tail},
    exec::{exit_status, guarded_command::GuardedCommand, guardian_protocol::Event, processes},
    shortage,
};

/// Time for which output is still read after the shell has ended, while a process that it started holds its pipes.
const OUTPUT_GRACE: Duration = Duration::from_secs(1);
/// Time limit of an attempt of a job that sets no `attempt_timeout`, unless --attempt-timeout is given.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_hours(1);
const CANNOT_START: &str = "cannot start the command";

pub(crate) struct Exec {
    command: String,
    attempt_timeout: Option<Duration>,
}

impl Exec {
    /// Handler that runs `command`; `attempt_timeout` applies to jobs that set none.
    pub(crate) fn new(command: String, attempt_timeout: Option<Duration>) -> Self {
        Self { command, attempt_timeout }
    }
}

#[async_trait]
impl Handler for Exec {
    fn default_attempt_timeout(&self) -> Option<Duration> {
        self.attempt_timeout
    }

    async fn handle(&self, context: Context) -> HandlerResult {
        let cannot_start = |error: io::Error| {
            shortage::snooze(CANNOT_START, &error)
                .unwrap_or_else(|| HandlerError::retry(format!("{CANNOT_START}: {error}")))
        };
        let mut command = GuardedCommand::spawn(&self.command, &context).map_err(cannot_start)?;
        let (stdout, stderr) = (command.guardian.stdout.take(), command.guardian.stderr.take());
        let shell = command.start(context.payload_json()).await.map_err(cannot_start)?;
        let (mut output, mut errors) = (Head::default(), Tail::default());
        let (status, was_stopped) = {
            let reading = async {
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
                );
            };
            let mut pipes = Pipes { reading: pin!(reading), are_open: true };
            let (event, was_stopped) = wait_for_shell(&mut command, &mut pipes, &context).await;
            let Ok(Event::Ended(status)) = event else {
                // The command's processes have another parent now: only its process group can be killed.
                processes::kill_group(shell);
                return Err(HandlerError::retry("the process that guards the command was killed"));
            };
            end_other_processes(&mut command, &mut pipes, &context, was_stopped).await;
            (ExitStatus::from_raw(status), was_stopped)
        };
        if was_stopped {
            // Many programs exit with 0 on SIGTERM: that says nothing about the work.
            return Err(HandlerError::retry(format!("stopped, {}", exit_status::describe(status))));
        }
        exit_status::verdict(status, output.into_output(), &errors.text())
    }
}

/// Output pipes of a command. They close when no process holds them any more.
struct Pipes<'a, Reading> {
    reading: Pin<&'a mut Reading>,
    are_open: bool,
}

impl<Reading: Future<Output = ()>> Pipes<'_, Reading> {
    /// Reads until the pipes close. Never returns if they are closed already.
    async fn read(&mut self) {
        if !self.are_open {
            std::future::pending::<()>().await;
        }
        self.reading.as_mut().await;
        self.are_open = false;
    }
}

/// Reads output until the guardian reports that the shell has ended. Stops the command when its job is cancelled; then
/// the second value is true.
async fn wait_for_shell(
    command: &mut GuardedCommand,
    pipes: &mut Pipes<'_, impl Future<Output = ()>>,
    context: &Context,
) -> (io::Result<Event>, bool) {
    let mut was_stopped = false;
    loop {
        tokio::select! {
            event = command.next_event() => return (event, was_stopped),
            () = pipes.read() => {}
            () = context.cancelled(), if !was_stopped => {
                was_stopped = true;
                command.stop().await;
            }
        }
    }
}

/// Ends the processes that the shell has left behind, unless the command `was_stopped` already: at once when none of
/// them holds an output pipe, otherwise after [`OUTPUT_GRACE`]. Returns when the guardian has ended.
async fn end_other_processes(
    command: &mut GuardedCommand,
    pipes: &mut Pipes<'_, impl Future<Output = ()>>,
    context: &Context,
    was_stopped: bool,
) {
    let mut is_asked = was_stopped;
    let mut late = pin!(tokio::time::sleep(OUTPUT_GRACE));
    let guardian = loop {
        let are_open = pipes.are_open;
        let due = async {
            tokio::select! {
                () = context.cancelled() => {}
                () = &mut late, if are_open => {}
                () = std::future::ready(()), if !are_open => {}
            }
        };
        tokio::select! {
            ended = command.guardian.wait() => break ended,
            () = pipes.read() => {}
            () = due, if !is_asked => {
                is_asked = true;
                command.stop().await;
            }
        }
    };
    if !guardian.is_ok_and(|status| status.success()) {
        tracing::warn!(job_id = context.job_id(), "processes that a command started could not be killed");
    }
    if pipes.are_open {
        let _ = tokio::time::timeout(OUTPUT_GRACE, pipes.read()).await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        path::{Path, PathBuf},
        time::Instant,
    };

    use jobqueue_worker::{Job, Output, StopReason, limits};

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
