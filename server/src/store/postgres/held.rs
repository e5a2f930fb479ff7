//! How many jobs a session holds at most, as far as this server knows: those that were counted last, and all that it
//! took since. Counting walks every claim of the session, and behind an old snapshot all that are long gone.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jobqueue_shared::limits;
use uuid::Uuid;

/// Forgetting all costs a count each.
const SESSIONS: usize = 10_000;

#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<Uuid, i64>>);

impl Held {
    /// `None`: so many more may be too many, and what it holds has to be counted.
    pub(super) fn at_most(&self, session_id: Uuid, more: u32) -> Option<i64> {
        let held = self.sessions().get(&session_id).copied()?;
        (held + i64::from(more) <= i64::from(limits::JOBS_PER_SESSION)).then_some(held)
    }

    /// It takes `jobs` beside those that were `counted` now.
    pub(super) fn took(&self, session_id: Uuid, counted: Option<i64>, jobs: usize) {
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS && !sessions.contains_key(&session_id) {
            sessions.clear();
        }
        if let Some(counted) = counted {
            sessions.insert(session_id, counted);
        }
        // One that is not known is counted the next time.
        if let Some(held) = sessions.get_mut(&session_id) {
            *held += jobs as i64;
        }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Uuid, i64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_counted_before_it_could_hold_too_many() {
        let held = Held::default();
        let id = Uuid::from_u128(1);
        assert_eq!(held.at_most(id, 1), None);
        held.took(id, None, 5);
        assert_eq!(held.at_most(id, 1), None, "what it held before is not known");
        held.took(id, Some(3), 5);
        assert_eq!(held.at_most(id, 1), Some(8));
        assert_eq!(held.at_most(id, limits::JOBS_PER_SESSION - 8), Some(8));
        assert_eq!(held.at_most(id, limits::JOBS_PER_SESSION - 7), None);
        held.took(id, Some(0), 1);
        assert_eq!(held.at_most(id, 1), Some(1), "what was settled meanwhile is seen by counting");
        for n in 0..2 * SESSIONS as u128 {
            held.took(Uuid::from_u128(n), Some(0), 1);
        }
        assert!(held.sessions().len() <= SESSIONS);
    }
}
