//! Client of a server's `JobService`, which submits, reads and changes jobs.

use std::{sync::Arc, time::Duration};

use jobqueue_shared::{
    limits,
    proto::v1::{self as proto, Job, job_service_client::JobServiceClient},
};
use tokio::sync::Semaphore;
use tonic::{Response, transport::Channel};

use crate::{
    client::{
        changes::Changes,
        error::Error,
        job::JobExt as _,
        job_list::{JobCount, JobFilter, Page},
        new_job::NewJob,
        repeat::{self, Repeat},
    },
    connection::{backoff::Backoff, channel, tls::Tls},
    fields,
};

/// Maximum number of waits at once on a connection, half of the calls that it can carry, so that others are not held up.
const LONG_POLLS: usize = limits::CALLS_PER_CONNECTION / 2;

/// Client of a server's `JobService`. Cheap to clone; clones share one connection.
///
/// **Calls are repeated while the server is away or busy**, with growing random pauses for about 30 s in all, so that a
/// restart of the server is not an error of yours. Reading is always safe to repeat. A submit or copy is made safe: its outcome
/// is unknown when the connection breaks, so each job without an idempotency key is given a random one (`auto-…`)
/// before it is first sent, and the server stores it once however often it arrives. Cancel, retry and delete are
/// repeated only when it is certain that nothing was done. [`Client::without_repeats`] turns all of this off, including
/// the generated keys.
#[derive(Clone)]
pub struct Client {
    api: JobServiceClient<Channel>,
    deadline: Duration,
    repeats: bool,
    long_polls: Arc<Semaphore>,
}

/// Answer to a submit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submitted {
    pub job_id: String,
    /// True when the idempotency key had been used with the same request: `job_id` is that earlier job.
    pub deduplicated: bool,
}

/// Job with its history.
#[derive(Clone, Debug)]
pub struct JobDetails {
    pub job: Job,
    /// Attempts that did not complete the job, refused outcomes and operator retries, newest first, at most 100.
    pub attempts: Vec<proto::Attempt>,
    /// Copies of the job, newest first, at most 20.
    pub copies: Vec<proto::JobCopy>,
}

