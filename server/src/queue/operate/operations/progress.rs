//! Progress of an operation: where its runner is, and what it knows of the retried jobs. It is stored as JSON with every
//! step, so that another runner goes on from there.

use jobqueue_shared::proto::v1;
use jobqueue_store::Outcomes;
use serde::{Deserialize, Serialize};

use super::selection::Position;

/// Number of outcomes of the sample from which on it is judged.
const JUDGED_FROM: u32 = 20;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Progress {
    pub(super) position: Position,
    pub(super) canary: Outcomes,
    pub(super) canary_passed: bool,
    pub(super) sample: Outcomes,
}

impl Progress {
    /// Reads stored progress; "" is the start.
    pub(crate) fn read(text: &str) -> Result<Self, serde_json::Error> {
        if text.is_empty() { Ok(Self::default()) } else { serde_json::from_str(text) }
    }

    pub(super) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(crate) fn canary(&self) -> (v1::OperationOutcomes, bool) {
        (message(self.canary), self.canary_passed)
    }

    pub(crate) fn sample(&self) -> v1::OperationOutcomes {
        message(self.sample)
    }
}

fn message(it: Outcomes) -> v1::OperationOutcomes {
    let count = |n: u32| i32::try_from(n).unwrap_or(i32::MAX);
    v1::OperationOutcomes { jobs: count(it.jobs), succeeded: count(it.succeeded), failed_again: count(it.failed_again) }
}

/// Verdict on the jobs that were retried so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Wait,
    GoOn,
    /// Too many have failed again; the note says how many.
    Stop(String),
}

/// Judges a canary: it is stopped as soon as too many of its jobs have failed again, and passes when all are known.
pub(super) fn judge_canary(canary: Outcomes, percent: f64) -> Verdict {
    if exceeds(canary.failed_again, canary.jobs, percent) {
        let Outcomes { jobs, failed_again, .. } = canary;
        return Verdict::Stop(format!(
            "{failed_again} of the {jobs} canary jobs failed again, which is more than {percent} %"
        ));
    }
    if canary.waiting == 0 { Verdict::GoOn } else { Verdict::Wait }
}

/// Judges a sample of all retried jobs by those whose outcome is known.
pub(super) fn judge_sample(sample: Outcomes, percent: f64) -> Verdict {
    let known = sample.succeeded + sample.failed_again;
    if known >= JUDGED_FROM && exceeds(sample.failed_again, known, percent) {
        let failed = sample.failed_again;
        return Verdict::Stop(format!(
            "{failed} of {known} retried jobs of the sample failed again, which is more than {percent} %"
        ));
    }
    Verdict::GoOn
}

fn exceeds(failed: u32, of: u32, percent: f64) -> bool {
    f64::from(failed) * 100.0 > percent * f64::from(of)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(jobs: u32, succeeded: u32, failed_again: u32) -> Outcomes {
        Outcomes { jobs, succeeded, failed_again, waiting: jobs - succeeded - failed_again, left: 0 }
    }

    #[test]
    fn a_canary_stops_early_and_passes_only_when_all_are_known() {
        assert_eq!(judge_canary(of(10, 5, 0), 0.0), Verdict::Wait);
        assert_eq!(judge_canary(of(10, 10, 0), 0.0), Verdict::GoOn);
        assert!(matches!(judge_canary(of(10, 0, 1), 0.0), Verdict::Stop(_)), "one failure is more than none");
        assert_eq!(judge_canary(of(10, 8, 2), 20.0), Verdict::GoOn, "20 % is not more than 20 %");
        assert_eq!(judge_canary(of(10, 0, 2), 20.0), Verdict::Wait);
        let Verdict::Stop(note) = judge_canary(of(10, 0, 3), 20.0) else { panic!() };
        assert_eq!(note, "3 of the 10 canary jobs failed again, which is more than 20 %");
        let left = Outcomes { left: 4, waiting: 0, ..of(10, 6, 0) };
        assert_eq!(judge_canary(left, 0.0), Verdict::GoOn, "jobs that were deleted are not waited for");
    }

    #[test]
    fn a_sample_is_judged_by_enough_outcomes() {
        assert_eq!(judge_sample(of(100, 0, 19), 5.0), Verdict::GoOn);
        assert!(matches!(judge_sample(of(100, 0, 20), 5.0), Verdict::Stop(_)));
        assert_eq!(judge_sample(of(100, 95, 5), 5.0), Verdict::GoOn);
        assert!(matches!(judge_sample(of(100, 94, 6), 5.0), Verdict::Stop(_)));
    }

    proptest! {
        #[test]
        fn progress_survives_the_trip(succeeded in 0_u32..500, failed in 0_u32..500, canary_passed: bool) {
            let progress = Progress { canary: of(1_000, succeeded, failed), canary_passed, ..Progress::default() };
            prop_assert_eq!(Progress::read(&progress.text()).unwrap(), progress);
        }

        #[test]
        fn at_a_hundred_percent_nothing_stops(jobs in 1_u32..1_000, share in 0.0..=1.0) {
            let failed = (f64::from(jobs) * share) as u32;
            prop_assert!(!matches!(judge_canary(of(jobs, 0, failed), 100.0), Verdict::Stop(_)));
            prop_assert_eq!(judge_sample(of(jobs, 0, failed), 100.0), Verdict::GoOn);
        }
    }

    #[test]
    fn an_empty_text_is_the_start() {
        assert_eq!(Progress::read("").unwrap(), Progress::default());
        assert!(Progress::read("{").is_err());
    }
}
