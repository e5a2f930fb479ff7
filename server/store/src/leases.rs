//! Turns jobs that an acquire or a direct hand-off has taken into what it stores, claims and counter changes, and into
//! what it answers, leases. Both drivers use it.

use std::collections::HashMap;

use jobqueue_shared::{lease::LeaseId, limits};
use uuid::Uuid;

use crate::{
    error::StoreResult,
    prepare::NewRow,
    rows::{
        inline_job,
        job::{LeasedRow, TakenRow},
        packed_claim::{ENTRIES_PER_CLAIM, Entry},
        write::Deltas,
    },
    settle::claim::Claim,
    types::{HandOff, Leased},
};

/// The session that acquires, and the database's time.
pub struct Taker<'a> {
    pub worker_id: &'a str,
    pub session_id: Uuid,
    pub host: &'a str,
    pub now: i64,
}

/// Makes claims of at most [`ENTRIES_PER_CLAIM`] jobs. Their ids are random: numbers of a sequence could be given again
/// after a crash that lost an acquire, and a stale lease would then be valid.
pub fn new_claims(taker: &Taker<'_>, taken: &[TakenRow], columns: &HashMap<Uuid, LeasedRow>) -> Vec<Claim> {
    taken
        .chunks(ENTRIES_PER_CLAIM)
        .map(|chunk| {
            let entry = |row: &TakenRow| Entry {
                job_id: row.id,
                run_no: row.run_no as u32 + 1,
                attempts_used: row.attempts_used as u32 + 1,
                timeout_ms: columns.get(&row.id).and_then(|columns| columns.attempt_timeout),
            };
            Claim {
                id: Uuid::new_v4(),
                worker_id: taker.worker_id.to_owned(),
                session_id: taker.session_id,
                host: taker.host.to_owned(),
                claimed_at: taker.now,
                // In the order in which the worker starts them, which tells what a lost session had started.
                entries: chunk.iter().map(entry).collect(),
            }
        })
        .collect()
}

/// Maximum bytes of payload in each answer of a batch of acquires. The answers of a batch are in memory at once.
pub fn reply_bytes(requests: usize) -> usize {
    limits::REPLY_BYTES / requests.max(1)
}

/// Truncates rows to those whose payloads fit into `reply_bytes`, but at least one.
pub fn cut_to_reply(taken: &mut Vec<TakenRow>, reply_bytes: usize) {
    let mut bytes = 0;
    let too_large = taken.iter().position(|row| {
        bytes += i64::from(row.payload_bytes);
        bytes > reply_bytes as i64
    });
    taken.truncate(too_large.map_or(taken.len(), |at| at.max(1)));
}

/// Decodes the inline jobs of rows into `known`; jobs without one go to `unknown` and have to be read from `jobs`.
pub fn decode_inline_jobs(taken: &[TakenRow], known: &mut HashMap<Uuid, LeasedRow>, unknown: &mut Vec<Uuid>) {
    known.reserve(taken.len());
    for row in taken {
        match inline_job::decode(row) {
            Some(columns) => drop(known.insert(row.id, columns)),
            None => unknown.push(row.id),
        }
    }
}

/// The claim of a direct hand-off and its jobs, without those that turned out to be stored already. The database fills
/// in time and host. `None` if no job is left.
pub fn claim_for_hand_off(rows: &[&NewRow<'_>], offer: &HandOff) -> Option<(Claim, HashMap<Uuid, LeasedRow>)> {
    let (mut entries, mut columns) = (Vec::with_capacity(offer.jobs.len()), HashMap::new());
    for at in &offer.jobs {
        let Ok(found) = rows.binary_search_by_key(at, |row| (row.unit, row.index)) else { continue };
        let (row, new) = (rows[found], rows[found].job);
        entries.push(Entry { job_id: row.id, run_no: 1, attempts_used: 1, timeout_ms: new.attempt_timeout_ms });
        let leased = LeasedRow {
            id: row.id,
            task: new.task.clone(),
            priority: i16::from(new.priority),
            run_at: row.run_at,
            payload: new.payload.clone().into_bytes(),
            max_retries: new.max_retries as i16,
            retry: row.retry.clone(),
            attempt_timeout: new.attempt_timeout_ms,
            idempotency_key: new.key.as_ref().map(|key| key.key.clone()),
        };
        columns.insert(row.id, leased);
    }
    if entries.is_empty() {
        return None;
    }
    let claim = Claim {
        id: Uuid::new_v4(),
        worker_id: offer.worker_id.clone(),
        session_id: offer.session_id,
        host: String::new(),
        claimed_at: 0,
        entries,
    };
    Some((claim, columns))
}

/// Adds the counter changes of jobs that were taken: they run, and are not pending any more.
pub fn add_deltas(deltas: &mut Deltas, worker_id: &str, taken: &[TakenRow]) {
    for row in taken {
        deltas.pending(worker_id, row.enqueued_at, row.run_at, row.attempts_used, -1);
    }
    deltas.at(worker_id, 0).running += taken.len() as i32;
}

/// Leases of all entries of the claims, in order. Each takes its job out of `columns`; an entry whose job is not there
/// has none.
pub fn leased(claims: &[Claim], columns: &mut HashMap<Uuid, LeasedRow>) -> StoreResult<Vec<Leased>> {
    let mut jobs = Vec::new();
    for claim in claims {
        for entry in &claim.entries {
            let Some(row) = columns.remove(&entry.job_id) else { continue };
            jobs.push(Leased {
                lease: LeaseId { claim_id: claim.id, job_id: entry.job_id },
                job: row.into_record(claim, entry)?,
                deadline_ms: entry.timeout_ms.map(|timeout| claim.claimed_at + timeout),
            });
        }
    }
    Ok(jobs)
}
