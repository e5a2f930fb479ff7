//! Command-line arguments of `jobqueue-worker`, checked before anything starts.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use clap::{CommandFactory as _, Parser, ValueEnum, error::ErrorKind};
use jobqueue_shared::settings;
use jobqueue_worker::{BuildError, Tls, Worker};
use tracing_subscriber::EnvFilter;

use crate::{
    exec::handler::{self as exec, Exec},
    http::handler::{self as http, Http},
    open_files,
    simulate::Simulate,
    tls::{self, TlsArgs},
};

/// Runs the jobs that are addressed to one or more worker ids.
///
/// A job runs with the command or the URL that is given for its task. Jobs of other tasks are released, and wait for a
/// worker that handles their task.
#[derive(Debug, Parser)]
#[command(name = "jobqueue-worker", version, after_help = AFTER)]
pub(crate) struct Args {
    /// Worker id whose jobs to run: 1 to 100 bytes. Several workers may share one; they compete for its jobs. May be
    /// given many times: each worker id has a session of its own, and all share one connection.
    #[arg(long = "worker-id", env = "JOBQUEUE_WORKER_ID", value_name = "ID", required = true)]
    worker_ids: Vec<String>,

    /// The server's gRPC address.
    #[arg(long, env = "JOBQUEUE_SERVER", value_name = "URL", default_value = "http://127.0.0.1:50051")]
    server: String,

    #[command(flatten)]
    tls: TlsArgs,

    /// Maximum number of jobs of each worker id that run at once: 1 to 10000.
    #[arg(long, env = "JOBQUEUE_CONCURRENCY", value_name = "JOBS", default_value_t = 10)]
    concurrency: usize,

    /// Time without a heartbeat after which the server gives this worker's jobs to others: 5s to 12h.
    #[arg(long, env = "JOBQUEUE_LEASE_TIME", value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    lease_time: Duration,

    /// Time that running jobs have to finish after SIGTERM. Then they are stopped and released.
    #[arg(long, env = "JOBQUEUE_GRACE", value_name = "TIME", default_value = "30s", value_parser = humantime::parse_duration)]
    grace: Duration,

    /// Time limit of one attempt. By default a job's own attempt_timeout applies, and without one 1h for --exec and
    /// 5min for --http; when this is given, the shorter of the two applies. 0s = only the job's own.
    #[arg(long, env = "JOBQUEUE_ATTEMPT_TIMEOUT", value_name = "TIME", value_parser = humantime::parse_duration)]
    attempt_timeout: Option<Duration>,

    /// At the start, end the sessions of earlier runs of this worker id on this host whose process no longer exists, so
    /// that their jobs start again at once. Not for containers that share a host name.
    #[arg(long, env = "JOBQUEUE_TAKEOVER")]
    takeover: bool,

    /// Run TASK with a shell command. May be given many times.
    #[arg(long, value_name = "TASK=COMMAND", value_parser = pair)]
    exec: Vec<(String, String)>,

    /// Run TASK by posting the payload to a URL. May be given many times.
    #[arg(long, value_name = "TASK=URL", value_parser = target)]
    http: Vec<(String, reqwest::Url)>,

    /// File with the certificates of the authorities that the URLs of --http may have theirs from (PEM), instead of
    /// those that the system trusts.
    #[arg(long, env = "JOBQUEUE_HTTP_CA", value_name = "FILE")]
    http_ca: Option<PathBuf>,

    /// Run every other job with the built-in demonstration.
    #[arg(long, env = "JOBQUEUE_SIMULATE")]
    simulate: bool,

    /// Log format; logs go to standard error.
    #[arg(long, env = "JOBQUEUE_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub(crate) log_format: LogFormat,

