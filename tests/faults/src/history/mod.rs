//! Histories: events of a run, written by the processes that took part.
//!
//! `event` is one line; `recorder` writes lines so that a kill -9 loses none that counts; `final_state` is the API's
//! view of all jobs at the end; [`History::read`] merges the files of a run by their monotonic times.

mod event;
mod final_state;
mod merge;
mod recorder;

pub use event::{Event, Fault, Kind, Move, Outcome, Phase, Recovery, Submit};
pub use final_state::{FinalAttempt, FinalJob, FinalState, Status};
pub use merge::{History, ReadError};
pub use recorder::{Recorder, now_ns};
