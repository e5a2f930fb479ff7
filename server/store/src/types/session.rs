//! Arguments, results and records of sessions.

use jobqueue_shared::{lease::LeaseId, state::State};
use num_enum::{IntoPrimitive, TryFromPrimitive};
use uuid::Uuid;

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

/// Reason for which a session has to stop an attempt. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoPrimitive, TryFromPrimitive)]
#[repr(i16)]
pub enum StopReason {
    Cancelled = 1,
    TimedOut = 2,
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
