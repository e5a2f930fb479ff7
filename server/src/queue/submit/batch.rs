//! Deduplication within a batch: of jobs with one idempotency key and the same request, only the first is stored.

use std::collections::HashMap;

use jobqueue_store::NewJob;

use crate::queue::validate::Violations;

/// Position of a job's answer among those of the stored jobs.
pub(super) enum Place {
    Own(usize),
    /// The job repeats an earlier one of the batch: same key, same request.
    SameAs(usize),
}

/// Jobs of a batch, without those that repeat an earlier one.
#[derive(Default)]
pub(super) struct Batch {
    pub jobs: Vec<NewJob>,
    /// Index in the request of each job.
    pub requested: Vec<usize>,
    pub places: Vec<Place>,
    keys: HashMap<(String, String), usize>,
}

impl Batch {
    pub(super) fn add(&mut self, index: usize, job: NewJob, violations: &mut Violations) {
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

#[cfg(test)]
mod tests {
    use jobqueue_shared::proto::v1::SubmitJobRequest;

    use super::{
        super::new_job::tests::{RULES, request},
        *,
    };
    use crate::queue::error::Error;

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
