//! Builder of a worker: takes its settings and handlers, and checks them before the worker runs.

use std::time::Duration;

use jobqueue_shared::limits;
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    config::Config,
    connection::{address::BadServer, channel, tls::Tls},
    handlers::{
        by_task::Handlers,
        context::Context,
        handler::{Handler, Typed},
        handler_error::HandlerError,
    },
    worker::Worker,
};

/// Reason why a worker cannot be built.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BuildError {
    /// The endpoint is not of the form `http://host:port` or `https://host:port`.
    #[error("{0}")]
    Address(String),
    #[error("TLS: {0}")]
    Tls(String),
    #[error("worker_id {0}")]
    WorkerId(String),
    #[error("task {0:?} {1}")]
    Task(String, String),
    #[error("task {0:?} has two handlers")]
    DuplicateTask(String),
    #[error("there is no handler, so there is nothing to run")]
    NoHandler,
    #[error("{0} tasks are more than the limit of {max}", max = limits::TASKS_PER_SESSION)]
    TooManyTasks(usize),
    #[error("concurrency is {0}; it must be from 1 to {max}", max = limits::JOBS_PER_SESSION)]
    Concurrency(usize),
    #[error("the lease time is {0:?}; it must be from 5 s to 12 h")]
    LeaseTime(Duration),
}

/// Settings and handlers of a worker to build. See [`Worker::builder`].
pub struct WorkerBuilder {
    config: Config,
    handlers: Handlers,
    /// Task for which a second handler was given.
    duplicate: Option<String>,
}

impl Worker {
    /// Builder of a worker that takes the jobs addressed to `worker_id` (1 to 100 bytes) from the server at `endpoint`
    /// (`http://host:port` or `https://host:port`). Give it a handler for each task.
    pub fn builder(endpoint: impl Into<String>, worker_id: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder::new(endpoint.into(), worker_id.into())
    }
}

