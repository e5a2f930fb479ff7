//! Limit on the share of time that a repeated query takes.
//!
//! A query that walks dead index entries takes longer and longer while somebody holds an old snapshot.

use std::time::{Duration, Instant};

/// Bounds of a repeated query.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Minimum time between the end of a run and the next one.
    pub pause: Duration,
    /// Duration up to which a run is not held back any longer than that.
    pub short: Duration,
    /// A longer run is followed by a pause of this multiple of its duration.
    pub factor: u32,
}

/// Runs of a repeated query: whether the next one is due.
#[derive(Debug)]
pub(crate) struct DutyCycle {
    bounds: Bounds,
    /// End of the last run; `None` before the first.
    ended: Option<Instant>,
    /// Duration of the last run that counts.
    took: Duration,
}

impl DutyCycle {
    pub(crate) const fn new(bounds: Bounds) -> Self {
        Self { bounds, ended: None, took: Duration::ZERO }
    }

    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let Bounds { pause, short, factor } = self.bounds;
        let pause = if self.took <= short { pause } else { pause.max(self.took * factor) };
        self.ended.is_none_or(|ended| now.saturating_duration_since(ended) >= pause)
    }

    /// Puts the next run off, because one begins that will be recorded when it has ended.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.ended = Some(now);
    }

    /// Records a run.
    pub(crate) fn record(&mut self, began: Instant, ended: Instant) {
        self.ended = Some(ended);
        self.took = ended.saturating_duration_since(began);
    }

    /// Lets the next run follow at once.
    pub(crate) fn reset(&mut self) {
        self.ended = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const BOUNDS: Bounds = Bounds { pause: Duration::from_millis(10), short: Duration::from_millis(100), factor: 20 };

    #[test]
    fn a_long_run_is_followed_by_a_long_pause() {
        let (mut cycle, start) = (DutyCycle::new(BOUNDS), Instant::now());
        assert!(cycle.is_due(start));
        cycle.record(start, start + 100 * MS);
        assert!(!cycle.is_due(start + 109 * MS));
        assert!(cycle.is_due(start + 110 * MS));
        cycle.record(start, start + 101 * MS);
        assert!(!cycle.is_due(start + (101 + 101 * 20 - 1) * MS));
        assert!(cycle.is_due(start + (101 + 101 * 20) * MS));
        cycle.reset();
        assert!(cycle.is_due(start));
    }

    #[test]
    fn a_run_that_has_begun_puts_the_next_one_off() {
        let (mut cycle, start) = (DutyCycle::new(BOUNDS), Instant::now());
        cycle.begin(start);
        assert!(!cycle.is_due(start + 9 * MS));
        assert!(cycle.is_due(start + 10 * MS));
        assert!(cycle.is_due(start + 10 * MS), "asking changes nothing");
    }
}
