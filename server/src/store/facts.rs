//! What a worker is told of a job, as bytes in the job's row in `ready` where they are few: handing it out then reads
//! one row instead of two. It is a copy of what `jobs` says. What comes back to `ready` later has none, and is looked up.
//! A row that has them has the run_at of `jobs`, too: it is found by its place in line, the others by their ids.

use prost::Message;

use super::{
    rows::{LeasedRow, TakenRow},
    types::NewJob,
};

/// Bounds what is written twice of each job. Chosen for what it costs in log; no other bound was measured.
pub(super) const BYTES: usize = 256;

/// The columns of `jobs` that `ready` does not have.
#[derive(Clone, PartialEq, Message)]
struct Facts {
    #[prost(string, tag = "1")]
    task: String,
    #[prost(bytes = "vec", tag = "2")]
    payload: Vec<u8>,
    #[prost(int32, tag = "3")]
    max_retries: i32,
    #[prost(string, optional, tag = "4")]
    retry: Option<String>,
    #[prost(int64, optional, tag = "5")]
    attempt_timeout: Option<i64>,
    #[prost(string, optional, tag = "6")]
    idempotency_key: Option<String>,
}

/// `None`: they are too many.
pub(super) fn encode(job: &NewJob, retry: Option<&str>) -> Option<Vec<u8>> {
    if job.payload.len() > BYTES {
        return None;
    }
    let facts = Facts {
        task: job.task.clone(),
        payload: job.payload.clone().into_bytes(),
        max_retries: job.max_retries as i32,
        retry: retry.map(str::to_owned),
        attempt_timeout: job.attempt_timeout_ms,
        idempotency_key: job.key.as_ref().map(|key| key.key.clone()),
    };
    Some(facts.encode_to_vec()).filter(|bytes| bytes.len() <= BYTES)
}

/// `None`: they have to be looked up.
pub(super) fn decode(row: &TakenRow) -> Option<LeasedRow> {
    let facts = Facts::decode(row.facts.as_deref()?).ok()?;
    Some(LeasedRow {
        id: row.id,
        task: facts.task,
        priority: row.priority,
        // It has never run: this is still what was asked for.
        run_at: row.run_at,
        payload: facts.payload,
        max_retries: facts.max_retries as i16,
        retry: facts.retry,
        attempt_timeout: facts.attempt_timeout,
        idempotency_key: facts.idempotency_key,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::store::types::{IdempotencyKey, Start};

    fn taken(facts: Option<Vec<u8>>) -> TakenRow {
        let id = Uuid::from_u128(7);
        TakenRow { id, priority: 3, run_at: 11, run_no: 0, used: 0, payload_bytes: 0, since: 0, facts }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_submitted_and_small(
            task in ".{0,20}",
            payload in ".{0,300}",
            max_retries in 0_u32..=100,
            retry in proptest::option::of(".{0,20}"),
            attempt_timeout_ms in proptest::option::of(1_i64..=31_536_000_000),
            key in proptest::option::of(".{1,255}"),
        ) {
            let job = NewJob {
                worker_id: "w".into(),
                task: task.clone(),
                priority: 3,
                start: Start::Now,
                payload: payload.clone(),
                max_retries,
                retry: None,
                attempt_timeout_ms,
                key: key.clone().map(|key| IdempotencyKey { key, request_hash: [0; 32] }),
            };
            let least = task.len() + payload.len() + key.as_ref().map_or(0, String::len) + retry.as_ref().map_or(0, String::len);
            let bytes = encode(&job, retry.as_deref());
            prop_assert_eq!(bytes.is_none(), bytes.is_none() && least > BYTES - 40);
            if let Some(bytes) = bytes {
                prop_assert!(bytes.len() <= BYTES);
                let row = LeasedRow {
                    id: Uuid::from_u128(7),
                    task,
                    priority: 3,
                    run_at: 11,
                    payload: payload.into_bytes(),
                    max_retries: max_retries as i16,
                    retry,
                    attempt_timeout: attempt_timeout_ms,
                    idempotency_key: key,
                };
                prop_assert_eq!(decode(&taken(Some(bytes))), Some(row));
            }
        }
    }

    #[test]
    fn what_cannot_be_read_is_looked_up() {
        assert_eq!(decode(&taken(None)), None);
        assert_eq!(decode(&taken(Some(vec![0xff; 9]))), None);
    }
}
