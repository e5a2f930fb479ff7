//! Calls of a worker to the server. Each has a time limit, and tells the connectivity whether the server answered.

use std::{sync::Arc, time::Duration};

use jobqueue_shared::proto::v1::{
    AcquireJobsRequest, AcquireJobsResponse, EndSessionRequest, EndSessionResponse, HeartbeatRequest,
    HeartbeatResponse, ListWorkersRequest, ListWorkersResponse, RegisterSessionRequest, RegisterSessionResponse,
    ReportProgressRequest, ReportProgressResponse, SettleJobsRequest, SettleJobsResponse,
    admin_service_client::AdminServiceClient, worker_service_client::WorkerServiceClient,
};
use tonic::{Status, transport::Channel};

use crate::connection::{
    address::BadServer,
    channel,
    connectivity::Connectivity,
    shared_channel::{self, SharedChannel},
    tls::Tls,
};

/// Time limit of a call that waits for nothing but the server's disk.
const CALL: Duration = Duration::from_secs(10);

pub(crate) type WorkerApi = WorkerServiceClient<Channel>;

/// Calls to the server at one address.
pub(crate) struct WorkerCalls {
    endpoint: String,
    tls: Tls,
    /// Silence after which a connection counts as lost.
    silence: Duration,
    /// Keeps the place of this worker on its connection.
    _place: Arc<SharedChannel>,
    worker: WorkerApi,
    admin: AdminServiceClient<Channel>,
    connectivity: Connectivity,
}

impl WorkerCalls {
    /// Calls of a worker with this lease time, on a connection that it can share with other workers of the runtime. The
    /// first one connects.
    ///
    /// # Panics
    /// Outside a runtime.
    pub(crate) fn new(endpoint: &str, tls: &Tls, lease_time: Duration) -> Result<Self, BadServer> {
        // A lost connection is noticed in time to keep the lease through another one.
        let silence = channel::SILENCE.min(lease_time / 2);
        let shared = shared_channel::connect(endpoint, tls, silence)?;
        let channel = shared.channel();
        Ok(Self {
            endpoint: endpoint.to_owned(),
            tls: tls.clone(),
            silence,
            _place: shared,
            worker: worker_api(channel.clone()),
            admin: AdminServiceClient::new(channel).max_decoding_message_size(channel::REPLY_BYTES),
            connectivity: Connectivity::default(),
        })
    }

    /// The connection that all calls but the heartbeats use.
    pub(crate) fn shared_connection(&self) -> WorkerApi {
        self.worker.clone()
    }

    /// Opens another connection to the server, which the current runtime drives.
    pub(crate) fn connect(&self) -> Result<WorkerApi, BadServer> {
        channel::plain(&self.endpoint, &self.tls, self.silence).map(worker_api)
    }

    /// Forgets failed calls, because a call that is not made again never clears its failure.
    pub(crate) fn forget_failures(&self) {
        self.connectivity.forget();
    }

    pub(crate) async fn register_session(
        &self,
        message: RegisterSessionRequest,
    ) -> Result<RegisterSessionResponse, Status> {
        let mut api = self.worker.clone();
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
        let mut api = self.worker.clone();
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
        let mut api = self.worker.clone();
        self.heard("SettleJobs", channel::answer(CALL, api.settle_jobs(channel::request(message, CALL))).await)
    }

    /// Reports the progress of a job. A failure does not make the server count as away, because the call is not
    /// repeated.
    pub(crate) async fn report_progress(
        &self,
        message: ReportProgressRequest,
    ) -> Result<ReportProgressResponse, Status> {
        let mut api = self.worker.clone();
        channel::answer(CALL, api.report_progress(channel::request(message, CALL))).await
    }

    pub(crate) async fn end_session(
        &self,
        message: EndSessionRequest,
        limit: Duration,
    ) -> Result<EndSessionResponse, Status> {
        let mut api = self.worker.clone();
        self.heard("EndSession", channel::answer(limit, api.end_session(channel::request(message, limit))).await)
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

fn worker_api(channel: Channel) -> WorkerApi {
    WorkerServiceClient::new(channel).max_decoding_message_size(channel::REPLY_BYTES)
}
