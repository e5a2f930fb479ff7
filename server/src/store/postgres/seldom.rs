//! A look that walks what is dead, and so takes longer and longer while somebody holds an old snapshot.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Who looks once a second, and is no longer at it than this, looks each time.
const SHORT: Duration = Duration::from_millis(100);
/// Longer looks take at most a twentieth of the time.
const SHARE: u32 = 20;

/// When somebody looked last, and how long that took.
#[derive(Default)]
pub(super) struct Seldom(Mutex<Option<(Instant, Duration)>>);

impl Seldom {
    pub(super) fn is_due(&self) -> bool {
        let last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_none_or(|(at, took)| took <= SHORT || at.elapsed() >= took * SHARE)
    }

    /// A look, begun at `began`, has ended. Where it found something it is worth the next one.
    pub(super) fn looked(&self, began: Instant, found: bool) {
        let took = if found { Duration::ZERO } else { began.elapsed() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), took));
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
        let seldom = Seldom::default();
        assert!(seldom.is_due());
        seldom.looked(Instant::now(), false);
        assert!(seldom.is_due());
        seldom.looked(ago(10_000), true);
        assert!(seldom.is_due());
        seldom.looked(ago(10_000), false);
        assert!(!seldom.is_due());
        *seldom.0.lock().unwrap() = Some((ago(2_100), Duration::from_millis(101)));
        assert!(seldom.is_due());
    }
}
