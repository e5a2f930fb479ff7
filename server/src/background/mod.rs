//! Background work. Any number of servers may run it on one database at once.
//!
//! Each kind of work on the store has a file: `run_once` does one turn, [`repeat::every`] repeats it; `start` starts all
//! of it.

pub mod compact_counters;
pub mod find_runnable;
pub mod fold_errors;
pub mod health;
pub mod housekeeping;
pub mod note_heard;
pub mod prune;
pub mod repeat;
pub mod rescue;
pub mod run_operations;
pub(crate) mod start;
