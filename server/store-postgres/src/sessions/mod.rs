//! Sessions: what a worker's session reports, and how it ends.

pub(crate) mod end;
pub(crate) mod heartbeat;
pub(crate) mod outage;
pub(crate) mod progress;
pub(crate) mod register;
pub(crate) mod rescue;
