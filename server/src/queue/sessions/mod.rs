//! Calls of a worker's session besides acquiring and settling. A session is one run of one worker process.

pub(super) mod cache;
mod end;
mod heartbeat;
pub(super) mod heartbeat_group;
mod progress;
pub(super) mod register;
