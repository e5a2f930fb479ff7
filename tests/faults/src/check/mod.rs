//! Checker: judges a history by the queue's promises. A pure function that does not know how the history was produced.
//!
//! `book` sorts the events by call, job and lease; then each rule goes through it: `submits`, `outcomes`, `runs` and
//! `planned`. A rule reports nothing where the history leaves room: a call without a known result may have been carried
//! out or not, and every order that its times allow is possible.

mod book;
mod figures;
mod outcomes;
mod planned;
mod report;
mod runs;
mod submits;
#[cfg(test)]
mod tests;

pub use figures::{Figures, RecoveryTimes};
pub use report::{Promise, Report, Violation};

use self::book::Book;
use crate::history::{FinalState, History};

/// Checks every promise. `state` is the API's view of all jobs after everything has healed and drained.
pub fn check(history: &History, state: &FinalState) -> Report {
    let book = Book::of(history, state);
    let mut violations = Vec::new();
    submits::judge(&book, &mut violations);
    outcomes::judge(&book, &mut violations);
    runs::judge(&book, &mut violations);
    planned::judge(&book, &mut violations);
    violations.sort_by_key(|it| (it.promise, it.job));
    Report { violations, figures: figures::figures(&book) }
}
