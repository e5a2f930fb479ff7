//! Sessions of a worker: registering one, keeping its lease, and the jobs that it holds.

mod blocked_runtime;
pub(crate) mod heartbeat;
pub(crate) mod register;
pub(crate) mod session;
mod takeover;
