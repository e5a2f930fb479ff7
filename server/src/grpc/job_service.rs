//! JobService: submitting, reading and changing jobs.

use std::sync::Arc;

use jobqueue_shared::{
    proto::v1::{self, job_service_server},
    time::timestamp,
};
use jobqueue_store::Stored;
use tonic::{Request, Response, Status};

use super::{convert, deadline::Deadline};
use crate::queue::{JobDetails, JobPage, Queue};

pub(super) struct JobService(pub Arc<Queue>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl job_service_server::JobService for JobService {
    async fn submit_job(&self, request: Request<v1::SubmitJobRequest>) -> Answer<v1::SubmitJobResponse> {
        let stored = self.0.submit(request.into_inner()).await?;
        Ok(Response::new(convert::submitted(stored)))
    }

    async fn submit_jobs(&self, request: Request<v1::SubmitJobsRequest>) -> Answer<v1::SubmitJobsResponse> {
        let stored = self.0.submit_batch(request.into_inner().jobs).await?;
        Ok(Response::new(v1::SubmitJobsResponse { jobs: stored.into_iter().map(convert::submitted).collect() }))
    }

    async fn copy_job(&self, request: Request<v1::CopyJobRequest>) -> Answer<v1::CopyJobResponse> {
        let Stored { id, deduplicated } = self.0.copy(request.into_inner()).await?;
        Ok(Response::new(v1::CopyJobResponse { job_id: id.to_string(), deduplicated }))
    }

    async fn get_job(&self, request: Request<v1::GetJobRequest>) -> Answer<v1::GetJobResponse> {
        let JobDetails { job, attempts, copies, more_copies } = self.0.get(request.get_ref()).await?;
        Ok(Response::new(v1::GetJobResponse {
            job: Some(convert::job(job)),
            attempts: attempts.into_iter().map(convert::attempt).collect(),
            copies: copies.into_iter().map(convert::copy).collect(),
            more_copies,
        }))
    }

    async fn wait_job(&self, request: Request<v1::WaitJobRequest>) -> Answer<v1::WaitJobResponse> {
        let deadline = request.extensions().get::<Deadline>().map(|it| it.0);
        let job = self.0.wait(request.get_ref(), deadline).await?;
        Ok(Response::new(v1::WaitJobResponse { job: Some(convert::job(job)) }))
    }

    async fn list_jobs(&self, request: Request<v1::ListJobsRequest>) -> Answer<v1::ListJobsResponse> {
        let JobPage { jobs, next_page_token, read_to_ms } = self.0.list(request.into_inner()).await?;
        let jobs = jobs.into_iter().map(convert::job).collect();
        Ok(Response::new(v1::ListJobsResponse { jobs, next_page_token, read_to: read_to_ms.map(timestamp) }))
    }

    async fn list_failed_jobs(
        &self,
        request: Request<v1::ListFailedJobsRequest>,
    ) -> Answer<v1::ListFailedJobsResponse> {
        let JobPage { jobs, next_page_token, read_to_ms } = self.0.list_failed(request.into_inner()).await?;
        let jobs = jobs.into_iter().map(convert::job).collect();
        Ok(Response::new(v1::ListFailedJobsResponse { jobs, next_page_token, read_to: read_to_ms.map(timestamp) }))
    }

    async fn count_jobs(&self, request: Request<v1::CountJobsRequest>) -> Answer<v1::CountJobsResponse> {
        Ok(Response::new(convert::job_counts(self.0.count(request.into_inner()).await?)))
    }

    async fn cancel_job(&self, request: Request<v1::CancelJobRequest>) -> Answer<v1::CancelJobResponse> {
        let job = self.0.cancel(request.into_inner()).await?;
        Ok(Response::new(v1::CancelJobResponse { job: Some(convert::job(job)) }))
    }

    async fn retry_job(&self, request: Request<v1::RetryJobRequest>) -> Answer<v1::RetryJobResponse> {
        let job = self.0.retry(request.get_ref()).await?;
        Ok(Response::new(v1::RetryJobResponse { job: Some(convert::job(job)) }))
    }

    async fn delete_job(&self, request: Request<v1::DeleteJobRequest>) -> Answer<v1::DeleteJobResponse> {
        self.0.delete(request.get_ref()).await?;
        Ok(Response::new(v1::DeleteJobResponse {}))
    }

    async fn get_timeline(&self, request: Request<v1::GetTimelineRequest>) -> Answer<v1::GetTimelineResponse> {
        let events = self.0.timeline(request.get_ref()).await?;
        Ok(Response::new(v1::GetTimelineResponse { events: events.into_iter().map(convert::event).collect() }))
    }

    async fn explain_job(&self, request: Request<v1::ExplainJobRequest>) -> Answer<v1::ExplainJobResponse> {
        Ok(Response::new(convert::explanation(self.0.explain(request.get_ref()).await?)))
    }

    async fn get_metrics(&self, request: Request<v1::GetMetricsRequest>) -> Answer<v1::GetMetricsResponse> {
        let (counts, next_page_token) = self.0.counts_page(request.get_ref()).await?;
        Ok(Response::new(v1::GetMetricsResponse { next_page_token, ..convert::metrics(counts) }))
    }

    async fn get_throughput(&self, request: Request<v1::GetThroughputRequest>) -> Answer<v1::GetThroughputResponse> {
        let minutes = self.0.throughput(request.get_ref()).await?;
        Ok(Response::new(v1::GetThroughputResponse { minutes: minutes.into_iter().map(convert::minute).collect() }))
    }

    async fn get_throughputs(&self, request: Request<v1::GetThroughputsRequest>) -> Answer<v1::GetThroughputsResponse> {
        Ok(Response::new(convert::throughputs(self.0.throughputs(request.into_inner()).await?)))
    }
}
