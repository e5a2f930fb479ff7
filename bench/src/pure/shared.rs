//! Functions of the `shared` crate to measure: leases, retry delays and the check of JSON.

use std::hint::black_box;

use jobqueue_shared::{json, lease::LeaseId, limits, retry::RetryPolicy};
use uuid::Uuid;

use super::function::Call;
use crate::load::payload::payload;

pub(super) fn lease_to_text_and_back() -> Call {
    let lease = LeaseId { claim_id: Uuid::from_u128(u128::MAX / 3), job_id: Uuid::from_u128(u128::MAX / 7) };
    Box::new(move || {
        let text = black_box(lease).to_string();
        text.parse::<LeaseId>().map_or(0, |lease| usize::from(lease.job_id.is_nil())) + text.len()
    })
}

pub(super) fn retry_delay() -> Call {
    let policy = RetryPolicy::default();
    let mut used = 0;
    Box::new(move || {
        used = used % limits::MAX_RETRIES + 1;
        policy.delay_ms(black_box(used), 0.25) as usize
    })
}

pub(super) fn check_json() -> Call {
    let text = payload(7, "", 2 * 1024);
    Box::new(move || usize::from(json::check(black_box(&text), limits::PAYLOAD_DEFAULT, limits::JSON_DEPTH).is_ok()))
}
