//! GetJob, and the job that other calls read first.

use jobqueue_shared::proto::v1;
use jobqueue_store::{AttemptRecord, JobRecord};
use uuid::Uuid;

use crate::queue::{
    error::{Error, Result},
    handle::Queue,
    validate::job_id,
};

impl Queue {
    pub async fn get(&self, request: &v1::GetJobRequest) -> Result<(JobRecord, Vec<AttemptRecord>)> {
        let id = job_id(&request.job_id)?;
        let job = self.job(id).await?;
        Ok((job, self.context.store.attempts(id).await?))
    }

    pub(crate) async fn job(&self, id: Uuid) -> Result<JobRecord> {
        self.context.store.get(&[id]).await?.into_iter().next().flatten().ok_or(Error::NoJob(id))
    }
}
