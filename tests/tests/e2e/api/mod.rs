//! The API and the pages, as clients see them.

mod contract;
mod copy;
mod error_groups;
mod errors;
mod explain;
mod filters;
mod gzip;
mod idempotency;
mod large_answers;
mod lifecycle;
mod malformed;
pub(crate) mod operations;
mod pages;
mod protocol;
mod timeline;
mod wait;
