//! Copy of a job with changes, as a person edits it.

pub mod diff;
pub mod edit;
