//! Calls that only read.

pub(super) mod counts;
pub(super) mod explain;
pub(super) mod finished;
pub(super) mod list;
mod page_token;
pub(super) mod read;
pub(super) mod timeline;
mod wait;
mod workers;
