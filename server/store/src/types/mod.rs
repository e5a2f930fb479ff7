//! Arguments and results of the store's methods. Times are milliseconds since 1970 by the database's clock, lengths of
//! time milliseconds; texts have been checked against the limits before.

mod attempt;
mod error_group;
mod filter;
mod job;
mod maintain;
mod operation;
mod session;
mod submit;

pub use attempt::*;
pub use error_group::*;
pub use filter::*;
pub use job::*;
pub use maintain::*;
pub use operation::*;
pub use session::*;
pub use submit::*;

use uuid::Uuid;

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
