//! Pace at which a worker finishes jobs, and the number of jobs that it prefetches at that pace.

use std::time::Duration;

use jobqueue_shared::limits;
use tokio::time::Instant;

/// Prefetched work: as many jobs as a busy worker finishes in this time at its pace.
const PREFETCH_TIME: Duration = Duration::from_millis(50);
/// Maximum number of prefetched jobs: three calls under way and a batch at hand.
pub(crate) const PREFETCH_MAX: usize = 4 * limits::JOBS_PER_ACQUIRE as usize;
/// Time of work after which earlier work counts half for the pace.
const BUSY_HALF_LIFE: Duration = Duration::from_millis(20);
/// Idle time after which half of the pace is forgotten. It is longer than [`BUSY_HALF_LIFE`], because one of many
/// workers may wait longer for its jobs than it works on them.
const IDLE_HALF_LIFE: Duration = Duration::from_millis(500);

/// Pace of a worker: jobs finished per second of work, as a mean in which recent work counts most.
pub(crate) struct Pace {
    updated_at: Instant,
    /// Number of jobs finished until then, since the worker started.
    finished: u64,
    /// Sum of the rates of all stretches of work, in jobs per second, each times its weight.
    weighted_rate: f64,
    /// Sum of the weights, at most 1.
    weight: f64,
}

impl Pace {
    pub(crate) fn new(at: Instant) -> Self {
        Self { updated_at: at, finished: 0, weighted_rate: 0.0, weight: 0.0 }
    }

    /// Adds the time until `now`: the worker was busy and has finished `finished` jobs in all, or was idle (`None`).
    pub(crate) fn advance(&mut self, now: Instant, finished: Option<u64>) {
        let time = now.saturating_duration_since(self.updated_at).as_secs_f64();
        if time == 0.0 {
            return;
        }
        let left = |half_life: Duration| 0.5_f64.powf(time / half_life.as_secs_f64());
        if let Some(finished) = finished {
            let rate = finished.saturating_sub(self.finished) as f64 / time;
            let left = left(BUSY_HALF_LIFE);
            self.weighted_rate = self.weighted_rate * left + rate * (1.0 - left);
            self.weight = self.weight * left + 1.0 - left;
            self.finished = finished;
        } else {
            self.weighted_rate *= left(IDLE_HALF_LIFE);
        }
        self.updated_at = now;
    }

    /// Number of jobs to prefetch: as many as finish in [`PREFETCH_TIME`], at most [`PREFETCH_MAX`].
    pub(crate) fn prefetch(&self) -> usize {
        let jobs_per_second = if self.weight > 0.0 { self.weighted_rate / self.weight } else { 0.0 };
        ((jobs_per_second * PREFETCH_TIME.as_secs_f64()).round() as usize).min(PREFETCH_MAX)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn short_jobs_are_prefetched_and_long_ones_are_not() {
        let begun = Instant::now();
        let after = |finished, time| {
            let mut pace = Pace::new(begun);
            pace.advance(begun + time, Some(finished));
            pace
        };
        let second = Duration::from_secs(1);
        assert_eq!(after(1, second).prefetch(), 0);
        assert_eq!(after(1_000, second).prefetch(), 50);
        assert_eq!(after(1, second / 1_000).prefetch(), 50, "one is enough to know");
        assert_eq!(after(10_000_000, second).prefetch(), PREFETCH_MAX);
        // The pace of short jobs is soon forgotten when jobs get long, and less soon while the worker is idle.
        let mut busy = after(10_000, second);
        busy.advance(begun + second + 10 * BUSY_HALF_LIFE, Some(10_000));
        assert_eq!(busy.prefetch(), 0);
        let mut idle = after(10_000, second);
        idle.advance(begun + second + IDLE_HALF_LIFE, None);
        assert_eq!(idle.prefetch(), 250);
        // Many small steps give the same pace as one large step.
        let mut steps = Pace::new(begun);
        (1..=1_000).for_each(|n| steps.advance(begun + n * second / 1_000, Some(u64::from(n))));
        assert_eq!(steps.prefetch(), 50);
    }

    proptest! {
        #[test]
        fn what_is_prefetched_is_bounded_whatever_the_clock_says(
            steps in prop::collection::vec((0_u64..3_000_000, 0_u64..100_000, any::<bool>()), 1..50),
        ) {
            let (mut now, mut finished) = (Instant::now(), 0);
            let mut pace = Pace::new(now);
            for (us, more, busy) in steps {
                now += Duration::from_micros(us);
                finished += more;
                pace.advance(now, busy.then_some(finished));
                prop_assert!(pace.prefetch() <= PREFETCH_MAX);
                prop_assert!(pace.weighted_rate.is_finite() && pace.weighted_rate >= 0.0);
                prop_assert!(pace.weight <= 1.0 + f64::EPSILON);
            }
        }
    }
}
