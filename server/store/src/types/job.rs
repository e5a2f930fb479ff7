//! Jobs as people see them: records, lists, counts, and answers to operator actions.

use jobqueue_shared::{
    retry::RetryPolicy,
    state::{FailureReason, State},
    sub_state::SubState,
};
use uuid::Uuid;

use super::{attempt::AttemptRecord, error_group::ErrorGroupId, filter::JobFilter};

/// Result of an operator action (cancel, retry, delete) on one job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ActionAnswer {
    Done {
        worker_id: String,
        /// The session that held the job and has to stop it.
        stopped: Option<Uuid>,
    },
    NotFound,
    /// The job's state does not allow the action.
    Refused(State),
}

/// A job and its state.
#[derive(Clone, Debug, PartialEq)]
pub struct JobRecord {
    pub id: Uuid,
    pub worker_id: String,
    pub task: String,
    pub priority: u8,
    pub payload: String,
    pub max_retries: u32,
    pub retry: RetryPolicy,
    pub attempt_timeout_ms: Option<i64>,
    pub idempotency_key: Option<String>,
    pub state: State,
    pub run_no: u32,
    pub attempts_used: u32,
    pub last_error: String,
    pub run_at_ms: i64,
    pub created_at_ms: i64,
    pub updated_at_ms: i64,
    pub started_at_ms: Option<i64>,
    pub finished_at_ms: Option<i64>,
    pub session_id: Option<Uuid>,
    pub failure: Option<FailureReason>,
    pub result: Option<String>,
    pub note: String,
    pub waits_for_handler: bool,
    /// Whether sessions that list its task lease it before it is due.
    pub kept_for_task: bool,
    pub progress: Option<Progress>,
    /// Job that this one is a copy of. `None` in leases, which are built without reading it.
    pub origin: Option<Uuid>,
    /// Error group of a dead letter.
    pub error_group: Option<ErrorGroupId>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub fraction: f64,
    pub message: String,
    pub at_ms: i64,
}

/// A job and its history, read on one snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Without its payload.
    pub job: JobRecord,
    /// Newest first.
    pub attempts: Vec<AttemptRecord>,
    /// Last progress report, and the run_no that it belongs to.
    pub progress: Option<(u32, Progress)>,
    /// Host of the job's session; "" = not known, or no longer known.
    pub host: String,
}

/// Inputs that explain why a pending job does not run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExplainInputs {
    pub now_ms: i64,
    pub paused: Option<Pause>,
    /// Number of live sessions of its worker_id that acquire jobs.
    pub sessions: u64,
    /// Number of live sessions of its worker_id that are draining.
    pub draining: u64,
    /// Number of `sessions` that handle its task; `slots` and `held` are the slots of these, and the jobs that they
    /// hold.
    pub handling: u64,
    pub slots: u64,
    pub held: u64,
    /// Last heartbeat of any session of the worker_id that is still stored.
    pub last_seen_ms: Option<i64>,
    /// Number of runnable jobs before it; counted up to `limits::AHEAD`.
    pub ahead: u64,
}

/// Request for a page of the jobs that pass a filter.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    pub filter: JobFilter,
    pub page_size: u32,
    pub after: Option<Cursor>,
    pub view: View,
}

/// Parts of each job that a list reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    #[default]
    Full,
    /// Without payload and result: both are empty, and their sizes do not end a page.
    Basic,
}

/// Position of the end of a page in its list's order. Only the list that made it can read it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cursor {
    /// "" if the list is not ordered by it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub worker_id: String,
    /// 0 if the list is not ordered by it.
    #[serde(default)]
    pub priority: u8,
    /// The time that the list is ordered by, in milliseconds.
    #[serde(default)]
    pub at_ms: i64,
    pub id: Uuid,
}

#[derive(Clone, Debug, Default)]
pub struct Page {
    pub jobs: Vec<JobRecord>,
    pub next: Option<Cursor>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerIdCounts {
    pub worker_id: String,
    /// Includes scheduled and retrying.
    pub pending: u64,
    pub scheduled: u64,
    pub retrying: u64,
    pub running: u64,
    pub done: u64,
    pub failed: u64,
    /// Jobs that became dead letters within the last `limits::LATELY_MINUTES`.
    pub failed_lately: u64,
    pub cancelled: u64,
    pub oldest_runnable_ms: Option<i64>,
    /// Number of live sessions.
    pub sessions: u64,
    pub paused: Option<Pause>,
}

/// A pause of a worker_id: its start and its reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub at_ms: i64,
    pub reason: String,
}

/// A number of jobs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    pub number: u64,
    /// Whether there may be more.
    pub at_least: bool,
}

/// Answer to a count of the jobs that pass a filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobCounts {
    pub count: Count,
    /// Jobs that pass the rest of the filter, by each state; empty unless asked for.
    pub by_state: Vec<(SubState, Count)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinuteCounts {
    /// Minutes since 1970.
    pub minute: i64,
    pub submitted: u64,
    pub done: u64,
    pub failed: u64,
    pub retried: u64,
}

/// Counts of one worker_id in one slot of minutes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotCounts {
    pub worker_id: String,
    /// `minute` is the first one of the slot.
    pub counts: MinuteCounts,
}

#[doc(hidden)]
impl JobRecord {
    /// A pending job that was never acquired; tests vary it.
    pub fn sample(created_at_ms: i64) -> Self {
        Self {
            id: Uuid::nil(),
            worker_id: "w".into(),
            task: String::new(),
            priority: 5,
            payload: String::new(),
            max_retries: 3,
            retry: RetryPolicy::default(),
            attempt_timeout_ms: None,
            idempotency_key: None,
            state: State::Pending,
            run_no: 0,
            attempts_used: 0,
            last_error: String::new(),
            run_at_ms: created_at_ms,
            created_at_ms,
            updated_at_ms: created_at_ms,
            started_at_ms: None,
            finished_at_ms: None,
            session_id: None,
            failure: None,
            result: None,
            note: String::new(),
            waits_for_handler: false,
            kept_for_task: false,
            error_group: None,
            progress: None,
            origin: None,
        }
    }
}
