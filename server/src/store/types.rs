//! Arguments and results of the store's methods. Times are milliseconds since 1970 by the database's clock, lengths of
//! time milliseconds; texts have been checked against the limits before.

use jobqueue_shared::{
    lease::LeaseId,
    retry::RetryPolicy,
    state::{Ending, FailureReason, State},
};
use uuid::Uuid;

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

#[derive(Clone, Debug)]
pub struct Settlement {
    pub session_id: Uuid,
    pub lease: LeaseId,
    /// One of the endings that a worker can report: Complete, Fail, Snooze, Release.
    pub ending: Ending,
    /// Error of a failure, or reason of a snooze; "" = none.
    pub text: String,
    pub result: Option<String>,
    pub note: String,
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

#[derive(Clone, Debug)]
pub struct NewSession {
    pub worker_id: String,
    pub host: String,
    pub pid: i32,
    pub version: String,
    pub tasks: Vec<String>,
    pub slots: u32,
    pub lease_ms: i64,
    /// Sessions that the new one takes over from: their process is gone.
    pub predecessors: Vec<Uuid>,
}

/// Whether a session that lists these tasks handles every task.
pub fn handles_all(tasks: &[String]) -> bool {
    tasks.is_empty() || tasks.iter().any(|task| task == "*")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    New {
        session_id: Uuid,
        /// Number of jobs of its predecessors that are pending again.
        taken_back: u64,
    },
    /// `predecessors[index]` is live, and is no earlier run of the same worker on the same host.
    NoPredecessor { index: usize, why: &'static str },
}

#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    pub session_id: Uuid,
    pub draining: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeartbeatAnswer {
    pub expires_at_ms: i64,
    /// Leases of this session that others ended.
    pub stop: Vec<Stopped>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    pub lease: LeaseId,
    pub reason: StopReason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopReason {
    Cancelled,
    TimedOut,
}

/// Notification between servers that share a database. Notifications are hints: each can be lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Notification {
    /// Jobs of this worker_id may be runnable.
    Runnable(String),
    /// Jobs of this worker_id wait for a session that handles their task.
    ForHandler(String),
    /// A lease of this session was ended by others.
    Stopped(Uuid),
}

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
}

#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub fraction: f64,
    pub message: String,
    pub at_ms: i64,
}

/// Outcome of an attempt that is recorded in the history. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    pub worker_id: Option<String>,
    pub state: Option<State>,
    pub task: Option<String>,
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

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinuteCounts {
    /// Minutes since 1970.
    pub minute: i64,
    pub submitted: u64,
    pub done: u64,
    pub failed: u64,
    pub retried: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionState {
    Live,
    Draining,
    Expired,
    Ended,
    Lost,
}

/// Position of the end of a page of sessions. They are ordered live ones first, then by start, newest first, then by
/// id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionCursor {
    pub ended: bool,
    pub started_at_ms: i64,
    pub session_id: Uuid,
}

/// Filter and position of a list of sessions.
#[derive(Clone, Debug, Default)]
pub struct SessionQuery {
    /// `None` = sessions of all worker_ids.
    pub worker_id: Option<String>,
    pub after: Option<SessionCursor>,
    pub page_size: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRecord {
    pub session_id: Uuid,
    pub worker_id: String,
    pub host: String,
    pub pid: i32,
    pub version: String,
    pub tasks: Vec<String>,
    pub slots: u32,
    pub lease_ms: i64,
    pub started_at_ms: i64,
    pub last_heartbeat_at_ms: i64,
    pub expires_at_ms: i64,
    pub ended_at_ms: Option<i64>,
    pub running: u64,
    pub state: SessionState,
}

/// A session with the jobs that it holds or, if it has ended, held when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDetails {
    pub session: SessionRecord,
    /// In the order in which the session acquired them.
    pub held: Vec<HeldJob>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldJob {
    pub job_id: Uuid,
    /// Whether the job is one of the first `slots`.
    pub started: bool,
    /// Current state of the job; `None`: it has been deleted.
    pub state: Option<State>,
    pub task: String,
}

#[cfg(test)]
impl JobRecord {
    /// A pending job that was never acquired, as a base for variations.
    pub(crate) fn sample(created_at_ms: i64) -> Self {
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
            progress: None,
        }
    }
}
