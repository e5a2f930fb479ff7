//! Calls by which people change jobs and worker_ids.

mod error_groups;
mod operator_actions;
mod pause;
