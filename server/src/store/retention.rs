//! What pruning decides: what becomes of the keys of jobs that go, and which keys have had their time.

use std::collections::HashMap;

use uuid::Uuid;

use super::types::{JobRecord, Retention};

/// What becomes of the idempotency keys of jobs that go.
#[derive(Clone, Copy)]
pub(super) enum Keys {
    Delete,
    /// They are to outlive their jobs, which went at this time.
    Keep {
        gone_at: i64,
    },
}

impl Keys {
    /// Of jobs that were kept for `kept_ms`.
    pub(super) fn of(retention: &Retention, kept_ms: i64, now: i64) -> Self {
        if kept_ms >= retention.keys_ms { Self::Delete } else { Self::Keep { gone_at: now } }
    }
}

/// Of keys, given as job and when that was pruned, those whose job finished or went before `before`.
pub(super) fn expired_keys(keys: &[(Uuid, Option<i64>)], records: &HashMap<Uuid, JobRecord>, before: i64) -> Vec<Uuid> {
    let ended_at = |(id, gone_at): &(Uuid, Option<i64>)| match records.get(id) {
        Some(job) => job.finished_at_ms,
        None => *gone_at,
    };
    keys.iter().filter(|key| ended_at(key).is_some_and(|at| at < before)).map(|(id, _)| *id).collect()
}

/// Where the next turn over the keys goes on: behind the last one, or from the start when these were the last.
pub(super) fn next_cursor(keys: &[(Uuid, Option<i64>)], limit: i64) -> Uuid {
    if (keys.len() as i64) < limit { Uuid::nil() } else { keys.last().map(|key| key.0).unwrap_or_default() }
}
