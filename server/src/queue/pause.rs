//! PauseWorkerId and ResumeWorkerId: an operator holds jobs of a worker_id back, and lets them go.

use jobqueue_shared::{limits, proto::v1};

use super::{
    Queue,
    error::Result,
    validate::{Violations, storable},
};

impl Queue {
    pub async fn pause(&self, request: v1::PauseWorkerIdRequest) -> Result<()> {
        let mut violations = Violations::default();
        violations.worker_id("worker_id", &request.worker_id);
        violations.length("reason", &request.reason, limits::NOTE);
        violations.finish()?;
        Ok(self.store.pause(&request.worker_id, &storable(request.reason, limits::NOTE)).await?)
    }

    /// Resuming what is not paused is fine.
    pub async fn resume(&self, request: &v1::ResumeWorkerIdRequest) -> Result<()> {
        let mut violations = Violations::default();
        violations.worker_id("worker_id", &request.worker_id);
        violations.finish()?;
        self.store.resume(&request.worker_id).await?;
        // Nobody has counted what came together meanwhile.
        self.wakes.wake(&request.worker_id, limits::JOBS_PER_SESSION as usize);
        Ok(())
    }
}
