//! Present meaning of a person's decision about an error group.
//!
//! A group's row keeps the decision and the number of failed attempts at that time. What follows from attempts and time
//! is computed at each read, so that no statement is needed when a resolved group fails again or a time passes.

use crate::types::{ErrorGroupState, NewErrorGroupState};

/// A person's decision about a group, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    pub state: i16,
    /// Number of failed attempts of the group when it was made.
    pub state_attempts: i64,
    pub ignore_until: Option<i64>,
    /// Number of failed attempts after `state_attempts` at which the group becomes open.
    pub ignore_attempts: Option<i64>,
}

impl Decision {
    /// The row of a person's decision that is made when `attempts` have failed.
    pub fn of(state: NewErrorGroupState, attempts: i64) -> Self {
        let (state, ignore_until, ignore_attempts) = match state {
            NewErrorGroupState::Open => (ErrorGroupState::Open, None, None),
            NewErrorGroupState::Resolved => (ErrorGroupState::Resolved, None, None),
            NewErrorGroupState::Ignored { until_ms, attempts } => {
                (ErrorGroupState::Ignored, until_ms, attempts.map(|it| it as i64))
            }
        };
        Self { state: state.into(), state_attempts: attempts, ignore_until, ignore_attempts }
    }

    /// State of the group now that `attempts` have failed.
    pub fn state(&self, attempts: i64, now_ms: i64) -> ErrorGroupState {
        let since = attempts - self.state_attempts;
        match ErrorGroupState::try_from(self.state) {
            Ok(ErrorGroupState::Resolved) if since > 0 => ErrorGroupState::Regressed,
            Ok(ErrorGroupState::Ignored)
                if self.ignore_until.is_some_and(|until| until <= now_ms)
                    || self.ignore_attempts.is_some_and(|more| since >= more) =>
            {
                ErrorGroupState::Open
            }
            Ok(state) => state,
            // A newer server may have stored a state that this one does not know.
            Err(_) => ErrorGroupState::Open,
        }
    }

    /// Number of attempts that have to fail until an ignored group becomes open.
    pub fn attempts_left(&self, attempts: i64) -> Option<u64> {
        self.ignore_attempts.map(|more| (self.state_attempts + more - attempts).max(0) as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ignored(until_ms: Option<i64>, attempts: Option<u64>) -> Decision {
        Decision::of(NewErrorGroupState::Ignored { until_ms, attempts }, 10)
    }

    #[test]
    fn a_resolved_group_that_fails_again_is_regressed() {
        let resolved = Decision::of(NewErrorGroupState::Resolved, 10);
        assert_eq!(resolved.state(10, 0), ErrorGroupState::Resolved);
        assert_eq!(resolved.state(11, 0), ErrorGroupState::Regressed);
        let again = Decision::of(NewErrorGroupState::Resolved, 11);
        assert_eq!(again.state(11, 0), ErrorGroupState::Resolved);
    }

    #[test]
    fn an_ignored_group_becomes_open_at_its_time_or_count() {
        assert_eq!(ignored(None, None).state(1_000_000, i64::MAX), ErrorGroupState::Ignored);
        assert_eq!(ignored(Some(5), None).state(99, 4), ErrorGroupState::Ignored);
        assert_eq!(ignored(Some(5), None).state(99, 5), ErrorGroupState::Open);
        assert_eq!(ignored(None, Some(3)).state(12, 9), ErrorGroupState::Ignored);
        assert_eq!(ignored(None, Some(3)).state(13, 9), ErrorGroupState::Open);
        assert_eq!(ignored(Some(5), Some(3)).state(13, 4), ErrorGroupState::Open, "the count came first");
        assert_eq!(ignored(None, Some(3)).attempts_left(11), Some(2));
    }
}
