//! Calls that only read.

mod count;
pub(super) mod counts;
mod error_groups;
pub(super) mod explain;
pub(super) mod finished;
pub(super) mod list;
pub(super) mod page_token;
pub(super) mod read;
pub(super) mod timeline;
mod wait;
mod workers;

pub(super) use self::error_groups::error_group_id;
