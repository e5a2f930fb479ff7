//! Audit of the stored data: each job is in exactly one state, and the counts add up.

use std::collections::HashMap;

use uuid::Uuid;

use crate::{
    rows::{
        inline_job,
        job::{LeasedRow, TakenRow},
        packed_claim, write,
    },
    types::ErrorGroupId,
};

/// Rows of `ready` with an inline job.
pub const INLINE_JOBS: &str = "SELECT id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, inline_job FROM ready WHERE inline_job IS NOT NULL";
/// Rows of `jobs` that these inline jobs are copies of.
pub const THEIR_JOBS: &str = "
    SELECT id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key
    FROM jobs WHERE EXISTS (
        SELECT 1 FROM ready
        WHERE ready.worker_id = jobs.worker_id AND ready.priority = jobs.priority AND ready.run_at = jobs.run_at
          AND ready.id = jobs.id AND inline_job IS NOT NULL)";

/// Contradictions of operations, by their numbers.
pub const OPERATIONS: &str = "
    SELECT * FROM (
        SELECT 'refusals belong to no operation' AS what, count(*) AS n FROM operation_refusals r
            WHERE NOT EXISTS (SELECT 1 FROM operations o WHERE o.id = r.operation_id)
        UNION ALL SELECT 'samples belong to no operation', count(*) FROM operation_samples s
            WHERE NOT EXISTS (SELECT 1 FROM operations o WHERE o.id = s.operation_id)
        UNION ALL SELECT 'operations count other refusals than they keep', count(*) FROM operations o
            WHERE (SELECT count(*) FROM operation_refusals r WHERE r.operation_id = o.id)
                  <> CASE WHEN o.refused < 100 THEN o.refused ELSE 100 END
        UNION ALL SELECT 'operations have ended without a time, or have a time without an end', count(*) FROM operations
            WHERE (state >= 4) <> (finished_at IS NOT NULL)
        UNION ALL SELECT 'operations that stand still have a runner', count(*) FROM operations
            WHERE state >= 3 AND runner IS NOT NULL
    ) AS t WHERE n > 0";

/// Row of counters: worker_id, bucket, first, retry, running, done, failed, cancelled.
pub type CounterRow = (String, i64, i64, i64, i64, i64, i64, i64);

/// Counters (first, retry, running, done, failed, cancelled) by worker_id and bucket.
pub type Counters = HashMap<(String, i64), [i64; 6]>;

/// Findings of an audit under way.
#[derive(Default)]
pub struct Found {
    pub jobs: HashMap<Uuid, String>,
    /// Smallest id of a done job that must have a row in `jobs`: the daily partitions before it were dropped, and what
    /// else is stored of those jobs is deleted row by row.
    pub dropped_before: Uuid,
    seen: HashMap<Uuid, Vec<&'static str>>,
    counted: Counters,
    /// Dead letters by error group and worker_id.
    dead_letters: HashMap<(i64, String), i64>,
    wrong: Vec<String>,
}

/// Dead letters as the error groups count them.
#[derive(Default)]
pub struct ErrorGroupCounts {
    /// Of the groups' rows.
    pub groups: Vec<(i64, i64)>,
    /// By worker_id.
    pub worker_ids: Vec<(i64, String, i64)>,
    /// Changes that are not folded.
    pub deltas: Vec<(i64, String, i64)>,
}

/// Records in which tables each job is found.
pub struct StateCheck<'a>(&'a mut Found);

impl<'a> StateCheck<'a> {
    pub fn new(found: &'a mut Found) -> Self {
        Self(found)
    }

    fn see(&mut self, id: Uuid, worker_id: &str, table: &'static str, bucket: i64, counter: usize) {
        self.0.seen.entry(id).or_default().push(table);
        self.0.counted.entry((worker_id.to_owned(), bucket)).or_default()[counter] += 1;
        match self.0.jobs.get(&id) {
            None if table == "done" && id < self.0.dropped_before => {}
            None => self.0.wrong.push(format!("{table} holds {id}, and there is no such job")),
            Some(owner) if owner != worker_id => {
                self.0.wrong.push(format!("{table} holds {id} for {worker_id}; the job is for {owner}"));
            }
            Some(_) => {}
        }
    }

    pub fn ready(&mut self, rows: Vec<(Uuid, String, i64, i64, i32)>) {
        for (id, worker_id, enqueued_at, run_at, attempts_used) in rows {
            self.see(id, &worker_id, "ready", write::bucket(enqueued_at, run_at), usize::from(attempts_used != 0));
        }
    }

    pub fn inline_jobs(&mut self, kept: &[TakenRow], stored: Vec<LeasedRow>) {
        let stored: HashMap<_, _> = stored.into_iter().map(|row| (row.id, row)).collect();
        for row in kept {
            if inline_job::decode(row).as_ref() != stored.get(&row.id) {
                self.0.wrong.push(format!("ready tells of {} something else than jobs", row.id));
            }
        }
    }

