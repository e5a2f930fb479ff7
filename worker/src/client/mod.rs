//! Client for programs that submit, read and change jobs.

pub(crate) mod changes;
pub(crate) mod error;
pub(crate) mod job;
pub(crate) mod job_list;
pub(crate) mod job_service;
pub(crate) mod new_job;
mod repeat;
pub(crate) mod retry_policy;
