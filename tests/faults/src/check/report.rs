//! Report of the checker: the broken promises, each with the shortest part of the history that proves it.

use std::fmt;

use uuid::Uuid;

use super::figures::Figures;
use crate::history::{Event, FinalJob};

#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Violations; empty when all promises were kept.
    pub violations: Vec<Violation>,
    pub figures: Figures,
}

impl Report {
    pub fn broken(&self, promise: Promise) -> usize {
        self.violations.iter().filter(|it| it.promise == promise).count()
    }
}

/// Violation of a promise. Its `Display` has several lines: the promise, the problem, the events, the job's final
/// state.
#[derive(Clone, Debug, PartialEq)]
pub struct Violation {
    pub promise: Promise,
    /// The problem in one sentence.
    pub what: String,
    /// Job concerned; `None` when the database has no such job.
    pub job: Option<Uuid>,
    /// Smallest set of events that proves the violation, in their order.
    pub excerpt: Vec<Event>,
    /// Final state of the job, where that is part of the proof.
    pub shown: Option<FinalJob>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Promise {
    /// An acknowledged submit is stored.
    NothingLost,
    /// Every job reaches a final state.
    NothingStuck,
    /// Every job that is stored or run was submitted.
    NothingInvented,
    /// A submit that was refused stored nothing, and a batch is stored whole or not at all.
    AllOrNothing,
    /// A request makes one job.
    StoredOnce,
    /// A job is stored as it was submitted.
    Unchanged,
    /// An idempotency key has one job.
    OneJobAKey,
    /// An answer "deduplicated" names a job that was made by an equal request.
    TrueDuplicate,
    /// A job accepts one final outcome.
    OneOutcome,
    /// An outcome that comes too late is refused.
    StaleRefused,
    /// The job shows the outcome that was acknowledged.
    OutcomeKept,
    /// An outcome that repeats an accepted one of its lease is accepted.
    RepeatAccepted,
    /// A refused outcome is in the job's timeline.
    RefusalShown,
    /// No two leases of a job overlap by the database's clock.
    OneLease,
    /// A job has no more attempts than allowed, and each one is counted.
    Budget,
    /// No job runs before its time.
    NotEarly,
    /// A planned stop costs no attempt.
    PlannedStopFree,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingLost => "an acknowledged submit is stored",
            Self::NothingStuck => "every job reaches a final state",
            Self::NothingInvented => "nothing is stored or run that nobody submitted",
            Self::AllOrNothing => "a refused submit stores nothing, a batch is stored whole or not at all",
            Self::StoredOnce => "one request makes one job",
            Self::Unchanged => "a job is what was submitted",
            Self::OneJobAKey => "one key is one job",
            Self::TrueDuplicate => "\"deduplicated\" names the job of the same request",
            Self::OneOutcome => "one outcome of a job is accepted, and it is final",
            Self::StaleRefused => "an outcome that comes too late is refused",
            Self::OutcomeKept => "what was acknowledged is what the job shows",
            Self::RepeatAccepted => "the same outcome of the same lease again is accepted",
            Self::RefusalShown => "a refused outcome is in the job's timeline",
            Self::OneLease => "no two leases of a job overlap",
            Self::Budget => "not more attempts than allowed, and every one counted",
            Self::NotEarly => "no job runs before its time",
            Self::PlannedStopFree => "a planned stop costs no attempt",
        })
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "broken: {}", self.promise)?;
        writeln!(f, "  {}", self.what)?;
        for event in &self.excerpt {
            let text = serde_json::to_string(&event.kind).map_err(|_| fmt::Error)?;
            writeln!(f, "  {:>13.6} s  {:<14} {text}", event.at_ns as f64 / 1e9, event.process)?;
        }
        if let Some(job) = &self.shown {
            let text = serde_json::to_string(job).map_err(|_| fmt::Error)?;
            writeln!(f, "  at the end: {text}")?;
        }
        Ok(())
    }
}
