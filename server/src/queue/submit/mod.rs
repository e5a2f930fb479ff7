//! SubmitJob, SubmitJobs and CopyJob.
//!
//! `new_job` checks a job, `batch` finds the jobs that repeat one of the same call, `copy` makes a job out of another one,
//! and `group` stores what concurrent calls submit.

mod batch;
mod copy;
pub(super) mod group;
mod new_job;

use jobqueue_shared::{limits, proto::v1::SubmitJobRequest};
use jobqueue_store::{NewJob, StoreError, Stored, Unit, UnitAnswer};

use self::{
    batch::{Batch, Place},
    new_job::Rules,
};
use super::{
    error::{Error, Result},
    group_commit::limits::Weight,
    handle::Queue,
    validate::Violations,
};

impl Queue {
    pub async fn submit(&self, request: SubmitJobRequest) -> Result<Stored> {
        let mut violations = Violations::default();
        let job = self.rules().job(request, &mut violations);
        violations.finish()?;
        let stored = self.store_unit(vec![job], |_| String::new()).await?;
        stored.first().copied().ok_or(Error::Draining)
    }

    /// Stores all jobs or none; one answer for each job, in order.
    pub async fn submit_batch(&self, requests: Vec<SubmitJobRequest>) -> Result<Vec<Stored>> {
        let mut violations = Violations::default();
        if requests.is_empty() || requests.len() > limits::BATCH_JOBS {
            let count = requests.len();
            violations.add("jobs", format!("has {count} jobs; it must have 1 to {}", limits::BATCH_JOBS));
            violations.finish()?;
            return Ok(Vec::new());
        }
        let rules = self.rules();
        let mut batch = Batch::default();
        for (index, request) in requests.into_iter().enumerate() {
            violations.within(format!("jobs[{index}]."));
            let job = rules.job(request, &mut violations);
            batch.add(index, job, &mut violations);
        }
        violations.finish()?;
        let Batch { jobs, requested, places, .. } = batch;
        let stored = self.store_unit(jobs, |index| format!("jobs[{}].", requested[index])).await?;
        Ok(places
            .into_iter()
            .map(|place| match place {
                Place::Own(at) => stored[at],
                Place::SameAs(at) => Stored { deduplicated: true, ..stored[at] },
            })
            .collect())
    }

    /// Stores jobs as one unit. `prefix` gives the path of a job in the request, by its index.
    async fn store_unit(&self, jobs: Vec<NewJob>, prefix: impl Fn(usize) -> String) -> Result<Vec<Stored>> {
        let (jobs_sent, started) = (jobs.len(), std::time::Instant::now());
        let weight = Weight { count: jobs_sent, bytes: jobs.iter().map(|job| job.payload.len()).sum() };
        let submits = if weight.bytes > group::LARGE { &self.large_submits } else { &self.submits };
        let answers = submits.call(vec![Unit { jobs }], weight).await?;
        self.context.meters.submit_seconds.record(started.elapsed());
        match answers.into_iter().next() {
            Some(UnitAnswer::Stored(stored)) if stored.len() == jobs_sent => Ok(stored),
            Some(UnitAnswer::KeyConflict { index, existing }) => {
                Err(Error::KeyReused { field: format!("{}idempotency_key", prefix(index)), existing })
            }
            Some(UnitAnswer::Refused(text)) => Err(StoreError::Data(text).into()),
            _ => Err(StoreError::Defect("a unit was not answered for each of its jobs".into()).into()),
        }
    }

    fn rules(&self) -> Rules {
        Rules { payload_bytes: self.payload_bytes, now_ms: self.context.clock.now_ms() }
    }
}
