//! What an acquire makes of the rows it took: claims, leases and counts. Both drivers use it.

use std::collections::HashMap;

use jobqueue_shared::{lease::LeaseId, limits};
use uuid::Uuid;

use super::{
    error::StoreResult,
    facts,
    places::{PLACES_PER_CLAIM, Place},
    plan::Claim,
    prepare::JobToStore,
    rows::{LeasedRow, TakenRow},
    types::{Leased, Offer, Unit},
    writes::Deltas,
};

/// The session that takes, and when.
pub(super) struct Taker<'a> {
    pub worker_id: &'a str,
    pub session_id: Uuid,
    pub host: &'a str,
    pub now: i64,
}

/// Claim ids are random: identities would repeat after a crash that lost an acquire, and open a fence.
pub(super) fn new_claims(taker: &Taker<'_>, taken: &[TakenRow], facts: &HashMap<Uuid, LeasedRow>) -> Vec<Claim> {
    taken
        .chunks(PLACES_PER_CLAIM)
        .map(|chunk| {
            let place = |row: &TakenRow| Place {
                job_id: row.id,
                run_no: row.run_no as u32 + 1,
                used: row.used as u32 + 1,
                timeout_ms: facts.get(&row.id).and_then(|facts| facts.attempt_timeout),
            };
            Claim {
                id: Uuid::new_v4(),
                worker_id: taker.worker_id.to_owned(),
                session_id: taker.session_id,
                host: taker.host.to_owned(),
                claimed_at: taker.now,
                // In the order in which they are handed out: it tells which of them a lost session had started.
                places: chunk.iter().map(place).collect(),
            }
        })
        .collect()
}

/// Bytes of payload in an answer to one of so many who ask together. All are in memory at once, and each gets at least
/// a job.
pub(super) fn reply_bytes(requests: usize) -> usize {
    limits::REPLY_BYTES / requests.max(1)
}

/// Leaves as many as fit into the answer, but at least one.
pub(super) fn fit(taken: &mut Vec<TakenRow>, reply_bytes: usize) {
    let mut bytes = 0;
    let too_large = taken.iter().position(|row| {
        bytes += i64::from(row.payload_bytes);
        bytes > reply_bytes as i64
    });
    taken.truncate(too_large.map_or(taken.len(), |at| at.max(1)));
}

/// What is known of jobs by what was kept beside them, and those that have to be looked up.
pub(super) fn facts(taken: &[TakenRow], known: &mut HashMap<Uuid, LeasedRow>, unknown: &mut Vec<Uuid>) {
    known.reserve(taken.len());
    for row in taken {
        match facts::decode(row) {
            Some(facts) => drop(known.insert(row.id, facts)),
            None => unknown.push(row.id),
        }
    }
}

/// The claim of an offer, and what its jobs are; without those that are not to be stored. When it is made, and by which
/// host, is told by the database. `None`: it has no jobs.
pub(super) fn offered(units: &[Unit], jobs: &[JobToStore], offer: &Offer) -> Option<(Claim, HashMap<Uuid, LeasedRow>)> {
    let (mut places, mut facts) = (Vec::with_capacity(offer.jobs.len()), HashMap::new());
    for at in &offer.jobs {
        let Ok(found) = jobs.binary_search_by_key(at, |job| (job.unit, job.index)) else { continue };
        let (job, new) = (&jobs[found], &units[at.0].jobs[at.1]);
        places.push(Place { job_id: job.id, run_no: 1, used: 1, timeout_ms: new.attempt_timeout_ms });
        let row = LeasedRow {
            id: job.id,
            task: new.task.clone(),
            priority: i16::from(new.priority),
            run_at: job.run_at,
            payload: new.payload.clone().into_bytes(),
            max_retries: new.max_retries as i16,
            retry: job.retry.clone(),
            attempt_timeout: new.attempt_timeout_ms,
            idempotency_key: new.key.as_ref().map(|key| key.key.clone()),
        };
        facts.insert(job.id, row);
    }
    if places.is_empty() {
        return None;
    }
    let claim = Claim {
        id: Uuid::new_v4(),
        worker_id: offer.worker_id.clone(),
        session_id: offer.session_id,
        host: String::new(),
        claimed_at: 0,
        places,
    };
    Some((claim, facts))
}

pub(super) fn count(deltas: &mut Deltas, worker_id: &str, taken: &[TakenRow]) {
    for row in taken {
        deltas.pending(worker_id, row.since, row.run_at, row.used, -1);
    }
    deltas.at(worker_id, 0).running += taken.len() as i32;
}

pub(super) fn leased(claims: &[Claim], facts: &mut HashMap<Uuid, LeasedRow>) -> StoreResult<Vec<Leased>> {
    let mut jobs = Vec::new();
    for claim in claims {
        for place in &claim.places {
            let Some(row) = facts.remove(&place.job_id) else { continue };
            jobs.push(Leased {
                lease: LeaseId { claim_id: claim.id, job_id: place.job_id },
                job: row.into_record(claim, place)?,
                deadline_ms: place.timeout_ms.map(|timeout| claim.claimed_at + timeout),
            });
        }
    }
    Ok(jobs)
}