    /// Log filter: error, warn, info, debug or trace, or by part: info,jobqueue_worker=debug.
    #[arg(long, env = "JOBQUEUE_LOG", value_name = "FILTER", default_value = "info", value_parser = filter)]
    pub(crate) log: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

const AFTER: &str = "\
Commands (--exec) run through `sh -c`, with the payload on standard input and the job's facts in JOBQUEUE_JOB_ID, \
JOBQUEUE_TASK, JOBQUEUE_WORKER_ID, JOBQUEUE_ATTEMPT, JOBQUEUE_MAX_RETRIES, JOBQUEUE_PRIORITY, JOBQUEUE_CREATED_AT and \
JOBQUEUE_DEADLINE. Exit status 0 is done, with standard output as the result (JSON, or wrapped as a string); 65 fails \
for good; any other is tried again. The end of standard error is the error's text. A job that is cancelled or takes too \
long gets SIGTERM, 5 s later SIGKILL. A job's processes end with the job: what a command leaves in the background, in \
whatever process group or session, gets the same when the command has ended, and SIGKILL when the worker dies.

URLs (--http) get a POST with the payload as its body, the job's id as Idempotency-Key and its facts in Jobqueue-* \
headers. 2xx is done, with the body as the result; 408, 425, 429, 5xx and no answer are tried again, after the time in \
Retry-After if there is one; anything else fails for good. Redirects are not followed. A connection that breaks before \
an answer is replaced by a new one once within an attempt. HTTP_PROXY, HTTPS_PROXY and NO_PROXY count, but never for \
localhost and loopback addresses; the connection to the server uses no proxy.

The limit of open files is raised to the hard one. Where it does not suffice for --concurrency, fewer jobs run at once, \
and a job that could not be started for want of files, processes or memory waits 3 s without using an attempt.

The demonstration (--simulate) takes 100 ms and succeeds. Its payload may ask for \"sleep_ms\": 500, \"fail\": true, \
\"fail_times\": 2 or \"panic\": true.

SIGTERM, SIGINT, SIGHUP or SIGQUIT: take no more jobs, finish what runs, exit 0. Once more: exit at once.";

impl Args {
    /// Parses the command line; ends the process with a message when an argument is invalid.
    pub(crate) fn from_command_line() -> Self {
        let args: Self = settings::parse();
        if let Err(problem) = args.check() {
            fail(&problem);
        }
        args
    }

    fn check(&self) -> Result<(), String> {
        let mut worker_ids = BTreeSet::new();
        if let Some(twice) = self.worker_ids.iter().find(|id| !worker_ids.insert(*id)) {
            return Err(format!("worker id {twice:?} is given twice"));
        }
        let mut tasks = BTreeSet::new();
        for task in self.exec.iter().map(|(task, _)| task).chain(self.http.iter().map(|(task, _)| task)) {
            if !tasks.insert(task) {
                return Err(format!("task {task:?} is given twice; one --exec or --http for each task"));
            }
        }
        if tasks.is_empty() && !self.simulate {
            return Err("there is nothing to run: give --exec, --http or --simulate".to_owned());
        }
        Ok(())
    }

    /// Builds a worker for each worker id; ends the process with a message when a setting is invalid.
    pub(crate) fn workers(&self) -> Vec<Worker> {
        self.build_all().unwrap_or_else(|error| fail(&format!("{}{error:#}", setting(&error))))
    }

    fn build_all(&self) -> anyhow::Result<Vec<Worker>> {
        let concurrency = self.concurrency.min((self.most_at_once() / self.worker_ids.len()).max(1));
        if concurrency < self.concurrency {
            tracing::warn!(
                asked_for = self.concurrency,
                concurrency,
                "the limit of open files is too low for so many jobs at once: raise it (ulimit -n, LimitNOFILE)"
            );
        }
        let tls = self.tls.read().map_err(anyhow::Error::msg)?;
        let http_ca = self.http_ca.as_deref().map(|file| tls::read("--http-ca", file));
        let http_ca = http_ca.transpose().map_err(anyhow::Error::msg)?;
        let build = |worker_id: &String| self.build(worker_id, concurrency, &tls, http_ca.as_deref());
        self.worker_ids.iter().map(build).collect()
    }

    fn build(&self, worker_id: &str, concurrency: usize, tls: &Tls, http_ca: Option<&[u8]>) -> anyhow::Result<Worker> {
        let mut worker = Worker::builder(&*self.server, worker_id)
            .tls(tls.clone())
            .concurrency(concurrency)
            .lease_time(self.lease_time)
            .grace(self.grace)
            .takeover(self.takeover);
        if let Some(limit) = self.attempt_timeout.filter(|limit| !limit.is_zero()) {
            worker = worker.attempt_timeout(limit);
        }
        let or_else = |default| self.attempt_timeout.is_none().then_some(default);
        for (task, command) in &self.exec {
            worker = worker.raw_handler(task, Exec::new(command.clone(), or_else(exec::ATTEMPT_TIMEOUT)));
        }
        for (task, url) in &self.http {
            worker = worker.raw_handler(task, Http::new(url.clone(), http_ca, or_else(http::ATTEMPT_TIMEOUT))?);
        }
        if self.simulate {
            worker = worker.fallback(Simulate);
        }
        Ok(worker.build()?)
    }

