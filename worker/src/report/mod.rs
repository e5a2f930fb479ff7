//! Reports to the server about the jobs of a session: their outcomes and their progress.

pub(crate) mod outcome_queue;
pub(crate) mod progress;
pub(crate) mod settle;
