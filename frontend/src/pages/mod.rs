//! Pages, each in a file of its own. They arrange components and have no styles of their own.

pub mod dead_letters;
pub mod error_group;
pub mod errors;
pub mod filters;
pub mod job;
pub mod jobs;
pub mod not_found;
pub mod operations;
pub mod overview;
pub mod queue;
pub mod queues;
pub mod submit;
pub mod worker;
pub mod workers;
