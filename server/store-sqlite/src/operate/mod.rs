//! Operate: what people do to jobs and worker_ids.

pub(crate) mod operations;
pub(crate) mod operator_actions;
pub(crate) mod pause;
