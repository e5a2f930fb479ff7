//! Preparation of a group of units before it is written: rows with ids, and the idempotency keys to win first.

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::{
    clock::Clock,
    error::StoreResult,
    rows::{
        inline_job,
        job::retry_json,
        write::{Deltas, ReadyRow},
    },
    settle::claim::Claim,
    types::{HandOff, Inserted, NewJob, Start, Stored, Unit, UnitAnswer},
};

/// A job with its id, as it will be stored.
#[derive(Clone, Debug)]
pub struct JobToStore {
    pub unit: usize,
    pub index: usize,
    pub id: Uuid,
    pub run_at: i64,
    pub enqueued_at: i64,
    pub retry: Option<String>,
}

/// Assigns ids. This is done once: after a commit whose outcome is not known, the jobs are inserted again under the
/// same ids.
pub fn jobs_to_store(units: &[Unit], clock: &Clock) -> StoreResult<Vec<JobToStore>> {
    let ids = clock.ids(units.iter().map(|unit| unit.jobs.len()).sum());
    let all =
        units.iter().enumerate().flat_map(|(unit, it)| it.jobs.iter().enumerate().map(move |(n, job)| (unit, n, job)));
    all.zip(ids)
        .map(|((unit, index, job), id)| {
            let enqueued_at = jobqueue_shared::lease::created_at_ms(id);
            let run_at = match job.start {
                Start::Now => enqueued_at,
                Start::After { delay_ms } => enqueued_at + delay_ms,
                Start::At { run_at_ms } => run_at_ms,
            };
            Ok(JobToStore { unit, index, id, run_at, enqueued_at, retry: retry_json(job.retry)? })
        })
        .collect()
}

/// worker_id and idempotency key.
pub type KeyRef<'a> = (&'a str, &'a str);

fn key_of(job: &NewJob) -> Option<(KeyRef<'_>, &[u8; 32])> {
    job.key.as_ref().map(|key| ((job.worker_id.as_str(), key.key.as_str()), &key.request_hash))
}

/// First job of each idempotency key of the group, sorted by key.
pub fn first_keys<'a>(units: &'a [Unit], jobs: &[JobToStore]) -> Vec<(KeyRef<'a>, Uuid, &'a [u8; 32])> {
    let mut firsts: HashMap<KeyRef<'a>, (Uuid, &'a [u8; 32])> = HashMap::new();
    for job in jobs {
        if let Some((key, hash)) = key_of(&units[job.unit].jobs[job.index]) {
            firsts.entry(key).or_insert((job.id, hash));
        }
    }
    let mut firsts: Vec<_> = firsts.into_iter().map(|(key, (id, hash))| (key, id, hash)).collect();
    firsts.sort_unstable_by_key(|(key, ..)| *key);
    firsts
}

/// Job that holds an idempotency key: this group's own, if it won the key, or an earlier one.
#[derive(Clone, Debug)]
pub struct Holder {
    pub job_id: Uuid,
    pub request_hash: Vec<u8>,
}

/// Answers to the units, jobs to insert, and jobs whose keys have to be released because their unit is refused.
pub struct KeyDecision {
    pub answers: Vec<UnitAnswer>,
    pub insert: Vec<JobToStore>,
    /// Ids of this group that hold a key but will not be inserted.
    pub give_back: Vec<Uuid>,
}

/// Decides each unit in order. A unit with a key that belongs to another request is refused as a whole.
pub fn judge(units: &[Unit], jobs: Vec<JobToStore>, holders: &HashMap<(String, String), Holder>) -> KeyDecision {
    let mut verdict =
        KeyDecision { answers: Vec::with_capacity(units.len()), insert: Vec::new(), give_back: Vec::new() };
    let mut jobs = jobs.into_iter().peekable();
    for (number, unit) in units.iter().enumerate() {
        let mut stored = Vec::with_capacity(unit.jobs.len());
        let mut insert = Vec::new();
        let mut conflict = None;
        while let Some(job) = jobs.next_if(|job| job.unit == number) {
            let new_job = &unit.jobs[job.index];
            let holder = new_job
                .key
                .as_ref()
                .and_then(|key| holders.get(&(new_job.worker_id.clone(), key.key.clone())).map(|holder| (holder, key)));
            match holder {
                None => {}
                Some((holder, _)) if holder.job_id == job.id => {}
                Some((holder, key)) => {
                    if holder.request_hash != key.request_hash {
                        conflict = conflict.or(Some((job.index, holder.job_id)));
                    }
                    stored.push(Stored { id: holder.job_id, deduplicated: true });
                    continue;
                }
            }
            stored.push(Stored { id: job.id, deduplicated: false });
            insert.push(job);
        }
        if let Some((index, existing)) = conflict {
            verdict.give_back.extend(insert.iter().map(|job| job.id));
            verdict.answers.push(UnitAnswer::KeyConflict { index, existing });
        } else {
            verdict.answers.push(UnitAnswer::Stored(stored));
            verdict.insert.extend(insert);
        }
    }
    verdict
}

/// Whether a unit was decided by a key that another, refused unit of the group had won. The group is then stored unit
/// by unit, so that a refused unit does not affect the others.
pub fn depends_on_refused_unit(verdict: &KeyDecision) -> bool {
    verdict.answers.iter().any(|answer| match answer {
        UnitAnswer::Stored(stored) => {
            stored.iter().any(|stored| stored.deduplicated && verdict.give_back.contains(&stored.id))
        }
        UnitAnswer::KeyConflict { existing, .. } => verdict.give_back.contains(existing),
        UnitAnswer::Refused(_) => false,
    })
}

pub fn ready_row(job: &JobToStore, units: &[Unit]) -> ReadyRow {
    let new_job = &units[job.unit].jobs[job.index];
    ReadyRow {
        worker_id: new_job.worker_id.clone(),
        id: job.id,
        priority: i16::from(new_job.priority),
        run_at: job.run_at,
        run_no: 0,
        attempts_used: 0,
        payload_bytes: new_job.payload.len() as i32,
        enqueued_at: job.enqueued_at,
        waits_for_handler: false,
        for_task: None,
        inline_job: inline_job::encode(new_job, job.retry.as_deref()),
    }
}

/// Removes the jobs of claims from rows for `ready`.
pub fn leave_out<'a>(rows: &mut Vec<ReadyRow>, claims: impl IntoIterator<Item = &'a Claim>) {
    let claimed: HashSet<_> = claims.into_iter().flat_map(|claim| &claim.entries).map(|entry| entry.job_id).collect();
    rows.retain(|row| !claimed.contains(&row.id));
}

/// Answers of a group in which no direct hand-off took place.
pub fn not_taken(answers: Vec<UnitAnswer>, offers: &[HandOff]) -> Inserted {
    Inserted { answers, handed: vec![Vec::new(); offers.len()] }
}

pub fn submit_deltas(rows: &[ReadyRow]) -> Deltas {
    let mut deltas = Deltas::default();
    for row in rows {
        deltas.ready(row, 1);
        deltas.at(&row.worker_id, 0).submitted += 1;
    }
    deltas
}
