//! Observe: reads for people, and the audit.

pub(crate) mod audit;
pub(crate) mod counts;
pub(crate) mod explain_inputs;
mod list;
pub(crate) mod read;
pub(crate) mod sessions;
