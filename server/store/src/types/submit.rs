//! Arguments and results of submits.

use jobqueue_shared::retry::RetryPolicy;
use uuid::Uuid;

use super::attempt::Leased;

/// A SubmitJob or SubmitJobs call: all of its jobs are stored, or none.
#[derive(Clone, Debug)]
pub struct Unit {
    pub jobs: Vec<NewJob>,
}

#[derive(Clone, Debug)]
pub struct NewJob {
    pub worker_id: String,
    /// "" = none.
    pub task: String,
    pub priority: u8,
    pub start: Start,
    pub payload: String,
    pub max_retries: u32,
    /// `None`: the default policy.
    pub retry: Option<RetryPolicy>,
    pub attempt_timeout_ms: Option<i64>,
    pub key: Option<IdempotencyKey>,
    /// Job that this one is a copy of.
    pub origin: Option<Uuid>,
}

/// Time at which a new job may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    Now,
    After { delay_ms: i64 },
    At { run_at_ms: i64 },
}

#[derive(Clone, Debug)]
pub struct IdempotencyKey {
    pub key: String,
    /// SHA-256 of the request as it was sent, before defaults.
    pub request_hash: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnitAnswer {
    /// One for each job, in order.
    Stored(Vec<Stored>),
    /// The unit was not stored: the key of job `index` belongs to another request, that of job `existing`.
    KeyConflict { index: usize, existing: Uuid },
    /// The unit was not stored: the database refused its data, which validation should have refused.
    Refused(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub id: Uuid,
    /// The idempotency key had been used before with the same request; `id` is the job of that request.
    pub deduplicated: bool,
}

/// A direct hand-off: new jobs that can run at once, for a parked poll of their worker_id.
#[derive(Clone, Debug)]
pub struct HandOff {
    pub session_id: Uuid,
    pub worker_id: String,
    pub acquire_no: u32,
    /// Jobs as (index of the unit, index in the unit), in the order in which they are leased; at most
    /// `ENTRIES_PER_CLAIM`.
    pub jobs: Vec<(usize, usize)>,
}

/// Results of units, and of the direct hand-offs that came with them.
#[derive(Clone, Debug, Default)]
pub struct Inserted {
    /// One for each unit, in order.
    pub answers: Vec<UnitAnswer>,
    /// Leased jobs, one list for each hand-off, in order; empty if it did not take place.
    pub handed: Vec<Vec<Leased>>,
}
