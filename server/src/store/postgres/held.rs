//! How many jobs a session holds at most, as far as this server knows: those that were counted last, all that it took
//! since, and what is being taken. Counting walks every claim of the session, and behind an old snapshot all that are
//! long gone.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jobqueue_shared::limits;
use uuid::Uuid;

/// Forgetting all costs a count each.
const SESSIONS: usize = 10_000;

#[derive(Default)]
pub(super) struct Held(Mutex<HashMap<Uuid, Session>>);

#[derive(Default)]
struct Session {
    /// `None`: it was never counted.
    held: Option<i64>,
    under_way: i64,
    /// Taken since it is known.
    taken: i64,
}

/// An acquire under way.
pub(super) struct Taking<'a> {
    all: &'a Held,
    session_id: Uuid,
    most: i64,
    /// Taken by all when it began.
    taken: i64,
    /// Before it. `None`: so many more may be too many, and what the session holds has to be counted.
    pub holds: Option<i64>,
    /// Asked for by others under way, whom counting does not see.
    pub others: i64,
}

impl Held {
    pub(super) fn take(&self, session_id: Uuid, most: u32) -> Taking<'_> {
        let most = i64::from(most);
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS && !sessions.contains_key(&session_id) {
            sessions.clear();
        }
        let session = sessions.entry(session_id).or_default();
        let (others, taken) = (session.under_way, session.taken);
        session.under_way += most;
        let holds = session.held.filter(|held| held + others + most <= i64::from(limits::JOBS_PER_SESSION));
        Taking { all: self, session_id, most, taken, holds, others }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Uuid, Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taking<'_> {
    /// It takes `jobs` beside those that were `counted` now. Those whom counting may not have seen come on top: they were
    /// under way when it began, or have begun since.
    pub(super) fn took(&self, counted: Option<i64>, jobs: usize) {
        let mut sessions = self.all.sessions();
        // One that was forgotten meanwhile is counted the next time.
        let Some(session) = sessions.get_mut(&self.session_id) else { return };
        session.taken += jobs as i64;
        session.held = match counted {
            Some(counted) => Some(counted + self.others + session.taken - self.taken),
            None => session.held.map(|held| held + jobs as i64),
        };
    }
}

impl Drop for Taking<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.all.sessions().get_mut(&self.session_id) {
            session.under_way = (session.under_way - self.most).max(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_counted_before_it_could_hold_too_many() {
        let held = Held::default();
        let id = Uuid::from_u128(1);
        let holds = |most| held.take(id, most).holds;
        assert_eq!(holds(1), None, "what it held before is not known");
        held.take(id, 5).took(Some(3), 5);
        assert_eq!(holds(1), Some(8));
        assert_eq!(holds(limits::JOBS_PER_SESSION - 8), Some(8));
        assert_eq!(holds(limits::JOBS_PER_SESSION - 7), None);
        held.take(id, 5).took(None, 2);
        assert_eq!(holds(1), Some(10));
        held.take(id, 5).took(Some(0), 1);
        assert_eq!(holds(1), Some(1), "what was settled meanwhile is seen by counting");
    }

    #[test]
    fn what_others_ask_for_at_the_same_time_counts() {
        let held = Held::default();
        let id = Uuid::from_u128(1);
        held.take(id, 1).took(Some(0), 0);
        let first = held.take(id, limits::JOBS_PER_SESSION - 10);
        assert_eq!((first.holds, first.others), (Some(0), 0));
        let second = held.take(id, 11);
        assert_eq!((second.holds, second.others), (None, i64::from(limits::JOBS_PER_SESSION) - 10));
        drop(first);
        assert_eq!(held.take(id, 11).others, 11);
        drop(second);
        assert_eq!(held.take(id, 11).others, 0);
    }

    #[test]
    fn what_counting_did_not_see_is_not_forgotten() {
        let held = Held::default();
        let id = Uuid::from_u128(1);
        held.take(id, 1).took(Some(100), 0);
        let before = held.take(id, 30);
        let counting = held.take(id, 40);
        let after = held.take(id, 50);
        before.took(None, 30);
        after.took(None, 50);
        // It saw neither.
        counting.took(Some(100), 40);
        drop((before, counting, after));
        assert!(held.take(id, 1).holds.unwrap() >= 100 + 30 + 40 + 50);
    }

    #[test]
    fn remembered_sessions_stay_bounded() {
        let held = Held::default();
        for n in 0..2 * SESSIONS as u128 {
            held.take(Uuid::from_u128(n), 1).took(Some(0), 1);
        }
        assert!(held.sessions().len() <= SESSIONS);
    }
}
