//! Judges a history by the queue's promises. A pure function: it knows nothing of how the history came about.
//!
//! `book` sorts the events by call, job and lease; then every rule looks through it: `submits`, `outcomes`,
//! `runs` and `planned`. A rule says nothing where the history leaves room: a call of which nothing is known may
//! have been carried out or not, and every order that its times allow is possible.

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

/// `state` is what the API shows after everything healed and drained.
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
