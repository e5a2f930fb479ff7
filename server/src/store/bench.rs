//! Doors for the benchmark to what the store decides in pure Rust. Only with the feature `bench`; for nothing else.
//!
//! Each makes its input once and returns what does the work on it, as often as it is called.

use std::collections::HashMap;

use jobqueue_shared::{lease::LeaseId, state::Ending};
use uuid::Uuid;

use super::{
    clock::Clock,
    hand_over::{self, Taker},
    places,
    plan::{self, Claim, Item},
    prepare,
    rows::TakenRow,
    types::{NewJob, Start, Unit},
    writes::Deltas,
};

const WORKER_ID: &str = "worker-1a";
const NOW_MS: i64 = 1_790_000_000_000;

/// What one call of them did; counted, so that nothing is optimised away.
pub type Work = Box<dyn FnMut() -> usize>;

/// Ids, keys and counts of a batch of jobs that is to be stored.
pub fn prepare(jobs: usize) -> Work {
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

/// Claims of jobs that a session takes, with the bytes that are stored, and the counts.
pub fn hand_over(jobs: usize) -> Work {
    let taken = taken(jobs);
    Box::new(move || {
        let claims = claims(&taken);
        let bytes: usize = claims.iter().map(|claim| encoded(claim).1.len()).sum();
        let mut deltas = Deltas::default();
        hand_over::count(&mut deltas, WORKER_ID, &taken);
        bytes + deltas.rows().count()
    })
}

/// Ends the attempts of a batch with success: reads the stored bytes, decides, and makes the rows.
pub fn settle(jobs: usize) -> Work {
    let stored: Vec<(Claim, Vec<u8>, Vec<u8>)> = claims(&taken(jobs))
        .into_iter()
        .map(|claim| {
            let (ids, places) = encoded(&claim);
            (claim, ids, places)
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
    let items: Vec<Item> =
        stored.iter().flat_map(|(claim, ..)| claim.places.iter().map(move |place| item(claim, place.job_id))).collect();
    Box::new(move || {
        let read = |(claim, ids, places): &(Claim, Vec<u8>, Vec<u8>)| {
            let places = places::decode_places(ids, places).unwrap_or_default();
            let claim = Claim { places, worker_id: claim.worker_id.clone(), host: claim.host.clone(), ..*claim };
            (claim.id, claim)
        };
        let claims: HashMap<Uuid, Claim> = stored.iter().map(read).collect();
        let missing = plan::not_open(&items, &claims).len() + plan::needs_facts(&items).len();
        let plan = plan::plan(&items, claims, &HashMap::new(), &HashMap::new(), NOW_MS, || 0.5);
        missing + plan.answers.len() + plan.done.len()
    })
}

fn taken(jobs: usize) -> Vec<TakenRow> {
    let row = |id| TakenRow {
        id,
        priority: 5,
        run_at: NOW_MS,
        run_no: 0,
        used: 0,
        payload_bytes: 64,
        since: NOW_MS,
        facts: None,
    };
    Clock::new(NOW_MS).ids(jobs).into_iter().map(row).collect()
}

fn claims(taken: &[TakenRow]) -> Vec<Claim> {
    let taker = Taker { worker_id: WORKER_ID, session_id: Uuid::from_u128(7), host: "host", now: NOW_MS };
    hand_over::new_claims(&taker, taken, &HashMap::new())
}

/// The ids and the places of a claim, as they are stored.
fn encoded(claim: &Claim) -> (Vec<u8>, Vec<u8>) {
    (places::encode_ids(claim.places.iter().map(|place| place.job_id)), places::encode_places(&claim.places))
}
