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

/// A new job with everything that is stored of it.
#[derive(Clone, Debug)]
pub struct NewRow<'a> {
    /// Index of its unit in the group, and its own in the unit.
    pub unit: usize,
    pub index: usize,
    pub job: &'a NewJob,
    pub id: Uuid,
    pub run_at: i64,
    pub enqueued_at: i64,
    pub retry: Option<String>,
    pub inline_job: Option<Vec<u8>>,
}

impl NewRow<'_> {
    /// worker_id, priority, run_at and id, by which acquires scan.
    pub fn key(&self) -> (&str, i16, i64, Uuid) {
        (&self.job.worker_id, self.job.priority.into(), self.run_at, self.id)
    }

    /// Row of `ready` of the job, as long as no session has taken it.
    pub fn ready(&self) -> ReadyRow {
        ReadyRow {
            worker_id: self.job.worker_id.clone(),
            id: self.id,
            priority: self.job.priority.into(),
            run_at: self.run_at,
            run_no: 0,
            attempts_used: 0,
            payload_bytes: self.job.payload.len() as i32,
            enqueued_at: self.enqueued_at,
            waits_for_handler: false,
            for_task: None,
            inline_job: self.inline_job.clone(),
        }
    }
}

/// Assigns ids. This is done once: after a commit whose outcome is not known, the jobs are inserted again under the
/// same ids.
pub fn new_rows<'a>(units: &'a [Unit], clock: &Clock) -> StoreResult<Vec<NewRow<'a>>> {
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
            let retry = retry_json(job.retry)?;
            let inline_job = inline_job::encode(job, retry.as_deref());
            Ok(NewRow { unit, index, job, id, run_at, enqueued_at, retry, inline_job })
        })
        .collect()
}

/// worker_id and idempotency key.
pub type KeyRef<'a> = (&'a str, &'a str);

/// A key, the first job of the group that asks for it, and the hash of that job's request.
pub type FirstKey<'a> = (KeyRef<'a>, Uuid, &'a [u8; 32]);

fn key_of(job: &NewJob) -> Option<(KeyRef<'_>, &[u8; 32])> {
    job.key.as_ref().map(|key| ((job.worker_id.as_str(), key.key.as_str()), &key.request_hash))
}

/// First job of each idempotency key of the group, sorted by key.
pub fn first_keys<'a>(rows: &[NewRow<'a>]) -> Vec<FirstKey<'a>> {
    let mut firsts: HashMap<KeyRef<'a>, (Uuid, &'a [u8; 32])> = HashMap::new();
    for row in rows {
        if let Some((key, hash)) = key_of(row.job) {
            firsts.entry(key).or_insert((row.id, hash));
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
pub struct KeyDecision<'r, 'a> {
    pub answers: Vec<UnitAnswer>,
    pub insert: Vec<&'r NewRow<'a>>,
    /// Ids of this group that hold a key but will not be inserted.
    pub give_back: Vec<Uuid>,
}

/// Decides each unit in order. A unit with a key that belongs to another request is refused as a whole.
pub fn decide_keys<'r, 'a>(
    units: &[Unit],
    rows: &'r [NewRow<'a>],
    holders: &HashMap<(String, String), Holder>,
) -> KeyDecision<'r, 'a> {
    let mut decision =
        KeyDecision { answers: Vec::with_capacity(units.len()), insert: Vec::new(), give_back: Vec::new() };
    let mut rows = rows.iter().peekable();
    for (number, unit) in units.iter().enumerate() {
        let mut stored = Vec::with_capacity(unit.jobs.len());
        let mut insert = Vec::new();
        let mut conflict = None;
        while let Some(row) = rows.next_if(|row| row.unit == number) {
            let job = row.job;
            let holder = job
                .key
                .as_ref()
                .and_then(|key| holders.get(&(job.worker_id.clone(), key.key.clone())).map(|holder| (holder, key)));
            match holder {
                None => {}
                Some((holder, _)) if holder.job_id == row.id => {}
                Some((holder, key)) => {
                    if holder.request_hash != key.request_hash {
                        conflict = conflict.or(Some((row.index, holder.job_id)));
                    }
                    stored.push(Stored { id: holder.job_id, deduplicated: true });
                    continue;
                }
            }
            stored.push(Stored { id: row.id, deduplicated: false });
            insert.push(row);
        }
        if let Some((index, existing)) = conflict {
            decision.give_back.extend(insert.iter().map(|row| row.id));
            decision.answers.push(UnitAnswer::KeyConflict { index, existing });
        } else {
            decision.answers.push(UnitAnswer::Stored(stored));
            decision.insert.extend(insert);
        }
    }
    decision
}

/// Whether a unit was decided by a key that another, refused unit of the group had won. The group is then stored unit
/// by unit, so that a refused unit does not affect the others.
pub fn depends_on_refused_unit(decision: &KeyDecision<'_, '_>) -> bool {
    decision.answers.iter().any(|answer| match answer {
        UnitAnswer::Stored(stored) => {
            stored.iter().any(|stored| stored.deduplicated && decision.give_back.contains(&stored.id))
        }
        UnitAnswer::KeyConflict { existing, .. } => decision.give_back.contains(existing),
        UnitAnswer::Refused(_) => false,
    })
}

/// Ids of the jobs of claims.
pub fn claimed<'c>(claims: impl IntoIterator<Item = &'c Claim>) -> HashSet<Uuid> {
    claims.into_iter().flat_map(|claim| &claim.entries).map(|entry| entry.job_id).collect()
}

/// Answers of a group, without jobs for any of the offers.
pub fn with_empty_hand_offs(answers: Vec<UnitAnswer>, offers: &[HandOff]) -> Inserted {
    Inserted { answers, handed: vec![Vec::new(); offers.len()] }
}

/// Jobs that are copies, and their origins.
pub fn origins(rows: &[&NewRow<'_>]) -> Vec<(Uuid, Uuid)> {
    rows.iter().filter_map(|row| row.job.origin.map(|origin| (row.id, origin))).collect()
}

/// Counter changes of new jobs, all of which are pending.
pub fn submit_deltas(rows: &[&NewRow<'_>]) -> Deltas {
    let mut deltas = Deltas::default();
    for row in rows {
        deltas.pending(&row.job.worker_id, row.enqueued_at, row.run_at, 0, 1);
        deltas.at(&row.job.worker_id, 0).submitted += 1;
    }
    deltas
}
