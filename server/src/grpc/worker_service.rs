//! WorkerService: the protocol between workers and the server.

use std::sync::Arc;

use jobqueue_shared::{
    proto::v1::{self, worker_service_server},
    time::duration,
};
use tonic::{Request, Response, Status};

use super::{convert, deadline::Deadline};
use crate::queue::Queue;

pub(super) struct WorkerService(pub Arc<Queue>);

/// Number of heartbeats in one lease time, so that two may be lost.
const BEATS_PER_LEASE: i64 = 3;

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl worker_service_server::WorkerService for WorkerService {
    async fn register_session(
        &self,
        request: Request<v1::RegisterSessionRequest>,
    ) -> Answer<v1::RegisterSessionResponse> {
        let session = self.0.register(request.into_inner()).await?;
        Ok(Response::new(v1::RegisterSessionResponse {
            session_id: session.session_id.to_string(),
            lease_time: Some(duration(session.lease_ms)),
            heartbeat_interval: Some(duration(session.lease_ms / BEATS_PER_LEASE)),
        }))
    }

    async fn acquire_jobs(&self, request: Request<v1::AcquireJobsRequest>) -> Answer<v1::AcquireJobsResponse> {
        let deadline = request.extensions().get::<Deadline>().map(|it| it.0);
        Ok(Response::new(convert::handed(self.0.acquire(request.into_inner(), deadline).await?)))
    }

    async fn heartbeat(&self, request: Request<v1::HeartbeatRequest>) -> Answer<v1::HeartbeatResponse> {
        Ok(Response::new(convert::alive(self.0.heartbeat(request.get_ref()).await?)))
    }

    async fn settle_jobs(&self, request: Request<v1::SettleJobsRequest>) -> Answer<v1::SettleJobsResponse> {
        let outcomes = self.0.settle(request.into_inner()).await?;
        Ok(Response::new(v1::SettleJobsResponse { results: outcomes.into_iter().map(convert::settled).collect() }))
    }

    async fn report_progress(&self, request: Request<v1::ReportProgressRequest>) -> Answer<v1::ReportProgressResponse> {
        self.0.report_progress(request.into_inner()).await?;
        Ok(Response::new(v1::ReportProgressResponse {}))
    }

    async fn end_session(&self, request: Request<v1::EndSessionRequest>) -> Answer<v1::EndSessionResponse> {
        self.0.end_session(request.get_ref()).await?;
        Ok(Response::new(v1::EndSessionResponse {}))
    }
}
