//! What goes into a store and comes out of it. Times are milliseconds since 1970 by the database's clock,
//! lengths of time milliseconds; texts have been checked against the limits before.

use jobqueue_shared::{
    lease::LeaseId,
    retry::RetryPolicy,
    state::{Ending, FailureReason, State},
};
use uuid::Uuid;

/// One submit, or one batch: all of it is stored or nothing.
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

/// When a new job may run.
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
    /// Nothing of the unit was stored: the key of job `index` belongs to another request.
    KeyConflict { index: usize, existing: Uuid },
    /// Nothing of the unit was stored: the database refused its data. A defect of the checks before it.
    Refused(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub id: Uuid,
    /// The key had been used with the same request; `id` is that job.
    pub deduplicated: bool,
}

/// New jobs for a call that waits for them: of its worker_id, all of them runnable at once.
#[derive(Clone, Debug)]
pub struct Offer {
    pub session_id: Uuid,
    pub worker_id: String,
    pub acquire_no: u32,
    /// (unit, job of it), in the order in which they are handed out; at most `PLACES_PER_CLAIM`.
    pub jobs: Vec<(usize, usize)>,
}

/// What became of units, and of the offers that came with them.
#[derive(Clone, Debug, Default)]
pub struct Inserted {
    /// One a unit, in order.
    pub answers: Vec<UnitAnswer>,
    /// One an offer, in order: empty if it was not taken.
    pub handed: Vec<Vec<Leased>>,
}

#[derive(Clone, Debug)]
pub struct Acquire {
    pub session_id: Uuid,
    /// Whose jobs it takes, when that is known: it saves a look, and is always the session's own.
    pub worker_id: Option<String>,
    pub acquire_no: u32,
    pub max_jobs: u32,
}

#[derive(Clone, Debug)]
pub enum Acquired {
    /// The session is unknown or has ended.
    NoSession,
    /// It holds `limits::JOBS_PER_SESSION` already.
    SessionFull,
    Jobs {
        worker_id: String,
        jobs: Vec<Leased>,
        /// Where `jobs` is empty: when the next job that waits for its time becomes runnable.
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
    /// One of those that a worker may say: Complete, Fail, Snooze, Release.
    pub ending: Ending,
    /// The error of a failure, the reason of a snooze; "" = none.
    pub text: String,
    pub result: Option<String>,
    pub note: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SettleAnswer {
    /// Moved now, or by the same outcome of the same lease before.
    Accepted(State),
    /// The lease is not valid (any more).
    Stale,
    /// The database cannot store what the outcome says; the attempt goes on.
    Refused,
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
    /// Sessions that it takes over from: it knows that their process is gone.
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
        /// Jobs of its predecessors that may run again.
        taken_back: u64,
    },
    /// `predecessors[index]` lives, and is no earlier run of the same worker on the same host.
    NoPredecessor { index: usize, why: &'static str },
}

#[derive(Clone, Copy, Debug)]
pub struct Beat {
    pub session_id: Uuid,
    pub draining: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alive {
    pub expires_at_ms: i64,
    /// Leases of this session that were ended by somebody else.
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

/// What servers that share a database tell each other. Only hints: each can be lost.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Hint {
    /// Jobs of this worker_id may be runnable.
    Runnable(String),
    /// Jobs of this worker_id wait for a session that handles their task.
    ForHandler(String),
    /// A lease of this session was ended by somebody else.
    Stopped(Uuid),
}

/// What became of one id that a person wanted to move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Moved {
    Yes {
        worker_id: String,
        /// The session that held it and has to stop it.
        stopped: Option<Uuid>,
    },
    NotFound,
    /// It is in a state that the move does not start from.
    Refused(State),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rescued {
    pub sessions: u64,
    /// Jobs taken back from lost sessions.
    pub lost: u64,
    pub timed_out: u64,
    /// Whose jobs became pending.
    pub worker_ids: Vec<String>,
    /// Sessions that live and have to stop what timed out.
    pub stopped: Vec<Uuid>,
    /// There was more than the limit: call again at once.
    pub more: bool,
}

/// What pruning may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PruningTime {
    /// The database's time.
    pub now_ms: i64,
    /// The time at which pruning found it right last; the database keeps it.
    pub confirmed_ms: i64,
}

/// How long finished work is kept, counted from its end.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub done_ms: i64,
    pub cancelled_ms: i64,
    pub dead_letters_ms: i64,
    /// Keys are kept this long after their job finished.
    pub keys_ms: i64,
}

/// A job and where it stands.
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
    pub progress: Option<Progress>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub fraction: f64,
    pub message: String,
    pub at_ms: i64,
}

/// How an attempt ended that is worth telling of. The numbers are what is stored.
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

/// All that is kept of what happened to a job, read at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    /// Without its payload.
    pub job: JobRecord,
    /// Newest first.
    pub attempts: Vec<AttemptRecord>,
    /// The last report, and the hand-over that it is of.
    pub progress: Option<(u32, Progress)>,
    /// Of the job's session; "" = not known (any more).
    pub host: String,
}

/// What a pending job's start depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Surroundings {
    pub now_ms: i64,
    pub paused: Option<Pause>,
    /// Live sessions of its worker_id that take jobs.
    pub sessions: u64,
    /// Those that take none any more.
    pub draining: u64,
    /// Of `sessions`, those that handle its task; and how many jobs these run at once, and hold.
    pub handling: u64,
    pub slots: u64,
    pub held: u64,
    /// When any session of the worker_id that is still known was heard of last.
    pub last_seen_ms: Option<i64>,
    /// Runnable jobs before it; counted up to `limits::AHEAD`.
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

/// How much of each job a list reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum View {
    #[default]
    Full,
    /// Neither payload nor result: both are empty, and their sizes cut no page.
    Basic,
}

/// Where a page ended, in its list's order. Only the list that made it reads it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Cursor {
    /// "" where the list is not ordered by it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub worker_id: String,
    /// The priority, where the list is ordered by it.
    #[serde(default)]
    pub priority: u8,
    /// The time that the list is ordered by.
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
    /// scheduled and retrying included.
    pub pending: u64,
    pub scheduled: u64,
    pub retrying: u64,
    pub running: u64,
    pub done: u64,
    pub failed: u64,
    pub cancelled: u64,
    pub oldest_runnable_ms: Option<i64>,
    /// Live sessions.
    pub sessions: u64,
    pub paused: Option<Pause>,
}

/// Since when no jobs of a worker_id are handed out, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub at_ms: i64,
    pub reason: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MinuteCounts {
    /// Since 1970.
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

/// Where a page of sessions ended: they come live ones first, then by start, newest first, then by id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SessionCursor {
    pub ended: bool,
    pub started_at_ms: i64,
    pub session_id: Uuid,
}

/// Which sessions to list.
#[derive(Clone, Debug, Default)]
pub struct SessionQuery {
    /// `None` = of all.
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

/// A session and what it holds, or held when it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDetails {
    pub session: SessionRecord,
    /// In the order in which it took them.
    pub held: Vec<HeldJob>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldJob {
    pub job_id: Uuid,
    /// It is one of the first `slots`.
    pub started: bool,
    /// Where it stands now. `None`: it has been deleted.
    pub state: Option<State>,
    pub task: String,
}

#[cfg(test)]
impl JobRecord {
    /// A pending job that nobody has taken yet, to be varied.
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
            progress: None,
        }
    }
}