    /// Maximum number of jobs at once that the limit of open files allows, after raising that limit.
    fn most_at_once(&self) -> usize {
        let limit = open_files::raise();
        match (self.exec.is_empty(), self.http.is_empty()) {
            (false, _) => open_files::jobs(limit, open_files::BY_COMMAND),
            (true, false) => open_files::jobs(limit, open_files::BY_REQUEST),
            (true, true) => usize::MAX,
        }
    }
}

fn fail(problem: &str) -> ! {
    Args::command().error(ErrorKind::ValueValidation, problem).exit()
}

/// Option and variable that the error is about, as the beginning of a message.
fn setting(error: &anyhow::Error) -> &'static str {
    match error.downcast_ref() {
        Some(BuildError::Address(_)) => "--server (JOBQUEUE_SERVER): ",
        Some(BuildError::WorkerId(_)) => "--worker-id (JOBQUEUE_WORKER_ID): ",
        Some(BuildError::Concurrency(_)) => "--concurrency (JOBQUEUE_CONCURRENCY): ",
        Some(BuildError::LeaseTime(_)) => "--lease-time (JOBQUEUE_LEASE_TIME): ",
        _ => "",
    }
}

fn filter(text: &str) -> Result<String, String> {
    EnvFilter::try_new(text).map(|_| text.to_owned()).map_err(|error| error.to_string())
}

fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(("", _)) => Err("the task before = is missing".to_owned()),
        Some((_, value)) if value.trim().is_empty() => Err("there is nothing behind =".to_owned()),
        Some((task, value)) => Ok((task.to_owned(), value.to_owned())),
        None => Err("there is no =".to_owned()),
    }
}

fn target(text: &str) -> Result<(String, reqwest::Url), String> {
    let (task, url) = pair(text)?;
    let url: reqwest::Url = url.parse().map_err(|error| format!("{url:?} is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(format!("{url} is neither http:// nor https://"));
    }
    Ok((task, url))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Args, String> {
        let args = ["jobqueue-worker", "--worker-id", "worker-1a"].iter().chain(args);
        let args = Args::try_parse_from(args).map_err(|error| error.to_string())?;
        args.check().map(|()| args)
    }

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn every_variable_is_read_as_in_the_other_programs() {
        settings::assert_variables_are_read_alike::<Args>(&["--worker-id", "w"], &["--exec", "--http"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (args, problem) in [
            (&[] as &[_], "nothing to run"),
            (&["--exec", "email"], "there is no ="),
            (&["--exec", "=true"], "the task before = is missing"),
            (&["--exec", "email= "], "nothing behind ="),
            (&["--exec", "email=a", "--http", "email=http://b"], "\"email\" is given twice"),
            (&["--http", "email=b"], "is no URL"),
            (&["--http", "email=ftp://b"], "neither http:// nor https://"),
            (&["--simulate", "--lease-time", "30"], "time unit needed"),
            (&["--simulate", "--log", "info,a=b=c"], "invalid"),
            (&["--simulate", "--concurrency", "x"], "invalid digit"),
            (&["--simulate", "--worker-id", "b", "--worker-id", "worker-1a"], "worker id \"worker-1a\" is given twice"),
        ] {
            let error = parse(args).unwrap_err();
            assert!(error.contains(problem), "{args:?}: {error}");
        }
        let build =
            |args: &[&str]| parse(args).unwrap().build_all().err().map(|error| format!("{}{error}", setting(&error)));
        assert!(build(&["--simulate", "--server", "localhost:1"]).unwrap().contains("is no address of a server"));
        assert!(
            build(&["--simulate", "--concurrency", "0"]).unwrap().contains("--concurrency (JOBQUEUE_CONCURRENCY): ")
        );
        assert!(
            build(&["--simulate", "--worker-id", "a\nb"])
                .unwrap()
                .contains("--worker-id (JOBQUEUE_WORKER_ID): worker_id")
        );
        assert_eq!(build(&["--simulate"]), None);
        assert_eq!(parse(&["--simulate", "--worker-id", "b"]).unwrap().build_all().unwrap().len(), 2);
    }

    #[test]
    fn a_command_may_hold_equals_signs() {
        let args = parse(&["--exec", "email=A=1 ./send --to=b", "--exec", "sms=./sms"]).unwrap();
        assert_eq!(args.exec[0], ("email".to_owned(), "A=1 ./send --to=b".to_owned()));
    }
}
