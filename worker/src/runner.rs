//! Life cycle of a worker: one session after another until it is told to stop, then an orderly end.

use std::{sync::Arc, time::Duration};

use tokio_util::{
    sync::CancellationToken,
    task::{AbortOnDropHandle, TaskTracker},
};
use tonic::{Status, transport::Channel};

use crate::{
    acquire,
    builder::{Config, Handlers, WorkerBuilder},
    channel,
    connectivity::Connectivity,
    context::StopReason,
    execute::{self, HeldJob, Jobs, STOPPING},
    heartbeat, progress,
    proto::{
        AcquireJobsRequest, AcquireJobsResponse, EndSessionRequest, EndSessionResponse, HeartbeatRequest,
        HeartbeatResponse, ListWorkersRequest, ListWorkersResponse, RegisterSessionRequest, RegisterSessionResponse,
        ReportProgressRequest, ReportProgressResponse, SettleJobsRequest, SettleJobsResponse,
        admin_service_client::AdminServiceClient, worker_service_client::WorkerServiceClient,
    },
    session::Session,
    settle::{self, Outcomes},
    slots::Slots,
};

/// Time limit of a call that waits for nothing but the server's disk.
const CALL: Duration = Duration::from_secs(10);
/// Time limits of a stopping worker: to deliver outcomes, and then to end its session.
const FLUSHING: Duration = Duration::from_secs(10);
const GOODBYE: Duration = Duration::from_secs(5);

/// Reason why [`Worker::run`] gave up. A server that is away is no reason: it is asked until it is back.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("{0}")]
    Address(String),
    /// The server refuses this worker, and would refuse it again.
    #[error("the server refuses this worker: {}", channel::describe(.0))]
    Refused(Box<Status>),
}

/// Worker, which runs jobs. See [`Worker::builder`].
pub struct Worker {
    config: Config,
    handlers: Handlers,
}

pub(crate) type WorkerApi = WorkerServiceClient<Channel>;

/// State that all parts of a running worker share.
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) handlers: Handlers,
    pub(crate) slots: Slots<HeldJob>,
    /// Cancelled when the worker must take no more jobs.
    pub(crate) stopping: CancellationToken,
    /// Cancelled when all running jobs must be dropped at once.
    pub(crate) killed: CancellationToken,
    pub(crate) api: WorkerApi,
    /// Silence after which a connection counts as lost.
    silence: Duration,
    admin: AdminServiceClient<Channel>,
    connectivity: Connectivity,
}

/// Guard that drops all jobs together with the worker. Queued jobs hold a reference to the [`Core`] whose queue holds
/// them, and would leak otherwise.
struct KilledWhenDropped<'a>(&'a Core);

impl Drop for KilledWhenDropped<'_> {
    fn drop(&mut self) {
        self.0.killed.cancel();
        self.0.slots.give_up(|_, _| true);
    }
}

/// Reason why serving a session ended.
enum Served {
    /// The worker was told to stop.
    Stopped,
    /// The server ended the session.
    Ended,
}

impl Worker {
    /// Builder of a worker that takes the jobs addressed to `worker_id` (1 to 100 bytes) from the server at `endpoint`
    /// (`http://host:port`). Give it a handler for each task.
    pub fn builder(endpoint: impl Into<String>, worker_id: impl Into<String>) -> WorkerBuilder {
        WorkerBuilder::new(endpoint.into(), worker_id.into())
    }

    pub(crate) fn new(config: Config, handlers: Handlers) -> Self {
        Self { config, handlers }
    }

    /// Runs jobs until `shutdown` completes. Then the worker takes no more jobs, lets running jobs finish within the
    /// grace period, cancels and releases the rest, delivers all outcomes, and returns, at most 25 s after the grace
    /// period. Dropping the future stops everything at once; the server gives the jobs to others when the lease has
    /// expired.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        // A lost connection is noticed in time to keep the lease through another one.
        let silence = channel::SILENCE.min(self.config.lease_time / 2);
        let channel =
            channel::plain(&self.config.endpoint, silence).map_err(|error| RunError::Address(error.to_string()))?;
        let core = Arc::new(Core {
            slots: Slots::new(self.config.concurrency),
            config: self.config,
            handlers: self.handlers,
            stopping: CancellationToken::new(),
            killed: CancellationToken::new(),
            api: worker_api(channel.clone()),
            silence,
            admin: AdminServiceClient::new(channel).max_decoding_message_size(channel::REPLY_BYTES),
            connectivity: Connectivity::default(),
        });
        let _killed_when_dropped = KilledWhenDropped(&core);
        let working = work(&core);
        tokio::pin!(working);
        tokio::select! {
            result = &mut working => return result,
            () = shutdown => core.stopping.cancel(),
        }
        working.await
    }
}

async fn work(core: &Arc<Core>) -> Result<(), RunError> {
    // Later sessions of this run have no predecessors but this run's own sessions.
    let mut takeover = core.config.takeover;
    let it = Arc::clone(core);
    let _giving_back =
        AbortOnDropHandle::new(tokio::spawn(async move { execute::release_waiting_too_long(&it).await }));
    loop {
        let Some(session) = Session::register(core, takeover).await? else { return Ok(()) };
        takeover = false;
        tracing::info!(
            server = core.config.endpoint,
            worker_id = core.config.worker_id,
            session_id = session.id,
            slots = core.config.concurrency,
            tasks = core.handlers.tasks().join(","),
            "taking jobs"
        );
        if let Served::Stopped = serve(core, Arc::new(session)).await {
            return Ok(());
        }
    }
}

