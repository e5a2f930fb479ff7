//! Rows that a transaction writes, and the counter changes that go with them.

use std::collections::BTreeMap;

use sqlx::FromRow;
use uuid::Uuid;

#[derive(Clone, Debug, PartialEq, Eq, FromRow)]
pub struct ReadyRow {
    pub worker_id: String,
    pub id: Uuid,
    pub priority: i16,
    pub run_at: i64,
    pub run_no: i32,
    pub attempts_used: i32,
    pub payload_bytes: i32,
    pub enqueued_at: i64,
    pub waits_for_handler: bool,
    /// The job's task, if a session that does not handle it released the job.
    #[sqlx(default)]
    pub for_task: Option<String>,
    /// Inline job, as `inline_job.rs` encodes it; only new jobs have one.
    #[sqlx(default)]
    pub inline_job: Option<Vec<u8>>,
}

impl ReadyRow {
    /// worker_id, priority, run_at and id, by which acquires scan.
    pub fn key(&self) -> (&str, i16, i64, Uuid) {
        (&self.worker_id, self.priority, self.run_at, self.id)
    }
}

#[derive(Clone, Debug)]
pub struct DoneRow {
    pub worker_id: String,
    pub first_id: Uuid,
    pub claim_id: Uuid,
    pub session_id: Uuid,
    pub claimed_at: i64,
    pub finished_at: i64,
    pub ids: Vec<u8>,
    pub runs: Option<Vec<u8>>,
}

/// A dead letter, without the columns that are copied from the job.
#[derive(Clone, Debug)]
pub struct DeadRow {
    pub id: Uuid,
    pub run_no: i32,
    pub attempts_used: i32,
    pub reason: i16,
    pub error: String,
    pub fingerprint: i64,
    pub session_id: Uuid,
    pub started_at: i64,
    pub failed_at: i64,
}

#[derive(Clone, Debug)]
pub struct CancelledRow {
    pub id: Uuid,
    pub worker_id: String,
    pub run_no: i32,
    pub attempts_used: i32,
    pub cancelled_at: i64,
    pub note: String,
    pub session_id: Option<Uuid>,
    pub started_at: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct AttemptRow {
    pub job_id: Uuid,
    pub run_no: i32,
    pub outcome: i16,
    pub claim_id: Option<Uuid>,
    pub session_id: Option<Uuid>,
    pub host: String,
    pub started_at: Option<i64>,
    pub ended_at: i64,
    pub error: String,
    /// Error group of a failed attempt.
    pub fingerprint: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct ResultRow {
    pub id: Uuid,
    pub result: Option<Vec<u8>>,
    pub note: String,
}

#[derive(Clone, Debug)]
pub struct StopRow {
    pub session_id: Uuid,
    pub claim_id: Uuid,
    pub job_id: Uuid,
    pub reason: i16,
}

/// Changes of the counters, by worker_id and bucket; see [`bucket`].
#[derive(Clone, Debug, Default)]
pub struct Deltas(BTreeMap<String, BTreeMap<i64, Delta>>);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta {
    /// Pending jobs with no attempt used.
    pub first_attempt: i32,
    /// Pending jobs with attempts used.
    pub retry: i32,
    pub running: i32,
    pub done: i32,
    pub failed: i32,
    pub cancelled: i32,
    pub submitted: i32,
    pub completed: i32,
    pub died: i32,
    pub retried: i32,
}

impl Deltas {
    /// Changes that are not zero: worker_id, bucket, change.
    pub fn rows(&self) -> impl Iterator<Item = (&str, i64, &Delta)> {
        let all = self.0.iter().flat_map(|(worker_id, buckets)| {
            buckets.iter().map(move |(bucket, delta)| (worker_id.as_str(), *bucket, delta))
        });
        all.filter(|(.., delta)| **delta != Delta::default())
    }

    pub fn at(&mut self, worker_id: &str, bucket: i64) -> &mut Delta {
        // Called once a job: a name that is there already is not copied.
        if !self.0.contains_key(worker_id) {
            self.0.insert(worker_id.to_owned(), BTreeMap::new());
        }
        #[expect(clippy::expect_used, reason = "it has just been put there")]
        self.0.get_mut(worker_id).expect("a worker_id").entry(bucket).or_default()
    }

    /// Adds `n` dead letters, if `failed`, or cancelled jobs.
    pub(crate) fn set_aside(&mut self, worker_id: &str, failed: bool, n: i32) {
        let delta = self.at(worker_id, 0);
        *(if failed { &mut delta.failed } else { &mut delta.cancelled }) += n;
    }

    pub fn ready(&mut self, row: &ReadyRow, n: i32) {
        self.pending(&row.worker_id, row.enqueued_at, row.run_at, row.attempts_used, n);
    }

    /// Adds `n` jobs that are pending since `enqueued_at`, due at `run_at`, with so many attempts used.
    pub fn pending(&mut self, worker_id: &str, enqueued_at: i64, run_at: i64, attempts_used: i32, n: i32) {
        let delta = self.at(worker_id, bucket(enqueued_at, run_at));
        *(if attempts_used == 0 { &mut delta.first_attempt } else { &mut delta.retry }) += n;
    }
}

/// Bucket in which a pending job is counted: the time from which on it is runnable and no longer counts as scheduled or
/// retrying, so that no statement is needed when that time passes; 0 if it was runnable from the start. The time is
/// rounded up to a second, or to a minute if it is more than ten minutes ahead. It is a function of the row alone, so
/// that a job is subtracted from the bucket that it was added to.
pub fn bucket(enqueued_at: i64, run_at: i64) -> i64 {
    let step = match run_at.saturating_sub(enqueued_at) {
        ..=0 => return 0,
        1..=600_000 => 1_000,
        _ => 60_000,
    };
    run_at.saturating_add(step - 1).div_euclid(step) * step
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_bucket_never_ends_before_its_jobs_can_run(enqueued_at in 0_i64..4_000_000_000_000, wait in -1_000_000_i64..40_000_000_000) {
            let run_at = enqueued_at + wait;
            let bucket = bucket(enqueued_at, run_at);
            if wait <= 0 {
                prop_assert_eq!(bucket, 0);
            } else {
                prop_assert!((run_at..run_at + 60_000).contains(&bucket));
            }
        }
    }
}
