//! What the store decides in pure Rust, as functions to measure.
//!
//! Each function makes its input once and returns a closure that works on it, as often as it is called.

use std::collections::HashMap;

use jobqueue_shared::{lease::LeaseId, state::Ending};
use jobqueue_store::{
    clock::Clock,
    leases::{self, Taker},
    prepare,
    rows::{job::TakenRow, packed_claim, write::Deltas},
    settle::{
        claim::Claim,
        decision::{self, Item},
    },
    types::{NewJob, Start, Unit},
};
use uuid::Uuid;

const WORKER_ID: &str = "worker-1a";
const NOW_MS: i64 = 1_790_000_000_000;

/// Benchmarked function. It returns a count of its results, so that nothing is optimised away.
pub(crate) type Work = Box<dyn FnMut() -> usize>;

/// Prepares a batch of jobs to be stored: ids, idempotency keys and counter changes.
pub(crate) fn prepare(jobs: usize) -> Work {
    let job = NewJob {
        worker_id: WORKER_ID.to_owned(),
        task: "email".to_owned(),
        priority: 5,
        start: Start::Now,
        payload: "{}".to_owned(),
        max_retries: 3,
        retry: None,
        attempt_timeout_ms: None,
        key: None,
    };
    let units = vec![Unit { jobs: vec![job; jobs] }];
    let clock = Clock::new(NOW_MS);
    Box::new(move || {
        let jobs = prepare::jobs_to_store(&units, &clock).unwrap_or_default();
        let open = prepare::first_keys(&units, &jobs).len();
        let verdict = prepare::judge(&units, jobs, &HashMap::new());
        let rows: Vec<_> = verdict.insert.iter().map(|job| prepare::ready_row(job, &units)).collect();
        open + rows.len() + prepare::submit_deltas(&rows).rows().count()
    })
}

/// Builds the claims of an acquire, with the bytes that are stored, and the counter changes.
pub(crate) fn hand_over(jobs: usize) -> Work {
    let taken = taken(jobs);
    Box::new(move || {
        let claims = claims(&taken);
        let bytes: usize = claims.iter().map(|claim| encoded(claim).1.len()).sum();
        let mut deltas = Deltas::default();
        leases::add_deltas(&mut deltas, WORKER_ID, &taken);
        bytes + deltas.rows().count()
    })
}

/// Settles a batch with success: decodes the stored bytes, decides, and makes the rows.
pub(crate) fn settle(jobs: usize) -> Work {
    let stored: Vec<(Claim, Vec<u8>, Vec<u8>)> = claims(&taken(jobs))
        .into_iter()
        .map(|claim| {
            let (ids, entries) = encoded(&claim);
            (claim, ids, entries)
        })
        .collect();
    let item = |claim: &Claim, job_id| Item {
        lease: LeaseId { claim_id: claim.id, job_id },
        session_id: Some(claim.session_id),
        ending: Ending::Complete,
        text: String::new(),
        result: None,
        note: String::new(),
    };
    let items: Vec<Item> = stored
        .iter()
        .flat_map(|(claim, ..)| claim.entries.iter().map(move |entry| item(claim, entry.job_id)))
        .collect();
    Box::new(move || {
        let read = |(claim, ids, entries): &(Claim, Vec<u8>, Vec<u8>)| {
            let entries = packed_claim::decode_entries(ids, entries).unwrap_or_default();
            let claim = Claim { entries, worker_id: claim.worker_id.clone(), host: claim.host.clone(), ..*claim };
            (claim.id, claim)
        };
        let claims: HashMap<Uuid, Claim> = stored.iter().map(read).collect();
        let missing = decision::not_open(&items, &claims).len() + decision::needs_retry_facts(&items).len();
        let decision = decision::decide(&items, claims, &HashMap::new(), &HashMap::new(), NOW_MS, || 0.5);
        missing + decision.answers.len() + decision.done.len()
    })
}

fn taken(jobs: usize) -> Vec<TakenRow> {
    let row = |id| TakenRow {
        id,
        priority: 5,
        run_at: NOW_MS,
        run_no: 0,
        attempts_used: 0,
        payload_bytes: 64,
        enqueued_at: NOW_MS,
        inline_job: None,
    };
    Clock::new(NOW_MS).ids(jobs).into_iter().map(row).collect()
}

fn claims(taken: &[TakenRow]) -> Vec<Claim> {
    let taker = Taker { worker_id: WORKER_ID, session_id: Uuid::from_u128(7), host: "host", now: NOW_MS };
    leases::new_claims(&taker, taken, &HashMap::new())
}

/// Ids and entries of a claim, as they are stored.
fn encoded(claim: &Claim) -> (Vec<u8>, Vec<u8>) {
    (
        packed_claim::encode_ids(claim.entries.iter().map(|entry| entry.job_id)),
        packed_claim::encode_entries(&claim.entries),
    )
}
