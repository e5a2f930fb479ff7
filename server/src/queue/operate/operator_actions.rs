//! CancelJob, RetryJob and DeleteJob.

use jobqueue_shared::{limits, proto::v1};
use jobqueue_store::{ActionAnswer, JobRecord};
use uuid::Uuid;

use crate::queue::{
    error::{Error, Result},
    handle::Queue,
    validate::{Violations, job_id, storable},
};

impl Queue {
    pub async fn cancel(&self, request: v1::CancelJobRequest) -> Result<JobRecord> {
        let mut violations = Violations::default();
        let id = violations.uuid("job_id", &request.job_id);
        violations.length("reason", &request.reason, limits::NOTE);
        violations.finish()?;
        let reason = storable(request.reason, limits::NOTE);
        let (_, stopped) = only_answer(id, "cancelled", self.context.store.cancel(&[id], &reason).await?)?;
        if let Some(session_id) = stopped {
            self.context.notifier.stop(session_id);
        }
        self.context.finished.tell([id]);
        self.job(id).await
    }

    pub async fn retry(&self, request: &v1::RetryJobRequest) -> Result<JobRecord> {
        let id = job_id(&request.job_id)?;
        let (worker_id, _) = only_answer(id, "retried", self.context.store.retry(&[id]).await?)?;
        self.context.notifier.wake(&worker_id, 1);
        self.job(id).await
    }

    pub async fn delete(&self, request: &v1::DeleteJobRequest) -> Result<()> {
        let id = job_id(&request.job_id)?;
        only_answer(id, "deleted", self.context.store.delete(&[id]).await?).map(|_| ())
    }
}

/// Answer to an action on one job: its worker_id, and the session that it was taken from.
fn only_answer(id: Uuid, verb: &'static str, answers: Vec<ActionAnswer>) -> Result<(String, Option<Uuid>)> {
    match answers.into_iter().next() {
        Some(ActionAnswer::Done { worker_id, stopped }) => Ok((worker_id, stopped)),
        Some(ActionAnswer::Refused(state)) => Err(Error::WrongState { id, state, verb }),
        Some(ActionAnswer::NotFound) | None => Err(Error::NoJob(id)),
    }
}
