//! Calls by which people change jobs and worker_ids.

mod operator_actions;
mod pause;