async fn serve(core: &Arc<Core>, session: Arc<Session>) -> Served {
    let outcomes = Arc::new(Outcomes::default());
    let settled = AbortOnDropHandle::new(tokio::spawn({
        let (core, session, outcomes) = (Arc::clone(core), Arc::clone(&session), Arc::clone(&outcomes));
        async move { settle::run(&core, &session, &outcomes).await }
    }));
    let _heartbeat = heartbeat::start(core, &session);
    let _progress = AbortOnDropHandle::new(tokio::spawn(progress::run(Arc::clone(core), Arc::clone(&session))));
    let (of_core, of_session) = (Arc::clone(core), Arc::clone(&session));
    let jobs = Arc::new(Jobs { core: of_core, session: of_session, outcomes, tracker: TaskTracker::new() });

    acquire::run(core, &session, &jobs).await;
    jobs.tracker.close();
    if !session.ended.is_cancelled() {
        drain(core, &session, &jobs.tracker).await;
    }
    if session.ended.is_cancelled() {
        let stopped = session.abandon();
        tracing::warn!(session_id = session.id, jobs = stopped, "the server has ended the session, stopping what runs");
        core.connectivity.forget();
        if core.stopping.is_cancelled() {
            let _ = tokio::time::timeout(STOPPING, jobs.tracker.wait()).await;
            return Served::Stopped;
        }
        return Served::Ended;
    }
    jobs.outcomes.close();
    if tokio::time::timeout(FLUSHING, settled).await.is_err() {
        tracing::warn!("the server did not take all outcomes; the jobs run again when the lease has run out");
    }
    session.end(core, GOODBYE).await;
    tracing::info!(session_id = session.id, "stopped");
    Served::Stopped
}

/// Lets running jobs finish within the grace period, then stops them.
async fn drain(core: &Core, session: &Session, running: &TaskTracker) {
    session.draining.send_replace(true);
    let grace = core.config.grace;
    tracing::info!(jobs = session.running(), ?grace, "stopping: finishing what runs");
    tokio::select! {
        () = session.ended.cancelled() => return,
        () = running.wait() => return,
        () = tokio::time::sleep(grace) => {}
    }
    let jobs = session.stop_all(StopReason::ShuttingDown);
    tracing::warn!(jobs, "the grace is over, giving back what still runs");
    tokio::select! {
        () = session.ended.cancelled() => {}
        () = running.wait() => {}
        // A second longer than each handler gets, so that all jobs have been released.
        () = tokio::time::sleep(STOPPING + Duration::from_secs(1)) => {}
    }
}

fn worker_api(channel: Channel) -> WorkerApi {
    WorkerServiceClient::new(channel).max_decoding_message_size(channel::REPLY_BYTES)
}

impl Core {
    /// Opens another connection to the server, which the current runtime drives.
    pub(crate) fn connect(&self) -> Result<WorkerApi, channel::BadAddress> {
        channel::plain(&self.config.endpoint, self.silence).map(worker_api)
    }

    pub(crate) async fn register_session(
        &self,
        message: RegisterSessionRequest,
    ) -> Result<RegisterSessionResponse, Status> {
        let mut api = self.api.clone();
        self.heard(
            "RegisterSession",
            channel::answer(CALL, api.register_session(channel::request(message, CALL))).await,
        )
    }

    pub(crate) async fn list_workers(&self, message: ListWorkersRequest) -> Result<ListWorkersResponse, Status> {
        let mut admin = self.admin.clone();
        self.heard("ListWorkers", channel::answer(CALL, admin.list_workers(channel::request(message, CALL))).await)
    }

    pub(crate) async fn acquire_jobs(
        &self,
        message: AcquireJobsRequest,
        limit: Duration,
    ) -> Result<AcquireJobsResponse, Status> {
        let mut api = self.api.clone();
        self.heard("AcquireJobs", channel::answer(limit, api.acquire_jobs(channel::request(message, limit))).await)
    }

    pub(crate) async fn heartbeat(
        &self,
        api: &WorkerApi,
        message: HeartbeatRequest,
        limit: Duration,
    ) -> Result<HeartbeatResponse, Status> {
        let mut api = api.clone();
        self.heard("Heartbeat", channel::answer(limit, api.heartbeat(channel::request(message, limit))).await)
    }

    pub(crate) async fn settle_jobs(&self, message: SettleJobsRequest) -> Result<SettleJobsResponse, Status> {
        let mut api = self.api.clone();
        self.heard("SettleJobs", channel::answer(CALL, api.settle_jobs(channel::request(message, CALL))).await)
    }

    /// Reports the progress of a job. A failure does not make the server count as away, because the call is not
    /// repeated.
    pub(crate) async fn report_progress(
        &self,
        message: ReportProgressRequest,
    ) -> Result<ReportProgressResponse, Status> {
        let mut api = self.api.clone();
        channel::answer(CALL, api.report_progress(channel::request(message, CALL))).await
    }

    pub(crate) async fn end_session(&self, message: EndSessionRequest) -> Result<EndSessionResponse, Status> {
        let mut api = self.api.clone();
        self.heard("EndSession", channel::answer(GOODBYE, api.end_session(channel::request(message, GOODBYE))).await)
    }

    /// Records whether the server answered. Its errors about a session or a request are answers, too.
    fn heard<T>(&self, call: &'static str, answer: Result<T, Status>) -> Result<T, Status> {
        use tonic::Code::{FailedPrecondition, InvalidArgument, NotFound, OutOfRange};
        match &answer {
            Err(status) if !matches!(status.code(), FailedPrecondition | InvalidArgument | NotFound | OutOfRange) => {
                self.connectivity.failed(call, status);
            }
            _ => self.connectivity.answered(call),
        }
        answer
    }
}
