//! PauseWorkerId and ResumeWorkerId: stop and resume leasing the jobs of a worker_id.

use jobqueue_shared::{limits, proto::v1};

use crate::queue::{
    error::Result,
    handle::Queue,
    validate::{Violations, storable},
};

impl Queue {
    pub async fn pause(&self, request: v1::PauseWorkerIdRequest) -> Result<()> {
        let mut violations = Violations::default();
        violations.worker_id("worker_id", &request.worker_id);
        violations.length("reason", &request.reason, limits::NOTE);
        violations.finish()?;
        Ok(self.context.store.pause(&request.worker_id, &storable(request.reason, limits::NOTE)).await?)
    }

    /// Resumes a worker_id; one that is not paused is no error.
    pub async fn resume(&self, request: &v1::ResumeWorkerIdRequest) -> Result<()> {
        let mut violations = Violations::default();
        violations.worker_id("worker_id", &request.worker_id);
        violations.finish()?;
        self.context.store.resume(&request.worker_id).await?;
        // The number of jobs that became runnable during the pause is not known.
        self.context.notifier.wake(&request.worker_id, limits::JOBS_PER_SESSION as usize);
        Ok(())
    }
}
