//! GetJob, and the job that other calls read first.

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{AttemptRecord, JobRecord};
use uuid::Uuid;

use crate::queue::{
    error::{Error, Result},
    handle::Queue,
    validate::job_id,
};

/// A job, its history, and the jobs that were copied from it.
#[derive(Debug)]
pub struct JobDetails {
    pub job: JobRecord,
    pub attempts: Vec<AttemptRecord>,
    /// Newest first, at most `limits::COPIES_SHOWN`, without payloads and results.
    pub copies: Vec<JobRecord>,
    pub more_copies: bool,
}

impl Queue {
    pub async fn get(&self, request: &v1::GetJobRequest) -> Result<JobDetails> {
        let id = job_id(&request.job_id)?;
        let job = self.job(id).await?;
        let attempts = self.context.store.attempts(id).await?;
        let mut copies = self.context.store.copies(id, limits::COPIES_SHOWN + 1).await?;
        let more_copies = copies.len() > limits::COPIES_SHOWN as usize;
        copies.truncate(limits::COPIES_SHOWN as usize);
        Ok(JobDetails { job, attempts, copies, more_copies })
    }

    pub(crate) async fn job(&self, id: Uuid) -> Result<JobRecord> {
        self.context.store.get(&[id]).await?.into_iter().next().flatten().ok_or(Error::NoJob(id))
    }
}
