//! Errors of the queue's calls. `grpc::errors` maps each to a gRPC status.

use std::sync::Arc;

use jobqueue_shared::state::State;
use jobqueue_store::{ErrorGroupId, OperationState, StoreError};
use uuid::Uuid;

/// A wrong field: its path in the request (`jobs[17].payload_json`), and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub field: String,
    pub description: String,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The request breaks a limit or contradicts itself; the violations name every wrong field.
    #[error("the request is not valid")]
    Invalid(Vec<Violation>),
    #[error("there is no job {0}")]
    NoJob(Uuid),
    /// The idempotency key in `field` belongs to the job `existing`, which was submitted with another request.
    #[error("{field}: this key was used with another request, for job {existing}")]
    KeyReused { field: String, existing: Uuid },
    /// The job's state does not allow the action `verb`.
    #[error("job {id} is {}; it cannot be {verb}", state.word())]
    WrongState { id: Uuid, state: State, verb: &'static str },
    #[error("there is no operation {0}")]
    NoOperation(Uuid),
    /// The request_id of a start belongs to the operation `existing`, which was started with another spec.
    #[error("request_id: it was used with another spec, for operation {existing}")]
    RequestIdReused { existing: Uuid },
    /// The operation's state does not allow the action `verb`.
    #[error("operation {id} is {}; it cannot be {verb}", operation_state_word(*state))]
    WrongOperationState { id: Uuid, state: OperationState, verb: &'static str },
    #[error("session {0} is unknown or has ended: register a new one")]
    SessionEnded(Uuid),
    /// The session to show is unknown, or ended so long ago that it was pruned.
    #[error("there is no session {0}")]
    SessionNotFound(Uuid),
    #[error("there is no error group {0}")]
    NoErrorGroup(ErrorGroupId),
    #[error("the session holds as many jobs as it may; settle some first")]
    SessionFull,
    #[error("the lease is no longer valid: its attempt has ended")]
    StaleLease,
    /// The calls that wait to be written are at the limit of what the server holds in memory.
    #[error("the server is busy")]
    Busy,
    /// The server is shutting down and accepts no new work.
    #[error("the server is shutting down")]
    Draining,
    /// The store failed. Shared, because one failed write answers every call of its group.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}

fn operation_state_word(state: OperationState) -> &'static str {
    match state {
        OperationState::Running => "running",
        OperationState::CanaryWaiting => "waiting for its canary",
        OperationState::Paused => "paused",
        OperationState::Stopped => "stopped",
        OperationState::Done => "done",
        OperationState::Failed => "failed",
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

pub type Result<T> = std::result::Result<T, Error>;
