//! Estimate of the server's clock on this side, from the times in its answers.

/// Difference between the browser's and the server's clock above which a person is told, in milliseconds.
const SKEW_MS: i64 = 30_000;
/// Tolerance of the estimate in milliseconds: clocks drift, and the network's delay is not measured exactly.
const TOLERANCE_MS: i64 = 50;

/// Offset of the server's clock from a local clock that only goes forwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    ahead_ms: Option<i64>,
}

impl Clock {
    /// Clock before the first answer.
    pub const NEW: Self = Self { ahead_ms: None };

    /// Updates the estimate from an answer that says `server_ms`. It was requested at `asked` and came at `came`, by
    /// the local clock. The server wrote its time somewhere between the two, so an estimate within them is kept, and
    /// times on the page do not change with the network's delay. True when the estimate has changed.
    pub fn hear(&mut self, server_ms: i64, asked: i64, came: i64) -> bool {
        let half = came.saturating_sub(asked).max(0) / 2;
        let ahead = server_ms.saturating_sub(asked.saturating_add(half));
        let fits = |known: i64| known.saturating_sub(ahead).saturating_abs() <= half.saturating_add(TOLERANCE_MS);
        if self.ahead_ms.is_some_and(fits) {
            return false;
        }
        self.ahead_ms = Some(ahead);
        true
    }

    /// Server time at the local time `local`; `None` before the first answer.
    pub fn at(&self, local: i64) -> Option<i64> {
        self.ahead_ms.map(|ahead| local.saturating_add(ahead))
    }
}

/// Milliseconds by which `browser_ms` is ahead of `server_ms`; negative when it is behind, `None` when the difference
/// is too small to matter.
pub fn skew(browser_ms: i64, server_ms: i64) -> Option<i64> {
    let skew = browser_ms.saturating_sub(server_ms);
    (skew.saturating_abs() > SKEW_MS).then_some(skew)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_time_is_the_servers() {
        let mut clock = Clock::default();
        assert_eq!(clock.at(5), None);
        assert!(clock.hear(1_000_000, 100, 140));
        assert_eq!(clock.at(120), Some(1_000_000));
        assert_eq!(clock.at(1_120), Some(1_001_000));
    }

    #[test]
    fn a_slow_answer_moves_nothing_and_a_jump_is_followed() {
        let mut clock = Clock::default();
        clock.hear(1_000_000, 0, 10);
        let before = clock;
        assert!(!clock.hear(1_001_000, 1_000, 4_000), "anywhere between is possible");
        assert_eq!(clock, before);
        assert!(clock.hear(8_200_000, 5_000, 5_020), "the server's clock was set, or this machine slept");
        assert_eq!(clock.at(5_010), Some(8_200_000));
    }

    #[test]
    fn only_a_difference_that_matters_is_told() {
        assert_eq!(skew(1_000_000, 1_030_000), None);
        assert_eq!(skew(1_000_000, 8_200_000), Some(-7_200_000));
        assert_eq!(skew(8_200_000, 1_000_000), Some(7_200_000));
    }

    proptest! {
        #[test]
        fn the_error_is_never_more_than_an_answer_took(
            ahead in -10_000_000_000_i64..10_000_000_000, ways in proptest::collection::vec((0_i64..4_000, 0_i64..4_000), 1..20),
        ) {
            let mut clock = Clock::default();
            for (n, (there, back)) in ways.into_iter().enumerate() {
                let asked = n as i64 * 10_000;
                clock.hear(asked + there + ahead, asked, asked + there + back);
                let error = clock.at(asked).unwrap() - (asked + ahead);
                prop_assert!(error.abs() <= there + back + 2 * TOLERANCE_MS, "{error}");
            }
        }

        #[test]
        fn no_number_is_too_large(server in any::<i64>(), asked in any::<i64>(), came in any::<i64>()) {
            let mut clock = Clock::default();
            clock.hear(server, asked, came);
            clock.hear(asked, came, server);
            clock.at(server);
            skew(server, asked);
        }
    }
}
