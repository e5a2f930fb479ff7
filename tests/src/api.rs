//! gRPC clients of the API on one connection, and calls that many tests need.

use std::{net::SocketAddr, time::Duration};

use jobqueue_shared::proto::v1::{
    GetJobRequest, GetJobResponse, GetMetricsRequest, GetMetricsResponse, RetryPolicy, SubmitJobRequest,
    admin_service_client::AdminServiceClient, error_service_client::ErrorServiceClient, job::Status,
    job_service_client::JobServiceClient, operation_service_client::OperationServiceClient,
    worker_service_client::WorkerServiceClient,
};
use tonic::transport::{Channel, Endpoint};

use crate::poll::eventually;

#[derive(Clone, Debug)]
pub struct Api {
    pub channel: Channel,
}

impl Api {
    /// Client that connects at the first call, and again whenever the connection was lost.
    pub fn at(addr: SocketAddr) -> Self {
        let endpoint = Endpoint::from_shared(format!("http://{addr}")).unwrap();
        Self { channel: endpoint.connect_timeout(Duration::from_secs(5)).connect_lazy() }
    }

    pub fn jobs(&self) -> JobServiceClient<Channel> {
        JobServiceClient::new(self.channel.clone())
    }

    pub fn workers(&self) -> WorkerServiceClient<Channel> {
        WorkerServiceClient::new(self.channel.clone())
    }

    pub fn admin(&self) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel.clone())
    }

    pub fn errors(&self) -> ErrorServiceClient<Channel> {
        ErrorServiceClient::new(self.channel.clone())
    }

    pub fn operations(&self) -> OperationServiceClient<Channel> {
        OperationServiceClient::new(self.channel.clone())
    }

    pub async fn try_submit(&self, request: SubmitJobRequest) -> Result<String, tonic::Status> {
        Ok(self.jobs().submit_job(request).await?.into_inner().job_id)
    }

    pub async fn submit(&self, request: SubmitJobRequest) -> String {
        self.try_submit(request).await.unwrap()
    }

    pub async fn get(&self, job_id: &str) -> GetJobResponse {
        self.jobs().get_job(GetJobRequest { job_id: job_id.to_owned() }).await.unwrap().into_inner()
    }

    pub async fn metrics(&self) -> GetMetricsResponse {
        self.jobs().get_metrics(GetMetricsRequest::default()).await.unwrap().into_inner()
    }

    /// Waits until the job has this status, and returns it.
    pub async fn until(&self, job_id: &str, status: Status) -> GetJobResponse {
        eventually(&format!("job {job_id} is {}", status.as_str_name()), async || {
            let found = self.get(job_id).await;
            (found.job.as_ref()?.status() == status).then_some(found)
        })
        .await
    }

    /// Waits until the job is done, failed or cancelled, and returns it.
    pub async fn finished(&self, job_id: &str) -> GetJobResponse {
        eventually(&format!("job {job_id} is finished"), async || {
            let found = self.get(job_id).await;
            let finished = [Status::Done, Status::Failed, Status::Cancelled];
            finished.contains(&found.job.as_ref()?.status()).then_some(found)
        })
        .await
    }
}

/// A job whose attempts follow each other quickly; vary it by `SubmitJobRequest { priority: Some(0), ..job(..) }`.
pub fn job(worker_id: &str, payload_json: &str) -> SubmitJobRequest {
    let quickly = RetryPolicy {
        initial: Some(prost_types::Duration { seconds: 0, nanos: 10_000_000 }),
        factor: Some(1.0),
        max: None,
        jitter: Some(0.0),
    };
    SubmitJobRequest {
        worker_id: worker_id.to_owned(),
        payload_json: payload_json.to_owned(),
        retry_policy: Some(quickly),
        ..SubmitJobRequest::default()
    }
}
