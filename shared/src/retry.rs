//! Delay of a job before its next attempt.

use serde::{Deserialize, Serialize};

use crate::limits;

/// Policy for the delay between attempts: after the n-th used attempt it is `initial × factor^(n−1)`, at most `max`,
/// varied by ± `jitter`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct RetryPolicy {
    pub initial_ms: i64,
    pub factor: f64,
    pub max_ms: i64,
    /// Part of the delay by which it varies either way, 0 to 1.
    pub jitter: f64,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { initial_ms: 5_000, factor: 2.0, max_ms: 3_600_000, jitter: 0.2 }
    }
}

impl RetryPolicy {
    /// Delay after `used` attempts, in milliseconds. `random` is from 0 to 1. For all values of the policy the delay is
    /// finite, not negative and at most `max_ms` with its jitter.
    pub fn delay_ms(&self, used: u32, random: f64) -> i64 {
        let max = self.max_ms.clamp(0, limits::DELAY_MS) as f64;
        let exponent = f64::from(used.saturating_sub(1).min(1_000));
        let grown = self.initial_ms.max(0) as f64 * self.factor.max(1.0).powf(exponent);
        // NaN (0 × ∞) and infinity both end at a bound.
        let base = if self.initial_ms <= 0 { 0.0 } else { grown.min(max) };
        let jitter = if self.jitter.is_finite() { self.jitter.clamp(0.0, 1.0) } else { 0.0 };
        let varied = base * (1.0 + jitter * (2.0 * random.clamp(0.0, 1.0) - 1.0));
        varied.round() as i64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn doubles_from_five_seconds_to_an_hour() {
        let policy = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
        let delays: Vec<_> = [1, 2, 3, 10, 11, 100].map(|n| policy.delay_ms(n, 0.5)).into();
        assert_eq!(delays, [5_000, 10_000, 20_000, 2_560_000, 3_600_000, 3_600_000]);
    }

    #[test]
    fn jitter_reaches_both_ends() {
        let policy = RetryPolicy::default();
        assert_eq!((policy.delay_ms(1, 0.0), policy.delay_ms(1, 1.0)), (4_000, 6_000));
    }

    proptest! {
        #[test]
        fn backoff_never_overflows_or_turns_back(
            initial_ms in any::<i64>(), factor in any::<f64>(), max_ms in any::<i64>(), jitter in any::<f64>(),
            used in any::<u32>(), random in any::<f64>(),
        ) {
            let delay = RetryPolicy { initial_ms, factor, max_ms, jitter }.delay_ms(used, random);
            prop_assert!((0..=2 * limits::DELAY_MS).contains(&delay), "{delay}");
        }

        #[test]
        fn delays_do_not_shrink(used in 1_u32..200) {
            let policy = RetryPolicy { jitter: 0.0, ..RetryPolicy::default() };
            prop_assert!(policy.delay_ms(used, 0.5) <= policy.delay_ms(used + 1, 0.5));
        }
    }
}