    pub fn claims(&mut self, rows: Vec<(Uuid, String, Vec<u8>, Vec<u8>)>) {
        for (claim_id, worker_id, ids, bytes) in rows {
            let Some(open) = packed_claim::decode_entries(&ids, &bytes).filter(|open| !open.is_empty()) else {
                self.0.wrong.push(format!("claim {claim_id} is empty or does not hold together"));
                continue;
            };
            for entry in open {
                self.see(entry.job_id, &worker_id, "claims", 0, 2);
            }
        }
    }

    pub fn done(&mut self, rows: Vec<(Uuid, String, Vec<u8>)>) {
        for (first_id, worker_id, ids) in rows {
            let ids: Vec<_> = packed_claim::decode_ids(&ids).collect();
            if !ids.is_sorted()
                || ids.iter().any(|id| first_id < packed_claim::earliest_first_id(*id) || first_id > *id)
            {
                self.0.wrong.push(format!("the done row of {first_id} is out of order"));
            }
            for id in ids {
                self.see(id, &worker_id, "done", 0, 3);
            }
        }
    }

    pub fn failed(&mut self, rows: Vec<(Uuid, String, i64)>) {
        for (id, worker_id, fingerprint) in rows {
            self.see(id, &worker_id, "dead_letters", 0, 4);
            *self.0.dead_letters.entry((fingerprint, worker_id)).or_default() += 1;
        }
    }

    pub fn cancelled(&mut self, rows: Vec<(Uuid, String)>) {
        for (id, worker_id) in rows {
            self.see(id, &worker_id, "cancelled", 0, 5);
        }
    }
}

impl Found {
    /// Compares the dead letters with those that the error groups count. Dead letters without a group of their own are
    /// counted in [`ErrorGroupId::OTHER`].
    pub fn error_groups(&mut self, counts: ErrorGroupCounts) {
        let groups: HashMap<_, _> = counts.groups.into_iter().collect();
        let mut is = std::mem::take(&mut self.dead_letters);
        let (mut says, mut sums): (HashMap<(i64, String), i64>, HashMap<i64, i64>) = Default::default();
        for (fingerprint, worker_id, n) in counts.worker_ids {
            *says.entry((fingerprint, worker_id)).or_default() += n;
            *sums.entry(fingerprint).or_default() += n;
        }
        for (fingerprint, worker_id, n) in counts.deltas {
            let own = groups.contains_key(&fingerprint);
            // Without a row, the group's dead letters are those of other errors, but for what is not folded.
            if own {
                *says.entry((fingerprint, worker_id)).or_default() += n;
            } else {
                *is.entry((fingerprint, worker_id)).or_default() -= n;
            }
        }
        let mut expected: HashMap<(i64, String), i64> = HashMap::new();
        for ((fingerprint, worker_id), n) in is {
            let own = if groups.contains_key(&fingerprint) { fingerprint } else { ErrorGroupId::OTHER.0 };
            *expected.entry((own, worker_id)).or_default() += n;
        }
        let mut keys: Vec<_> = expected.keys().chain(says.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let of = |counts: &HashMap<_, i64>| counts.get(key).copied().unwrap_or_default();
            if of(&expected) != of(&says) {
                self.wrong.push(format!(
                    "error group {} of {} has {} dead letters, counted as {}",
                    ErrorGroupId(key.0),
                    key.1,
                    of(&expected),
                    of(&says)
                ));
            }
        }
        for (fingerprint, n) in groups {
            let sum = sums.get(&fingerprint).copied().unwrap_or_default();
            if n != sum {
                let id = ErrorGroupId(fingerprint);
                self.wrong.push(format!("error group {id} counts {n} dead letters, and its worker_ids {sum}"));
            }
        }
    }

    pub fn operations(&mut self, contradictions: Vec<(String, i64)>) {
        self.wrong.extend(contradictions.into_iter().map(|(what, n)| format!("{n} {what}")));
    }

    pub fn verdict(mut self, counters: &Counters, orphans: &[(String, i64)]) -> Vec<String> {
        for id in self.jobs.keys() {
            match self.seen.get(id).map_or(&[][..], Vec::as_slice) {
                [_] => {}
                [] => self.wrong.push(format!("job {id} is in no table")),
                entries => self.wrong.push(format!("job {id} is in several tables: {}", entries.join(", "))),
            }
        }
        let empty = [0; 6];
        let mut keys: Vec<_> = self.counted.keys().chain(counters.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let (is, says) = (self.counted.get(key).unwrap_or(&empty), counters.get(key).unwrap_or(&empty));
            if is != says {
                self.wrong.push(format!(
                    "counters of {} at {}: first_attempt, retry, running, done, failed, cancelled are {is:?} and counted as {says:?}",
                    key.0, key.1
                ));
            }
        }
        self.wrong.extend(orphans.iter().map(|(kind, n)| format!("{n} {kind} belong to no job")));
        self.wrong.sort_unstable();
        self.wrong
    }
}
