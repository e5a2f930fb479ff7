//! Exponential backoff with jitter between calls to a server that did not answer.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Endless series of delays that double from `first` up to `longest`, with random jitter so that a fleet does not
/// reconnect in lockstep.
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    delays: ExponentialBackoff,
}

impl Backoff {
    /// Backoff whose delays are never longer than `longest`.
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, delays: Self::delays(first, longest) }
    }

    /// Backoff for the calls of a session: delays of up to a third of its lease time, at most 5 s.
    pub(crate) fn for_lease(lease_time: Duration) -> Self {
        Self::new(Duration::from_millis(100), (lease_time / 3).min(Duration::from_secs(5)))
    }

    pub(crate) fn next(&mut self) -> Duration {
        self.delays.next().unwrap_or(self.longest)
    }

    pub(crate) fn reset(&mut self) {
        self.delays = Self::delays(self.first, self.longest);
    }

    fn delays(first: Duration, longest: Duration) -> ExponentialBackoff {
        // backon's jitter adds up to the delay itself, so its delays are halved to stay within `longest`.
        ExponentialBuilder::new()
            .with_min_delay(first.min(longest / 2))
            .with_max_delay(longest / 2)
            .with_jitter()
            .without_max_times()
            .build()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_their_bound_and_start_again_after_a_reset() {
        let mut backoff = Backoff::for_lease(Duration::from_secs(30));
        let delays: Vec<_> = std::iter::repeat_with(|| backoff.next()).take(1_000).collect();
        assert!(delays[0] >= Duration::from_millis(100) && delays[0] <= Duration::from_millis(200));
        assert!(delays.iter().all(|&delay| delay <= Duration::from_secs(5)));
        assert!(delays[999] >= Duration::from_millis(2_500));
        assert!(delays.iter().collect::<std::collections::HashSet<_>>().len() > 100, "no jitter");
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(200));
    }

    #[test]
    fn a_short_lease_is_asked_for_more_often() {
        let mut backoff = Backoff::for_lease(Duration::from_secs(5));
        assert!((0..1_000).all(|_| backoff.next() <= Duration::from_millis(1_667)));
    }
}