impl Client {
    /// Client of the server at `endpoint` (`http://host:port` or `https://host:port`), which connects at its first call.
    /// Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn connect(endpoint: impl AsRef<str>) -> Result<Self, Error> {
        Self::connect_with(endpoint, &Tls::default())
    }

    /// Client like that of [`Client::connect`], with this TLS.
    ///
    /// # Errors
    /// [`Error::Address`].
    pub fn connect_with(endpoint: impl AsRef<str>, tls: &Tls) -> Result<Self, Error> {
        let channel = channel::coalescing(endpoint.as_ref(), tls).map_err(|error| Error::Address(error.to_string()))?;
        let api = JobServiceClient::new(channel).max_decoding_message_size(channel::REPLY_BYTES);
        Ok(Self {
            api,
            deadline: Duration::from_secs(10),
            repeats: true,
            long_polls: Arc::new(Semaphore::new(LONG_POLLS)),
        })
    }

    /// Time limit of one try of a call. Default: 10 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Makes every call once, and generates no idempotency keys.
    pub fn without_repeats(mut self) -> Self {
        self.repeats = false;
        self
    }

    /// Stores one job. The job is durable when this returns.
    pub async fn submit(&self, job: NewJob) -> Result<Submitted, Error> {
        let (request, own_key) = job.into_request(self.repeats)?;
        let reply = self
            .call(Repeat::WhileAway, request, |mut api, request| async move { api.submit_job(request).await })
            .await?;
        Ok(submitted(reply, own_key))
    }

    /// Stores up to 500 jobs, all or none. The answers are in the order of the jobs.
    pub async fn submit_many(&self, jobs: impl IntoIterator<Item = NewJob>) -> Result<Vec<Submitted>, Error> {
        let mut own_keys = Vec::new();
        let mut requests = Vec::new();
        for job in jobs {
            let (request, own_key) = job.into_request(self.repeats)?;
            own_keys.push(own_key);
            requests.push(request);
        }
        let request = proto::SubmitJobsRequest { jobs: requests };
        let reply = self
            .call(Repeat::WhileAway, request, |mut api, request| async move { api.submit_jobs(request).await })
            .await?;
        if reply.jobs.len() != own_keys.len() {
            return Err(Error::Incomplete("answer for each job"));
        }
        Ok(reply.jobs.into_iter().zip(own_keys).map(|(reply, own_key)| submitted(reply, own_key)).collect())
    }

    /// Stores a new job that is a copy of `job_id`, which stays as it was, with some fields changed. The copy is durable
    /// when this returns.
    ///
    /// # Errors
    /// [`Error::NotFound`], among others.
    pub async fn copy(&self, job_id: &str, changes: Changes) -> Result<Submitted, Error> {
        let (request, own_key) = changes.into_request(job_id, self.repeats)?;
        let reply = self
            .call(Repeat::WhileAway, request, |mut api, request| async move { api.copy_job(request).await })
            .await?;
        Ok(Submitted { job_id: reply.job_id, deduplicated: reply.deduplicated && !own_key })
    }

    /// Reads a job and its history.
    ///
    /// # Errors
    /// [`Error::NotFound`], among others.
    pub async fn get(&self, job_id: &str) -> Result<JobDetails, Error> {
        let request = proto::GetJobRequest { job_id: job_id.to_owned() };
        let reply =
            self.call(Repeat::WhileAway, request, |mut api, request| async move { api.get_job(request).await }).await?;
        Ok(JobDetails { job: present(reply.job)?, attempts: reply.attempts, copies: reply.copies })
    }

    /// Timeline of a job: its events from the submission on, oldest first.
    ///
    /// # Errors
    /// [`Error::NotFound`], among others.
    pub async fn timeline(&self, job_id: &str) -> Result<Vec<proto::TimelineEvent>, Error> {
        let request = proto::GetTimelineRequest { job_id: job_id.to_owned() };
        let reply = self
            .call(Repeat::WhileAway, request, |mut api, request| async move { api.get_timeline(request).await })
            .await?;
        Ok(reply.events)
    }

    /// Explanation why a job is not running: a reason, a sentence that states it, and the numbers in it.
    ///
    /// # Errors
    /// [`Error::NotFound`], among others.
    pub async fn explain(&self, job_id: &str) -> Result<proto::ExplainJobResponse, Error> {
        let request = proto::ExplainJobRequest { job_id: job_id.to_owned() };
        self.call(Repeat::WhileAway, request, |mut api, request| async move { api.explain_job(request).await }).await
    }

    /// Page of jobs. Without a status, newest first; dead letters are the jobs with
    /// [`Status::Failed`](crate::Status::Failed).
    pub async fn list(&self, filter: JobFilter) -> Result<Page, Error> {
        let reply =
            self.call(Repeat::WhileAway, filter.into_request(), |mut api, request| async move {
                api.list_jobs(request).await
            })
            .await?;
        let next_page_token = Some(reply.next_page_token).filter(|token| !token.is_empty());
        Ok(Page { jobs: reply.jobs, next_page_token })
    }

    /// Number of jobs that a filter selects; its page does not matter. Exact where `worker_id` and `status` alone decide.
    pub async fn count(&self, filter: JobFilter) -> Result<JobCount, Error> {
        let reply =
            self.call(Repeat::WhileAway, filter.into_count(), |mut api, request| async move {
                api.count_jobs(request).await
            })
            .await?;
        Ok(JobCount { number: u32::try_from(reply.count).unwrap_or_default(), at_least: reply.at_least })
    }

    /// Cancels a pending or running job. The reason (at most 1 KiB) is kept as its note.
    ///
    /// # Errors
    /// [`Error::WrongState`] when the job has finished.
    pub async fn cancel(&self, job_id: &str, reason: &str) -> Result<Job, Error> {
        let request = proto::CancelJobRequest { job_id: job_id.to_owned(), reason: reason.to_owned() };
        let reply = self
            .call(Repeat::WhileNothingDone, request, |mut api, request| async move { api.cancel_job(request).await })
            .await?;
        present(reply.job)
    }

    /// Returns a failed or cancelled job to the queue, with a fresh budget of attempts.
    ///
    /// # Errors
    /// [`Error::WrongState`] when the job is in any other state.
    pub async fn retry(&self, job_id: &str) -> Result<Job, Error> {
        let request = proto::RetryJobRequest { job_id: job_id.to_owned() };
        let reply = self
            .call(Repeat::WhileNothingDone, request, |mut api, request| async move { api.retry_job(request).await })
            .await?;
        present(reply.job)
    }

    /// Deletes a finished job and everything that is stored about it.
    ///
    /// # Errors
    /// [`Error::WrongState`] when the job has not finished.
    pub async fn delete(&self, job_id: &str) -> Result<(), Error> {
        let request = proto::DeleteJobRequest { job_id: job_id.to_owned() };
        self.call(Repeat::WhileNothingDone, request, |mut api, request| async move { api.delete_job(request).await })
            .await
            .map(drop)
    }

    /// Number of jobs in each state, overall and per `worker_id`. With very many worker_ids the answer comes in several
    /// pages, each of its own moment; the totals are those of the last page.
    pub async fn metrics(&self) -> Result<proto::GetMetricsResponse, Error> {
        let mut request = proto::GetMetricsRequest::default();
        let mut worker_ids = Vec::new();
        loop {
            let send = |mut api: JobServiceClient<Channel>, request| async move { api.get_metrics(request).await };
            let mut page = self.call(Repeat::WhileAway, request.clone(), send).await?;
            worker_ids.append(&mut page.worker_ids);
            if page.next_page_token.is_empty() {
                return Ok(proto::GetMetricsResponse { worker_ids, ..page });
            }
            request.page_token = page.next_page_token;
        }
    }

    /// Waits until the job is done, failed or cancelled. There is no time limit; use `tokio::time::timeout` to set one.
    /// Beyond 64 waits at once, which take up their connection, the job is read at first every 50 ms, later every 2 s.
    pub async fn wait_until_finished(&self, job_id: &str) -> Result<JobDetails, Error> {
        let mut pauses = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        loop {
            if let Ok(_place) = self.long_polls.try_acquire() {
                self.wait(job_id).await?;
            }
            let details = self.get(job_id).await?;
            if details.job.is_finished() {
                return Ok(details);
            }
            tokio::time::sleep(pauses.next()).await;
        }
    }

    /// Waits for the job to finish, as long as the limits of a call allow.
    async fn wait(&self, job_id: &str) -> Result<(), Error> {
        let wait = fields::duration(Duration::from_millis(limits::WAIT_MS as u64));
        let request = proto::WaitJobRequest { job_id: job_id.to_owned(), wait: Some(wait) };
        self.call(Repeat::WhileAway, request, |mut api, request| async move { api.wait_job(request).await })
            .await
            .map(drop)
    }

    async fn call<Message, Reply, Fut>(
        &self,
        repeat: Repeat,
        message: Message,
        send: impl Fn(JobServiceClient<Channel>, tonic::Request<Message>) -> Fut,
    ) -> Result<Reply, Error>
    where
        Message: Clone,
        Fut: Future<Output = Result<Response<Reply>, tonic::Status>>,
    {
        let repeat = if self.repeats { repeat } else { Repeat::Never };
        let reply = repeat::call(repeat, self.deadline, message, |request| send(self.api.clone(), request)).await?;
        Ok(reply)
    }
}

fn submitted(reply: proto::SubmitJobResponse, own_key: bool) -> Submitted {
    // A generated key can only match an earlier try of the same call, which is no duplicate.
    Submitted { job_id: reply.job_id, deduplicated: reply.deduplicated && !own_key }
}

fn present(job: Option<Job>) -> Result<Job, Error> {
    job.ok_or(Error::Incomplete("job"))
}
