//! Fault suite: real processes under a nemesis, and a checker that knows only the histories that they wrote.
//!
//! Read in this order: [`history`] is the record that each process writes of its own actions; [`check`] judges
//! histories by the queue's promises, and does not know how they were produced; [`programs`] are the submitter and the
//! worker that write them; [`proxy`] is the network between the parts, and its faults; [`run`] puts all of it together.

pub mod check;
pub mod history;
pub mod programs;
pub mod run;

pub use jobqueue_tests::proxy;
