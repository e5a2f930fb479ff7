//! SubmitJob and SubmitJobs: deduplication within a batch, and storing groups of units.

use std::collections::{HashMap, HashSet};

use jobqueue_shared::{limits, proto::v1::SubmitJobRequest};
use jobqueue_store::{Inserted, NewJob, Start, StoreError, StoreResult, Stored, Unit, UnitAnswer};
use uuid::Uuid;

use super::{
    LARGE, Queue,
    error::{Error, Result},
    group_commit::Weight,
    new_job::Rules,
    notify::Notifier,
    validate::Violations,
};

/// Maximum delay, in milliseconds, of a job whose submit notifies parked polls; they then wait for its due time. Jobs with
/// a longer delay are found by polling.
const SOON_MS: i64 = 2_000;

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
        let submits = if weight.bytes > LARGE { &self.large_submits } else { &self.submits };
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

/// Position of a job's answer among those of the stored jobs.
enum Place {
    Own(usize),
    /// The job repeats an earlier one of the batch: same key, same request.
    SameAs(usize),
}

/// Jobs of a batch, without those that repeat an earlier one.
#[derive(Default)]
struct Batch {
    jobs: Vec<NewJob>,
    /// Index in the request of each job.
    requested: Vec<usize>,
    places: Vec<Place>,
    keys: HashMap<(String, String), usize>,
}

impl Batch {
    fn add(&mut self, index: usize, job: NewJob, violations: &mut Violations) {
        let at = self.jobs.len();
        if let Some(key) = &job.key {
            let before = *self.keys.entry((job.worker_id.clone(), key.key.clone())).or_insert(at);
            if before != at {
                if self.jobs[before].key.as_ref().is_some_and(|it| it.request_hash == key.request_hash) {
                    self.places.push(Place::SameAs(before));
                } else {
                    let before = self.requested[before];
                    violations.add("idempotency_key", format!("is that of jobs[{before}], which is another request"));
                }
                return;
            }
        }
        self.jobs.push(job);
        self.requested.push(index);
        self.places.push(Place::Own(at));
    }
}

/// Notifies parked polls of the jobs that a group stored, except for those that were handed off directly.
pub(super) fn wake_for(
    notifier: &Notifier,
    now_ms: i64,
    units: &[Unit],
    answers: &[UnitAnswer],
    handed: &HashSet<Uuid>,
) {
    let mut soon: HashMap<&str, usize> = HashMap::new();
    for (unit, answer) in units.iter().zip(answers) {
        let UnitAnswer::Stored(stored) = answer else { continue };
        for (job, stored) in unit.jobs.iter().zip(stored) {
            let delay_ms = match job.start {
                Start::Now => 0,
                Start::After { delay_ms } => delay_ms,
                Start::At { run_at_ms } => run_at_ms - now_ms,
            };
            if !stored.deduplicated && delay_ms <= SOON_MS && !handed.contains(&stored.id) {
                *soon.entry(&job.worker_id).or_default() += 1;
            }
        }
    }
    for (worker_id, jobs) in soon {
        notifier.wake(worker_id, jobs);
    }
}

/// Counts the new and the deduplicated jobs of a group.
pub(super) fn tally(answers: &[UnitAnswer]) -> (u64, u64) {
    let mut tally = (0, 0);
    for answer in answers {
        if let UnitAnswer::Stored(stored) = answer {
            for it in stored {
                *(if it.deduplicated { &mut tally.1 } else { &mut tally.0 }) += 1;
            }
        }
    }
    tally
}

/// Inserts a group of units, hands jobs to parked polls, and notifies polls of the other jobs.
pub(super) async fn flush(context: &super::Context, units: Vec<Unit>) -> StoreResult<Vec<UnitAnswer>> {
    let pending = context.parked_polls.hand_off(&units);
    let (offers, calls): (Vec<_>, Vec<_>) = pending.into_iter().map(|it| (it.hand_off, it.handed)).unzip();
    let Inserted { answers, handed } = context.store.insert(&units, &offers).await?;
    let ids: HashSet<_> = handed.iter().flatten().map(|leased| leased.lease.job_id).collect();
    for ((call, offer), jobs) in calls.into_iter().zip(&offers).zip(handed) {
        if !jobs.is_empty() && call.send(jobs).is_err() {
            // The poll has ended. If its worker has repeated it with the same acquire_no, that one finds the jobs when
            // it acquires.
            context.notifier.wake_here(&offer.worker_id, usize::MAX);
        }
    }
    wake_for(&context.notifier, context.clock.now_ms(), &units, &answers, &ids);
    let (new, deduplicated) = tally(&answers);
    context.meters.submitted.increment(new);
    context.meters.deduplicated.increment(deduplicated);
    Ok(answers)
}

/// Parses a caller's job id.
pub(super) fn job_id(text: &str) -> Result<Uuid> {
    let mut violations = Violations::default();
    let id = violations.uuid("job_id", text);
    violations.finish().map(|()| id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::new_job::tests::{RULES, request};

    #[test]
    fn a_batch_that_repeats_itself_is_stored_once() {
        let keyed = |key: &str, payload: &str| SubmitJobRequest {
            idempotency_key: key.into(),
            payload_json: payload.into(),
            ..request()
        };
        let mut violations = Violations::default();
        let mut batch = Batch::default();
        let other_worker = SubmitJobRequest { worker_id: "v".into(), ..keyed("a", "1") };
        for (index, it) in
            [request(), keyed("a", "1"), keyed("a", "1"), other_worker, request()].into_iter().enumerate()
        {
            batch.add(index, RULES.job(it, &mut violations), &mut violations);
        }
        assert!(violations.is_empty());
        assert_eq!(batch.requested, [0, 1, 3, 4]);
        assert!(matches!(
            batch.places[..],
            [Place::Own(0), Place::Own(1), Place::SameAs(1), Place::Own(2), Place::Own(3)]
        ));
        violations.within("jobs[5].".into());
        batch.add(5, RULES.job(keyed("a", "2"), &mut violations), &mut violations);
        let Err(Error::Invalid(found)) = violations.finish() else { panic!() };
        assert_eq!(found[0].field, "jobs[5].idempotency_key");
        assert!(found[0].description.contains("jobs[1]"), "{}", found[0].description);
    }
}
