//! Final state of every job, as the API shows it at the end of a run.

use jobqueue_shared::{
    proto::v1::{self, GetJobResponse, attempt, job},
    time::timestamp_ms,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalState {
    pub jobs: Vec<FinalJob>,
}

/// Final state of a job. Times are milliseconds since 1970 by the database's clock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalJob {
    pub id: Uuid,
    pub worker_id: String,
    pub status: Status,
    pub payload: String,
    pub key: String,
    pub attempt_count: i32,
    pub max_retries: i32,
    pub run_no: i32,
    pub created_at_ms: i64,
    /// Start of the attempt that finished the job; `None` when the job never ran.
    pub started_at_ms: Option<i64>,
    pub finished_at_ms: Option<i64>,
    /// The session that finished it.
    pub session: Option<Uuid>,
    /// Timeline, oldest first.
    pub attempts: Vec<FinalAttempt>,
}

/// Entry of the job's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalAttempt {
    pub run_no: i32,
    /// The word that the API uses: "failed", "lost", "refused", ..
    pub outcome: String,
    pub session: Option<Uuid>,
    pub started_at_ms: Option<i64>,
    pub ended_at_ms: i64,
    pub error: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Pending,
    Running,
    Done,
    Failed,
    Cancelled,
}

impl Status {
    /// True if only a person can move the job to another state.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Cancelled)
    }
}

/// Error: a message of the API lacks a field that every job has.
#[derive(Debug, thiserror::Error)]
#[error("the API shows a job without {0}")]
pub struct Incomplete(&'static str);

impl TryFrom<job::Status> for Status {
    type Error = Incomplete;

    fn try_from(status: job::Status) -> Result<Self, Incomplete> {
        Ok(match status {
            job::Status::Pending => Self::Pending,
            job::Status::Running => Self::Running,
            job::Status::Done => Self::Done,
            job::Status::Failed => Self::Failed,
            job::Status::Cancelled => Self::Cancelled,
            job::Status::Unspecified => return Err(Incomplete("a status")),
        })
    }
}

impl TryFrom<GetJobResponse> for FinalJob {
    type Error = Incomplete;

    fn try_from(shown: GetJobResponse) -> Result<Self, Incomplete> {
        let job = shown.job.ok_or(Incomplete("itself"))?;
        let mut attempts: Vec<_> = shown.attempts.into_iter().map(FinalAttempt::from).collect();
        attempts.reverse();
        Ok(Self {
            id: job.id.parse().map_err(|_| Incomplete("an id"))?,
            status: job.status().try_into()?,
            created_at_ms: job.created_at.as_ref().map(timestamp_ms).ok_or(Incomplete("created_at"))?,
            started_at_ms: job.started_at.as_ref().map(timestamp_ms),
            finished_at_ms: job.finished_at.as_ref().map(timestamp_ms),
            session: job.session_id.parse().ok(),
            worker_id: job.worker_id,
            payload: job.payload_json,
            key: job.idempotency_key,
            attempt_count: job.attempt_count,
            max_retries: job.max_retries,
            run_no: job.run_no,
            attempts,
        })
    }
}

impl From<v1::Attempt> for FinalAttempt {
    fn from(attempt: v1::Attempt) -> Self {
        Self {
            run_no: attempt.run_no,
            outcome: attempt::Outcome::try_from(attempt.outcome)
                .map_or_else(|_| attempt.outcome.to_string(), |outcome| outcome.as_str_name().to_owned()),
            session: attempt.session_id.parse().ok(),
            started_at_ms: attempt.started_at.as_ref().map(timestamp_ms),
            ended_at_ms: attempt.ended_at.as_ref().map(timestamp_ms).unwrap_or_default(),
            error: attempt.error,
        }
    }
}
