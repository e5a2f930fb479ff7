//! Arguments, results and records of attempts: acquire, settle, progress.

use jobqueue_shared::{lease::LeaseId, state::Ending, state::State};
use num_enum::{IntoPrimitive, TryFromPrimitive};
use uuid::Uuid;

use super::job::JobRecord;

#[derive(Clone, Debug)]
pub struct Acquire {
    pub session_id: Uuid,
    /// The session's worker_id, if the caller knows it, which saves reading it.
    pub worker_id: Option<String>,
    pub acquire_no: u32,
    pub max_jobs: u32,
}

#[derive(Clone, Debug)]
pub enum Acquired {
    /// The session is unknown or has ended.
    NoSession,
    /// The session holds `limits::JOBS_PER_SESSION` jobs already.
    SessionFull,
    Jobs {
        worker_id: String,
        jobs: Vec<Leased>,
        /// If `jobs` is empty: time at which the next scheduled or retrying job becomes runnable.
        next_run_at_ms: Option<i64>,
    },
}

#[derive(Clone, Debug)]
pub struct Leased {
    pub lease: LeaseId,
    pub job: JobRecord,
    pub deadline_ms: Option<i64>,
}

/// One attempt to end, and its outcome.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The session that settles; `None` if the server ends the attempt, for an operator or because time ran out.
    pub session_id: Option<Uuid>,
    pub lease: LeaseId,
    /// A session can only complete, fail, snooze and release.
    pub ending: Ending,
    /// Error of a failure, or reason of a snooze; "" = none.
    pub text: String,
    pub result: Option<String>,
    pub note: String,
}

impl Settlement {
    pub(crate) fn by_server(claim_id: Uuid, job_id: Uuid, ending: Ending, text: String) -> Self {
        let lease = LeaseId { claim_id, job_id };
        Self { session_id: None, lease, ending, text, result: None, note: String::new() }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleAnswer {
    /// The job has moved to this state, now or by an earlier settlement with the same outcome.
    Accepted(State),
    /// The session does not hold this lease, or holds it no more. Only the job's history changes.
    Stale,
    /// The database cannot store the data of the outcome. Nothing is recorded, and the attempt goes on.
    Unstorable,
}

#[derive(Clone, Debug)]
pub struct ProgressReport {
    pub session_id: Uuid,
    pub lease: LeaseId,
    pub fraction: f64,
    pub message: String,
}

/// Outcome of an attempt that is recorded in the history. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoPrimitive, TryFromPrimitive)]
#[repr(i16)]
pub enum AttemptOutcome {
    Failed = 1,
    TimedOut = 2,
    Lost = 3,
    Released = 4,
    NoHandler = 5,
    Snoozed = 6,
    Cancelled = 7,
    Refused = 8,
    Retried = 9,
}

impl AttemptOutcome {
    /// Outcome in words, for texts that people read.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::Lost => "lost",
            Self::Released => "released",
            Self::NoHandler => "no handler",
            Self::Snoozed => "snoozed",
            Self::Cancelled => "cancelled",
            Self::Refused => "refused",
            Self::Retried => "retried",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptRecord {
    pub run_no: u32,
    pub outcome: AttemptOutcome,
    pub error: String,
    pub session_id: Option<Uuid>,
    pub host: String,
    pub started_at_ms: Option<i64>,
    pub ended_at_ms: i64,
}