impl WorkerBuilder {
    fn new(endpoint: String, worker_id: String) -> Self {
        let config = Config {
            endpoint,
            tls: Tls::default(),
            worker_id,
            concurrency: 10,
            lease_time: Duration::from_millis(limits::LEASE_MS_DEFAULT as u64),
            grace: Duration::from_secs(30),
            takeover: false,
            attempt_timeout: None,
            host: limits::cut(&gethostname::gethostname().to_string_lossy(), limits::SESSION_TEXT).to_owned(),
            version: concat!("jobqueue-worker ", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Self { config, handlers: Handlers::default(), duplicate: None }
    }

    /// Runs the jobs of `task` with an async function of a context and a payload. Blocking work belongs into
    /// [`tokio::task::spawn_blocking`]; see [`Handler`] for why. A payload that does not deserialize is a permanent
    /// failure; see [`Output::of`](crate::Output::of) for how the returned value becomes the result.
    pub fn handler<F, Fut, Payload, Value>(self, task: impl Into<String>, run: F) -> Self
    where
        F: Fn(Context, Payload) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Value, HandlerError>> + Send + 'static,
        Payload: DeserializeOwned + Send + 'static,
        Value: Serialize + Send + 'static,
    {
        self.raw_handler(task, Typed::new(run))
    }

    /// Runs the jobs of `task` with a [`Handler`].
    pub fn raw_handler(mut self, task: impl Into<String>, handler: impl Handler) -> Self {
        let task = task.into();
        if self.handlers.add(task.clone(), handler) {
            self.duplicate = Some(task);
        }
        self
    }

    /// Runs the jobs whose task has no other handler. Without a fallback they are released, and wait for a worker that
    /// handles their task.
    pub fn fallback(mut self, handler: impl Handler) -> Self {
        self.handlers.set_fallback(handler);
        self
    }

    /// TLS of the connection, for an `https://` endpoint.
    pub fn tls(mut self, tls: Tls) -> Self {
        self.config.tls = tls;
        self
    }

    /// Maximum number of jobs that run at once, 1 to 10,000. Default: 10.
    pub fn concurrency(mut self, jobs: usize) -> Self {
        self.config.concurrency = jobs;
        self
    }

    /// Time without a heartbeat after which the server gives this worker's jobs to others: 5 s to 12 h. Default: 30 s.
    pub fn lease_time(mut self, time: Duration) -> Self {
        self.config.lease_time = time;
        self
    }

    /// Time that running jobs have to finish once the worker is stopped. Then they are cancelled, dropped a few seconds
    /// later, and released. Default: 30 s.
    pub fn grace(mut self, time: Duration) -> Self {
        self.config.grace = time;
        self
    }

    /// Time limit of one attempt of any job on this worker; a job's own `attempt_timeout` applies when it is shorter.
    /// At the limit the handler is cancelled with [`StopReason::TimedOut`](crate::StopReason::TimedOut) and dropped a
    /// few seconds later. Work that it still completes counts, and so does a permanent failure or a snooze that it
    /// returns; otherwise the attempt has failed as timed out. Default: only the job's own limit.
    pub fn attempt_timeout(mut self, time: Duration) -> Self {
        self.config.attempt_timeout = Some(time);
        self
    }

    /// Whether this worker declares earlier runs gone when it starts: sessions of the same `worker_id` and host whose
    /// process no longer exists. Their jobs start again at once, and not when their lease has expired; a job that such
    /// a run had started has used up an attempt, as after any crash. Should such a process be alive after all, the
    /// server refuses its outcomes. Processes that the dead one had started may still run; the commands of
    /// `jobqueue-worker` end with it.
    ///
    /// Only for hosts where all workers of this `worker_id` see each other's processes: not where containers share a
    /// host name and have process ids of their own. Default: off.
    pub fn takeover(mut self, takeover: bool) -> Self {
        self.config.takeover = takeover;
        self
    }

    /// Version shown in the list of workers; cut to 255 bytes. Default: that of this crate.
    pub fn version(mut self, version: impl AsRef<str>) -> Self {
        limits::cut(version.as_ref(), limits::SESSION_TEXT).clone_into(&mut self.config.version);
        self
    }

    /// Checks the settings and builds the worker. Nothing is sent before [`Worker::run`].
    ///
    /// # Errors
    /// The first setting that is invalid.
    pub fn build(self) -> Result<Worker, BuildError> {
        let Self { config, handlers, duplicate } = self;
        channel::endpoint(&config.endpoint, &config.tls, channel::SILENCE).map_err(|error| match error {
            BadServer::Address { .. } => BuildError::Address(error.to_string()),
            BadServer::Tls(problem) => BuildError::Tls(problem),
        })?;
        check_name(&config.worker_id, limits::WORKER_ID).map_err(BuildError::WorkerId)?;
        if let Some(task) = duplicate {
            return Err(BuildError::DuplicateTask(task));
        }
        for task in handlers.named_tasks() {
            check_name(task, limits::TASK).map_err(|problem| BuildError::Task(task.to_owned(), problem))?;
        }
        if handlers.is_empty() {
            return Err(BuildError::NoHandler);
        }
        let tasks = handlers.named_tasks().len();
        if tasks >= limits::TASKS_PER_SESSION {
            return Err(BuildError::TooManyTasks(tasks));
        }
        if !(1..=limits::JOBS_PER_SESSION as usize).contains(&config.concurrency) {
            return Err(BuildError::Concurrency(config.concurrency));
        }
        let leases =
            Duration::from_millis(limits::LEASE_MS_MIN as u64)..=Duration::from_millis(limits::LEASE_MS_MAX as u64);
        if !leases.contains(&config.lease_time) {
            return Err(BuildError::LeaseTime(config.lease_time));
        }
        Ok(Worker::new(config, handlers))
    }
}

fn check_name(name: &str, max: usize) -> Result<(), String> {
    if name.is_empty() {
        Err("is empty".to_owned())
    } else if name.len() > max {
        Err(format!("is {} bytes; the limit is {max}", name.len()))
    } else if name.chars().any(char::is_control) {
        Err("has control characters".to_owned())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder() -> WorkerBuilder {
        Worker::builder("http://127.0.0.1:1", "worker-1a")
    }

    fn with_handler() -> WorkerBuilder {
        builder().handler("email", |_, _: String| async { Ok(()) })
    }

    #[test]
    fn what_is_wrong_is_said_before_anything_runs() {
        let problem = |builder: WorkerBuilder| builder.build().err().map(|error| error.to_string());
        assert_eq!(problem(with_handler()), None);
        assert_eq!(problem(builder()).unwrap(), "there is no handler, so there is nothing to run");
        let twice = with_handler().handler("email", |_, _: u32| async { Ok(1) });
        assert_eq!(problem(twice).unwrap(), "task \"email\" has two handlers");
        assert_eq!(problem(with_handler().concurrency(0)).unwrap(), "concurrency is 0; it must be from 1 to 10000");
        let short = with_handler().lease_time(Duration::from_secs(4));
        assert_eq!(problem(short).unwrap(), "the lease time is 4s; it must be from 5 s to 12 h");
        let named = |id: &str| problem(Worker::builder("http://h", id).handler("e", |_, _: u32| async { Ok(1) }));
        assert_eq!(named("").unwrap(), "worker_id is empty");
        assert_eq!(named(&"x".repeat(101)).unwrap(), "worker_id is 101 bytes; the limit is 100");
        assert_eq!(named("a\nb").unwrap(), "worker_id has control characters");
        let task = builder().handler("", |_, _: u32| async { Ok(1) });
        assert_eq!(problem(task).unwrap(), "task \"\" is empty");
        let address = Worker::builder("localhost", "w").handler("e", |_, _: u32| async { Ok(1) });
        assert!(problem(address).unwrap().contains("http://127.0.0.1:50051"));
    }

    #[test]
    fn the_fallback_runs_only_what_nothing_else_is_for() {
        let worker = with_handler();
        assert!(worker.handlers.find("email").is_some() && worker.handlers.find("sms").is_none());
        let worker = worker.fallback(Typed::new(|_: Context, _: u32| async { Ok(()) }));
        assert!(worker.handlers.find("sms").is_some() && worker.handlers.find("").is_some());
        assert_eq!(worker.handlers.tasks(), ["email", "*"]);
    }
}
