//! Calls by which people change jobs and worker_ids.

mod error_groups;
pub(crate) mod operations;
mod operator_actions;
mod pause;
