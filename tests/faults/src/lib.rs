//! The fault suite: real processes under a nemesis, and a judge who knows only what they wrote down.
//!
//! Read in this order: [`history`] is what a process writes down of what it did; [`check`] judges histories by the
//! queue's promises, and knows nothing of how they came about; [`programs`] are the submitter and the worker that write
//! them; [`proxy`] is the network between the parts, and its faults; [`run`] puts all of it together.

pub mod check;
pub mod history;
pub mod programs;
pub mod run;

pub use jobqueue_tests::proxy;
