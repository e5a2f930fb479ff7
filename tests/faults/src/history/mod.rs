//! What happened, as the processes that did it wrote it down.
//!
//! `event` is one line; `recorder` writes lines so that a kill -9 loses none that counts; `final_state` is what
//! the API shows when all is over; [`History::read`] merges the files of a run by their monotonic times.

mod event;
mod final_state;
mod merge;
mod recorder;

pub use event::{Event, Fault, Kind, Move, Outcome, Phase, Recovery, Submit};
pub use final_state::{FinalAttempt, FinalJob, FinalState, Status};
pub use merge::{History, ReadError};
pub use recorder::{Recorder, now_ns};
