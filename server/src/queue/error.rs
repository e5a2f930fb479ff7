//! What the rules can answer besides success. `grpc::errors` says how each is told to a caller.

use std::sync::Arc;

use jobqueue_shared::state::State;
use uuid::Uuid;

use crate::store::StoreError;

/// One wrong field: where it is in the request (`jobs[17].payload_json`), and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub field: String,
    pub description: String,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The request breaks a limit or contradicts itself; every wrong field is named.
    #[error("the request is not valid")]
    Invalid(Vec<Violation>),
    #[error("there is no job {0}")]
    NoJob(Uuid),
    /// The idempotency key in `field` belongs to the job `existing`, which another request made.
    #[error("{field}: this key was used with another request, for job {existing}")]
    KeyReused { field: String, existing: Uuid },
    /// The job is in a state that `verb` does not start from.
    #[error("job {id} is {}; it cannot be {verb}", state.word())]
    WrongState { id: Uuid, state: State, verb: &'static str },
    #[error("session {0} is unknown or has ended: register a new one")]
    NoSession(Uuid),
    /// Somebody wants to see a session that never was, or was so long ago that it is forgotten.
    #[error("there is no session {0}")]
    NoWorker(Uuid),
    #[error("the session holds as many jobs as it may; settle some first")]
    SessionFull,
    #[error("the lease is no longer valid: its attempt has ended")]
    StaleLease,
    /// More waits to be written than the server is willing to hold in memory.
    #[error("the server is busy")]
    Busy,
    /// The server is shutting down and takes nothing new.
    #[error("the server is shutting down")]
    Draining,
    /// Shared, because one failed write answers everyone whose work was in it.
    #[error(transparent)]
    Store(#[from] Arc<StoreError>),
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::Store(Arc::new(error))
    }
}

pub type Result<T> = std::result::Result<T, Error>;
