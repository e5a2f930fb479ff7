//! Event of a timeline.

use jobqueue_shared::proto::v1::timeline_event::Kind;
use uuid::Uuid;

/// An event of a job.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    pub kind: Kind,
    pub at_ms: i64,
    /// The job's run_no at that time; 0 = none.
    pub run_no: u32,
    pub session_id: Option<Uuid>,
    pub host: String,
    pub text: String,
    pub fraction: f64,
}

/// Event without a session or a text.
pub(super) fn event(kind: Kind, at_ms: i64, run_no: u32) -> Event {
    Event { kind, at_ms, run_no, session_id: None, host: String::new(), text: String::new(), fraction: 0.0 }
}
