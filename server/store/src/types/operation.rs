//! Operations: actions on all jobs that match a filter, step by step.

use jobqueue_shared::state::State;
use num_enum::{IntoPrimitive, TryFromPrimitive};
use uuid::Uuid;

/// State of an operation. The numbers are stored; up to 2 a runner works on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, IntoPrimitive, TryFromPrimitive)]
#[repr(i16)]
pub enum OperationState {
    Running = 1,
    CanaryWaiting = 2,
    Paused = 3,
    Stopped = 4,
    Done = 5,
    Failed = 6,
}

impl OperationState {
    /// Whether it goes on by itself.
    pub fn is_active(self) -> bool {
        matches!(self, Self::Running | Self::CanaryWaiting)
    }

    pub fn is_final(self) -> bool {
        matches!(self, Self::Stopped | Self::Done | Self::Failed)
    }
}

#[derive(Clone, Debug)]
pub struct NewOperation {
    /// Text that makes a repeated start give the same operation.
    pub request_id: Option<String>,
    /// Hash of what was asked for, by which another request with the same `request_id` is told.
    pub request_hash: [u8; 32],
    /// Kind and options of the operation; the store does not read them.
    pub spec: Vec<u8>,
    /// Part of it that answers show; the store does not read it.
    pub brief: Vec<u8>,
    pub caller: String,
    /// Number of matching jobs that was counted, and whether there are more.
    pub total: Option<(u64, bool)>,
}

#[derive(Clone, Debug)]
pub enum OperationStarted {
    New(OperationRecord),
    /// The operation that was started earlier with this `request_id`.
    Existing(OperationRecord),
    /// The `request_id` belongs to this operation, which was started with another request.
    KeyConflict(Uuid),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationRecord {
    pub id: Uuid,
    pub brief: Vec<u8>,
    pub state: OperationState,
    /// Why it stands still, or how it ended.
    pub note: String,
    pub caller: String,
    pub started_at_ms: i64,
    pub updated_at_ms: i64,
    pub finished_at_ms: Option<i64>,
    pub total: Option<u64>,
    pub total_is_floor: bool,
    pub changed: u64,
    pub refused: u64,
    /// Position of its runner; the store does not read it. "" at the start.
    pub progress: String,
}

/// A job that an operation did not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub job_id: Uuid,
    /// State of the job at that time; `None` if it was gone.
    pub state: Option<State>,
    /// The job came into its state after the operation had started.
    pub later: bool,
}

/// An operation that a runner has got, until its lease runs out.
#[derive(Clone, Debug)]
pub struct ClaimedOperation {
    pub record: OperationRecord,
    pub spec: Vec<u8>,
    /// Time until its rate allows the next step.
    pub wait_ms: i64,
}

/// Change that an operation makes to each of its jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// `text` is recorded in the history of the job.
    Retry {
        text: String,
    },
    /// `of_all`: both pending and running jobs are cancelled, so that a job may change between the two meanwhile.
    Cancel {
        reason: String,
        of_all: bool,
    },
    Delete,
    SetPriority(u8),
    Reschedule {
        run_at_ms: i64,
    },
}

impl Change {
    /// Whether jobs in `state` can be changed.
    pub fn takes(&self, state: State) -> bool {
        match self {
            Self::Retry { .. } => state.can_retry(),
            Self::Cancel { .. } => state.can_cancel(),
            Self::Delete => state.is_finished(),
            Self::SetPriority(_) | Self::Reschedule { .. } => state == State::Pending,
        }
    }
}

/// Step of an operation: some of its jobs, and where the operation is afterwards.
#[derive(Clone, Debug)]
pub struct Step {
    pub operation_id: Uuid,
    /// Token of the runner that claimed the operation.
    pub token: Uuid,
    /// Time for which the runner keeps the operation.
    pub lease_ms: i64,
    pub change: Change,
    pub ids: Vec<Uuid>,
    /// Jobs that came into their state later are refused.
    pub covers_until_ms: i64,
    /// Maximum number of jobs per second.
    pub rate: Option<u32>,
    /// Number of changed jobs whose ids are kept, to watch their outcome.
    pub remember: Remember,
    pub progress: String,
    pub then: Then,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remember {
    /// All that are changed belong to the canary.
    pub canary: bool,
    /// Number of changed jobs that join the sample.
    pub sample: u32,
}

/// State of an operation after a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Then {
    GoOn,
    WaitForCanary,
    /// The runner gives the operation back, and any other may go on.
    Release,
    End(OperationState, String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepAnswer {
    /// The step has changed nothing: the operation was paused or stopped, has another runner, or does not exist.
    NotRunner,
    Stepped(Stepped),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stepped {
    /// Numbers of jobs over all steps, this one included.
    pub changed: u64,
    pub refused: u64,
    /// Time until the rate allows the next step.
    pub wait_ms: i64,
    pub moved: Vec<MovedJob>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MovedJob {
    pub id: Uuid,
    pub worker_id: String,
    /// The session that held the job and has to stop it.
    pub stopped: Option<Uuid>,
}

/// Outcomes of jobs that an operation has retried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Outcomes {
    pub jobs: u32,
    pub succeeded: u32,
    /// Jobs of which an attempt has failed since the retry.
    pub failed_again: u32,
    /// Jobs whose first attempt since the retry has not ended.
    pub waiting: u32,
    /// Jobs that were cancelled or deleted since.
    pub left: u32,
}
