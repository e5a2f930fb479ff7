//! Arguments and results of rescue and pruning.

use uuid::Uuid;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    pub sessions: u64,
    /// Number of jobs taken back from lost sessions.
    pub lost: u64,
    pub timed_out: u64,
    /// worker_ids whose jobs became pending.
    pub worker_ids: Vec<String>,
    /// Live sessions that have to stop jobs that timed out.
    pub stopped: Vec<Uuid>,
    /// There is more than the limit allowed: call again at once.
    pub more: bool,
}

/// Times from which pruning decides whether the database's clock is plausible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruningTime {
    /// The database's time.
    pub now_ms: i64,
    /// Last time that pruning found plausible; stored in the database.
    pub confirmed_ms: i64,
}

/// Retention of finished jobs, counted from the time at which they finished.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub done_ms: i64,
    pub cancelled_ms: i64,
    pub dead_letters_ms: i64,
    /// Retention of idempotency keys, counted from the time at which their job finished.
    pub keys_ms: i64,
    /// Retention of operations, counted from their ends.
    pub operations_ms: i64,
}
