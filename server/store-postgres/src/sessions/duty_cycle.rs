//! Limit on the share of time that a repeated query takes.
//!
//! A query that walks dead index entries takes longer and longer while somebody holds an old snapshot.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Duration up to which a query is never held back: once a second, it takes a tenth of the time at most.
const ALWAYS_ALLOWED: Duration = Duration::from_millis(100);
/// A longer query pauses for this multiple of its duration, so that it takes at most 1/20 of the time.
const PAUSE_FACTOR: u32 = 20;

/// End and duration of the last run of the query.
#[derive(Default)]
pub(crate) struct DutyCycle(Mutex<Option<(Instant, Duration)>>);

impl DutyCycle {
    /// Whether the query may run now.
    pub(crate) fn is_due(&self) -> bool {
        let last = self.0.lock();
        last.is_none_or(|(at, took)| took <= ALWAYS_ALLOWED || at.elapsed() >= took * PAUSE_FACTOR)
    }

    /// Records a run that began at `began` and has ended. If it found something, the next run may follow at once.
    pub(crate) fn record(&self, began: Instant, found: bool) {
        let took = if found { Duration::ZERO } else { began.elapsed() };
        *self.0.lock() = Some((Instant::now(), took));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ago(ms: u64) -> Instant {
        Instant::now().checked_sub(Duration::from_millis(ms)).unwrap()
    }

    #[test]
    fn a_long_look_that_finds_nothing_is_not_made_again_for_a_while() {
        let duty_cycle = DutyCycle::default();
        assert!(duty_cycle.is_due());
        duty_cycle.record(Instant::now(), false);
        assert!(duty_cycle.is_due());
        duty_cycle.record(ago(10_000), true);
        assert!(duty_cycle.is_due());
        duty_cycle.record(ago(10_000), false);
        assert!(!duty_cycle.is_due());
        *duty_cycle.0.lock() = Some((ago(2_100), Duration::from_millis(101)));
        assert!(duty_cycle.is_due());
    }
}
