//! Retention of idempotency keys: which keys are deleted with their jobs, which have expired, and where the next turn
//! over the keys begins. Both drivers share these decisions; for everything else, their statements apply [`Retention`].

use std::collections::HashMap;

use uuid::Uuid;

use crate::types::{JobRecord, Retention};

/// Treatment of the idempotency keys of jobs that are pruned.
#[derive(Clone, Copy)]
pub enum KeyTreatment {
    Delete,
    /// The keys outlive their jobs, which were pruned at this time.
    Keep {
        gone_at: i64,
    },
}

impl KeyTreatment {
    /// Treatment of the keys of jobs with a retention of `kept_ms`.
    pub fn of(retention: &Retention, kept_ms: i64, now: i64) -> Self {
        if kept_ms >= retention.keys_ms { Self::Delete } else { Self::Keep { gone_at: now } }
    }
}

/// Selects expired keys, those whose job finished or was pruned before `before`. `keys` are (job, time at which it was
/// pruned).
pub fn expired_keys(keys: &[(Uuid, Option<i64>)], records: &HashMap<Uuid, JobRecord>, before: i64) -> Vec<Uuid> {
    let ended_at = |(id, gone_at): &(Uuid, Option<i64>)| match records.get(id) {
        Some(job) => job.finished_at_ms,
        None => *gone_at,
    };
    keys.iter().filter(|key| ended_at(key).is_some_and(|at| at < before)).map(|(id, _)| *id).collect()
}

/// Id after which the next turn over the keys goes on: the last one, or none if these were the last.
pub fn next_cursor(keys: &[(Uuid, Option<i64>)], limit: i64) -> Uuid {
    if (keys.len() as i64) < limit { Uuid::nil() } else { keys.last().map(|key| key.0).unwrap_or_default() }
}
