//! Locked claims, and what else a settlement is judged by.

use jobqueue_shared::{retry::RetryPolicy, state::State};
use uuid::Uuid;

use crate::{
    rows::packed_claim::{self, Entry},
    types::AttemptOutcome,
};

/// A row of `claims`, locked: jobs that a session took together and has not settled.
#[derive(Clone, Debug)]
pub struct Claim {
    pub id: Uuid,
    pub worker_id: String,
    pub session_id: Uuid,
    pub host: String,
    pub claimed_at: i64,
    pub entries: Vec<Entry>,
}

impl Claim {
    pub fn deadline(&self) -> Option<i64> {
        self.entries.iter().filter_map(|entry| entry.timeout_ms).min().map(|timeout| self.claimed_at + timeout)
    }

    /// Ids of its entries, as they are stored.
    pub fn ids(&self) -> Vec<u8> {
        packed_claim::encode_ids(self.entries.iter().map(|entry| entry.job_id))
    }

    /// The open lease of an entry, for the refusal of another session's settlement.
    pub fn as_prior(&self, entry: Entry) -> Prior {
        Prior {
            session_id: self.session_id,
            run_no: entry.run_no,
            outcome: None,
            state: State::Running,
            ended_at: self.claimed_at,
        }
    }
}

/// Columns of a job that decide whether and when it is retried.
#[derive(Clone, Debug)]
pub struct RetryColumns {
    pub task: String,
    pub priority: i16,
    pub payload_bytes: i32,
    pub max_retries: u32,
    pub retry: RetryPolicy,
    /// The job's task, if it is released for want of a handler by a session that does not list the task.
    pub unhandled_task: Option<String>,
}

/// The session that holds or held a lease, and how the lease ended.
#[derive(Clone, Copy, Debug)]
pub struct Prior {
    pub session_id: Uuid,
    pub run_no: u32,
    /// `None` if the job completed or is running.
    pub outcome: Option<AttemptOutcome>,
    /// State that the job went to; `Running` if the lease is open and another session's.
    pub state: State,
    pub ended_at: i64,
}
