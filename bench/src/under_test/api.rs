//! Calls that the bench makes to a server.

use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, bail};
use jobqueue_shared::proto::v1::{
    GetMetricsRequest, GetMetricsResponse, Job, ListJobsRequest, admin_service_client::AdminServiceClient, job::Status,
    job_service_client::JobServiceClient,
};
use tonic::transport::{Channel, Endpoint};

/// Maximum size of a reply in bytes, larger than any reply of the server.
const REPLY_BYTES: usize = 16 * 1024 * 1024;
/// Interval between calls that wait for jobs to be done: each costs the server a little, and the server is what is
/// measured.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// Minimum rate in jobs per second; a slower run is stuck.
const SLOWEST: f64 = 200.0;

#[derive(Clone)]
pub struct Api {
    pub jobs: JobServiceClient<Channel>,
    pub admin: AdminServiceClient<Channel>,
}

impl Api {
    pub async fn connect(endpoint: &str) -> Result<Self> {
        let channel = Endpoint::from_shared(endpoint.to_owned())?.tcp_nodelay(true).connect().await?;
        Ok(Self {
            jobs: JobServiceClient::new(channel.clone()).max_decoding_message_size(REPLY_BYTES),
            admin: AdminServiceClient::new(channel).max_decoding_message_size(REPLY_BYTES),
        })
    }

    pub async fn metrics(&self) -> Result<GetMetricsResponse> {
        Ok(self.jobs.clone().get_metrics(GetMetricsRequest::default()).await?.into_inner())
    }

    /// Number of jobs that are done.
    pub async fn done(&self) -> Result<u64> {
        Ok(self.metrics().await?.done as u64)
    }

    /// Waits until `jobs` jobs are done, and returns when the last of them finished.
    pub async fn until_done(&self, jobs: u64) -> Result<SystemTime> {
        let began = tokio::time::Instant::now();
        let before = self.done().await?;
        let limit = Duration::from_secs_f64(60.0 + jobs.saturating_sub(before) as f64 / SLOWEST);
        loop {
            let done = self.done().await?;
            if done >= jobs {
                break;
            }
            if began.elapsed() > limit {
                bail!("after {limit:?} only {done} of {jobs} jobs are done");
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        let newest = self.list(Status::Done, 1).await?;
        let finished = newest.first().and_then(|job| job.finished_at).context("the newest done job has no end")?;
        SystemTime::try_from(finished).context("the newest done job has no end")
    }

    /// First jobs of a status, in its order.
    pub async fn list(&self, status: Status, page_size: i32) -> Result<Vec<Job>> {
        let request = ListJobsRequest { status: status as i32, page_size, ..ListJobsRequest::default() };
        Ok(self.jobs.clone().list_jobs(request).await?.into_inner().jobs)
    }
}
