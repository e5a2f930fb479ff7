//! Inline job: a copy of a small job's columns in its row of `ready`, so that an acquire reads one row instead of two.
//!
//! Only a new job has one. A job that comes back to `ready` has none, and an acquire reads `jobs`. A row with an inline
//! job has the run_at of `jobs`, so that it is found by its whole key; other rows are found by the index on their ids.

use prost::Message;

use crate::{
    rows::job::{LeasedRow, TakenRow},
    types::NewJob,
};

/// Maximum size of an inline job in bytes. It bounds the write-ahead log; no other value was measured.
pub const BYTES: usize = 256;

/// Columns of `jobs` that `ready` does not have.
#[derive(Clone, PartialEq, Message)]
struct InlineJob {
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

/// Encodes an inline job; `None` if it would exceed [`BYTES`].
pub fn encode(job: &NewJob, retry: Option<&str>) -> Option<Vec<u8>> {
    if job.payload.len() > BYTES {
        return None;
    }
    let inline_job = InlineJob {
        task: job.task.clone(),
        payload: job.payload.clone().into_bytes(),
        max_retries: job.max_retries as i32,
        retry: retry.map(str::to_owned),
        attempt_timeout: job.attempt_timeout_ms,
        idempotency_key: job.key.as_ref().map(|key| key.key.clone()),
    };
    Some(inline_job.encode_to_vec()).filter(|bytes| bytes.len() <= BYTES)
}

/// Decodes a row's inline job; `None` if the job has to be read from `jobs`.
pub fn decode(row: &TakenRow) -> Option<LeasedRow> {
    let inline_job = InlineJob::decode(row.inline_job.as_deref()?).ok()?;
    Some(LeasedRow {
        id: row.id,
        task: inline_job.task,
        priority: row.priority,
        // The job has never run, so this is the run_at of its submission.
        run_at: row.run_at,
        payload: inline_job.payload,
        max_retries: inline_job.max_retries as i16,
        retry: inline_job.retry,
        attempt_timeout: inline_job.attempt_timeout,
        idempotency_key: inline_job.idempotency_key,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;
    use crate::types::{IdempotencyKey, Start};

    fn taken(inline_job: Option<Vec<u8>>) -> TakenRow {
        let id = Uuid::from_u128(7);
        TakenRow {
            id,
            priority: 3,
            run_at: 11,
            run_no: 0,
            attempts_used: 0,
            payload_bytes: 0,
            enqueued_at: 0,
            inline_job,
        }
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
                origin: None,
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
