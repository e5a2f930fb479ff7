//! Summary of a run, for its users.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::Duration,
};

use super::{fault::Store, plan::Step};
use crate::check::{Figures, Promise, Report};

/// Maximum number of violations that are printed; the kept folder's report has all of them.
const SHOWN: usize = 5;

/// Result of a run.
pub struct Outcome {
    pub store: Store,
    pub seed: u64,
    pub seconds: u64,
    pub took: Duration,
    pub drained_in: Duration,
    pub report: Report,
    /// Programs that ended without having been told to.
    pub surprises: Vec<String>,
    /// Contradictions that `jobqueue-server check` found.
    pub contradictions: Option<String>,
}

impl Outcome {
    pub fn is_good(&self) -> bool {
        self.report.violations.is_empty() && self.surprises.is_empty() && self.contradictions.is_none()
    }

    /// Reasons why the run is not good; empty when it is.
    pub fn complaints(&self) -> String {
        let mut text = String::new();
        for violation in self.report.violations.iter().take(SHOWN) {
            let _ = writeln!(text, "{violation}");
        }
        if self.report.violations.len() > SHOWN {
            let mut promises: BTreeMap<Promise, usize> = BTreeMap::new();
            for violation in &self.report.violations {
                *promises.entry(violation.promise).or_default() += 1;
            }
            text += "all of them:\n";
            for (promise, times) in promises {
                let _ = writeln!(text, "{times:>7} x {promise}");
            }
        }
        for surprise in &self.surprises {
            let _ = writeln!(text, "{surprise}");
        }
        if let Some(contradictions) = &self.contradictions {
            let _ = writeln!(text, "jobqueue-server check:\n{contradictions}");
        }
        text
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Figures { faults, recovery, .. } = &self.report.figures;
        let figures = &self.report.figures;
        writeln!(
            f,
            "{}, seed {}, {} s of faults ({:.0} s in all, drained in {:.1} s)",
            self.store.name(),
            self.seed,
            self.seconds,
            self.took.as_secs_f64(),
            self.drained_in.as_secs_f64()
        )?;
        writeln!(f, "  {:<46} {:>5}", "faults injected and survived", faults.values().sum::<usize>())?;
        for (fault, times) in faults {
            writeln!(f, "    {fault:<44} {times:>5}")?;
        }
        let broken = |promises: &[Promise]| promises.iter().map(|it| self.report.broken(*it)).sum::<usize>();
        for (what, figure) in [
            ("submits acknowledged", figures.submits_acknowledged),
            ("  of them with an earlier job (deduplicated)", figures.submits_deduplicated),
            ("submits whose outcome stayed unknown", figures.submits_unknown),
            ("jobs acknowledged", figures.jobs_acknowledged),
            ("  lost or stuck", broken(&[Promise::NothingLost, Promise::NothingStuck])),
            ("  twice accepted", broken(&[Promise::OneOutcome])),
            ("jobs run", figures.jobs_run),
            ("starts of handlers", figures.starts),
            ("outcomes accepted", figures.outcomes_accepted),
            ("outcomes whose answer was lost", figures.outcomes_unknown),
            ("stale outcomes refused", figures.outcomes_refused),
            ("  accepted", broken(&[Promise::StaleRefused])),
        ] {
            writeln!(f, "  {what:<46} {figure:>5}")?;
        }
        for (fault, times) in recovery {
            writeln!(
                f,
                "  from {fault} to the next start: median {:.2} s, max {:.2} s ({} times)",
                times.median_ms / 1e3,
                times.max_ms / 1e3,
                times.samples
            )?;
        }
        Ok(())
    }
}

/// The plan as text, one line for each fault.
pub(super) fn plan(steps: &[Step]) -> String {
    let lines = steps.iter().map(|step| format!("  after {:>5} ms  {:?}\n", step.calm_ms, step.fault));
    lines.collect()
}
