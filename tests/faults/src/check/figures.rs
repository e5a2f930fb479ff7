//! Counts and recovery times of a run.

use std::collections::{BTreeMap, HashSet};

use super::book::{Book, FaultSpan};
use crate::history::{Event, Recovery};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub submits_acknowledged: usize,
    /// Calls that ended without an answer, or with one that leaves open whether the job was stored.
    pub submits_unknown: usize,
    pub submits_failed: usize,
    /// Acknowledged submits that were answered with an earlier job.
    pub submits_deduplicated: usize,
    pub jobs_acknowledged: usize,
    /// Jobs of which a handler started.
    pub jobs_run: usize,
    pub starts: usize,
    /// Accepted answers, repeated ones included.
    pub outcomes_accepted: usize,
    pub outcomes_unknown: usize,
    /// Outcomes refused as stale.
    pub outcomes_refused: usize,
    /// Faults that are proven to have happened, by kind.
    pub faults: BTreeMap<String, usize>,
    /// Times from a fault to the next start, by kind of fault, for the kinds whose recovery is measured.
    pub recovery: BTreeMap<String, RecoveryTimes>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RecoveryTimes {
    pub samples: usize,
    pub median_ms: f64,
    pub max_ms: f64,
}

pub(super) fn figures(book: &Book<'_>) -> Figures {
    let mut figures = Figures::default();
    let mut acknowledged = HashSet::new();
    for call in &book.submits {
        if let Some((job, deduplicated, _)) = call.accepted() {
            figures.submits_acknowledged += 1;
            figures.submits_deduplicated += usize::from(deduplicated);
            acknowledged.insert(job);
        } else if call.is_refused() {
            figures.submits_failed += 1;
        } else {
            figures.submits_unknown += 1;
        }
    }
    figures.jobs_acknowledged = acknowledged.len();
    for story in book.jobs.values() {
        let starts: usize = story.leases.iter().map(|it| it.starts.len()).sum();
        figures.starts += starts;
        figures.jobs_run += usize::from(starts > 0);
        for settle in story.leases.iter().flat_map(|it| &it.settles) {
            if settle.accepted().is_some() {
                figures.outcomes_accepted += 1;
            } else if settle.is_refused() {
                figures.outcomes_refused += 1;
            } else {
                figures.outcomes_unknown += 1;
            }
        }
    }
    let mut times: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for span in &book.faults {
        let Some(injected) = span.injected else { continue };
        *figures.faults.entry(span.fault.fault.clone()).or_default() += 1;
        let measured = match span.fault.recovery {
            Recovery::NotMeasured => Vec::new(),
            Recovery::JobsOfTarget => jobs_of_target(book, span),
            Recovery::AnyJob => any_job(book, span, injected),
        };
        times.entry(span.fault.fault.clone()).or_default().extend(measured);
    }
    figures.recovery = times
        .into_iter()
        .filter(|(_, times)| !times.is_empty())
        .map(|(fault, times)| (fault, RecoveryTimes::of(times)))
        .collect();
    figures
}

/// Times, in nanoseconds, from the fault to the next start of each job that the target held at that moment.
fn jobs_of_target(book: &Book<'_>, span: &FaultSpan<'_>) -> Vec<u64> {
    let at = span.begins.at_ns;
    let mut times = Vec::new();
    for story in book.jobs.values() {
        let held = story.leases.iter().any(|lease| {
            lease.acquired.process == span.fault.target
                && lease.acquired.at_ns <= at
                && !lease.settles.iter().any(|it| it.answer.is_some_and(|answer| answer.at_ns <= at))
        });
        if held {
            let starts =
                story.leases.iter().filter(|it| it.acquired.process != span.fault.target).flat_map(|it| &it.starts);
            times.extend(starts.map(|it| it.at_ns).filter(|&start| start > at).min().map(|start| start - at));
        }
    }
    times
}

/// Time, in nanoseconds, to the next start of a job that was handed out after the fault had happened. Jobs that were
/// handed out before start in any case, so they do not count. The time runs from the beginning of a fault; of a planned
/// stop, from the moment when the process is gone.
fn any_job(book: &Book<'_>, span: &FaultSpan<'_>, injected: &Event) -> Vec<u64> {
    let since = if span.fault.planned { injected.at_ns } else { span.begins.at_ns };
    let leases = book.jobs.values().flat_map(|story| &story.leases);
    let starts = leases.filter(|it| it.acquired.at_ns > injected.at_ns).flat_map(|it| &it.starts);
    starts.map(|start| start.at_ns).min().map(|start| start - since).into_iter().collect()
}

impl RecoveryTimes {
    fn of(mut times_ns: Vec<u64>) -> Self {
        times_ns.sort_unstable();
        let ms = |at: usize| times_ns.get(at).copied().unwrap_or_default() as f64 / 1e6;
        Self {
            samples: times_ns.len(),
            median_ms: ms(times_ns.len() / 2),
            max_ms: ms(times_ns.len().saturating_sub(1)),
        }
    }
}
