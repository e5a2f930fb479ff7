//! Functions of the store to measure: preparing jobs, building claims, settling.

use std::collections::HashMap;

use jobqueue_shared::{lease::LeaseId, state::Ending};
use jobqueue_store::{
    clock::Clock,
    leases::{self, Taker},
    prepare,
    rows::{job::TakenRow, packed_claim, write::Deltas},
    settle::{claim::Claim, decision},
    types::{NewJob, Settlement, Start, Unit},
};
use uuid::Uuid;

use super::function::Call;

const WORKER_ID: &str = "worker-1a";
const NOW_MS: i64 = 1_790_000_000_000;

/// Prepares a batch of jobs to be stored: ids, idempotency keys and counter changes.
pub(super) fn prepare(jobs: usize) -> Call {
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
        origin: None,
    };
    let units = vec![Unit { jobs: vec![job; jobs] }];
    let clock = Clock::new(NOW_MS);
    Box::new(move || {
        let rows = prepare::new_rows(&units, &clock).unwrap_or_default();
        let open = prepare::first_keys(&rows).len();
        let decision = prepare::decide_keys(&units, &rows, &HashMap::new());
        open + decision.insert.len() + prepare::submit_deltas(&decision.insert).rows().count()
    })
}

/// Builds the claims of an acquire, with the bytes that are stored, and the counter changes.
pub(super) fn build_claims(jobs: usize) -> Call {
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
pub(super) fn settle(jobs: usize) -> Call {
    let stored: Vec<(Claim, Vec<u8>, Vec<u8>)> = claims(&taken(jobs))
        .into_iter()
        .map(|claim| {
            let (ids, entries) = encoded(&claim);
            (claim, ids, entries)
        })
        .collect();
    let item = |claim: &Claim, job_id| Settlement {
        lease: LeaseId { claim_id: claim.id, job_id },
        session_id: Some(claim.session_id),
        ending: Ending::Complete,
        text: String::new(),
        result: None,
        note: String::new(),
    };
    let items: Vec<Settlement> = stored
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
        let missing = decision::not_open(&items, &claims).len() + decision::needs_retry_columns(&items).len();
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
