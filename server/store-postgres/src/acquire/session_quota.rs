//! Session quotas: an upper bound of the number of jobs that each session holds, so that an acquire rarely has to
//! count.
//!
//! A session may hold `limits::JOBS_PER_SESSION` jobs. Counting them walks every claim of the session and, while an old
//! snapshot is held, all claims that are long gone. The bound is the last count plus all jobs taken since; settled jobs
//! are not subtracted. Only when the bound reaches the limit are the jobs counted again.

use std::collections::HashMap;

use jobqueue_shared::limits;
use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

/// Maximum number of sessions remembered. Beyond it all are forgotten, which costs one count for each session.
const SESSIONS: usize = 10_000;

/// Bounds of all sessions that acquire at this server.
#[derive(Default)]
pub(crate) struct SessionQuotas(Mutex<HashMap<Uuid, SessionQuota>>);

#[derive(Default)]
struct SessionQuota {
    /// Upper bound of the jobs held; `None` before the first count.
    held: Option<i64>,
    /// Jobs that acquires under way ask for.
    reserved: i64,
    /// Jobs taken since the session is remembered.
    taken: i64,
}

/// The share of the quota that an acquire under way asks for. Dropping it releases the share.
pub(crate) struct Reservation<'a> {
    all: &'a SessionQuotas,
    session_id: Uuid,
    most: i64,
    /// [`SessionQuota::taken`] when the acquire began.
    taken: i64,
    /// Upper bound of the jobs held before this acquire. `None`: with the jobs asked for the bound would exceed the
    /// limit, so that the acquire has to count.
    pub holds: Option<i64>,
    /// Jobs that other acquires under way ask for, which a count does not see.
    pub others: i64,
}

impl SessionQuotas {
    pub(crate) fn reserve(&self, session_id: Uuid, most: u32) -> Reservation<'_> {
        let most = i64::from(most);
        let mut sessions = self.sessions();
        if sessions.len() >= SESSIONS && !sessions.contains_key(&session_id) {
            sessions.clear();
        }
        let session = sessions.entry(session_id).or_default();
        let (others, taken) = (session.reserved, session.taken);
        session.reserved += most;
        let holds = session.held.filter(|held| held + others + most <= i64::from(limits::JOBS_PER_SESSION));
        Reservation { all: self, session_id, most, taken, holds, others }
    }

    fn sessions(&self) -> MutexGuard<'_, HashMap<Uuid, SessionQuota>> {
        self.0.lock()
    }
}

impl Reservation<'_> {
    /// Records that the acquire takes `jobs`, and the number `counted` before, if it counted. Jobs of acquires that
    /// were under way when the count began, or have begun since, are added: the count may not have seen them.
    pub(crate) fn record(&self, counted: Option<i64>, jobs: usize) {
        let mut sessions = self.all.sessions();
        // A session that was forgotten meanwhile is counted at its next acquire.
        let Some(session) = sessions.get_mut(&self.session_id) else { return };
        session.taken += jobs as i64;
        session.held = match counted {
            Some(counted) => Some(counted + self.others + session.taken - self.taken),
            None => session.held.map(|held| held + jobs as i64),
        };
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.all.sessions().get_mut(&self.session_id) {
            session.reserved = (session.reserved - self.most).max(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_counted_before_it_could_hold_too_many() {
        let quotas = SessionQuotas::default();
        let id = Uuid::from_u128(1);
        let holds = |most| quotas.reserve(id, most).holds;
        assert_eq!(holds(1), None, "what it held before is not known");
        quotas.reserve(id, 5).record(Some(3), 5);
        assert_eq!(holds(1), Some(8));
        assert_eq!(holds(limits::JOBS_PER_SESSION - 8), Some(8));
        assert_eq!(holds(limits::JOBS_PER_SESSION - 7), None);
        quotas.reserve(id, 5).record(None, 2);
        assert_eq!(holds(1), Some(10));
        quotas.reserve(id, 5).record(Some(0), 1);
        assert_eq!(holds(1), Some(1), "what was settled meanwhile is seen by counting");
    }

    #[test]
    fn what_others_ask_for_at_the_same_time_counts() {
        let quotas = SessionQuotas::default();
        let id = Uuid::from_u128(1);
        quotas.reserve(id, 1).record(Some(0), 0);
        let first = quotas.reserve(id, limits::JOBS_PER_SESSION - 10);
        assert_eq!((first.holds, first.others), (Some(0), 0));
        let second = quotas.reserve(id, 11);
        assert_eq!((second.holds, second.others), (None, i64::from(limits::JOBS_PER_SESSION) - 10));
        drop(first);
        assert_eq!(quotas.reserve(id, 11).others, 11);
        drop(second);
        assert_eq!(quotas.reserve(id, 11).others, 0);
    }

    #[test]
    fn what_counting_did_not_see_is_not_forgotten() {
        let quotas = SessionQuotas::default();
        let id = Uuid::from_u128(1);
        quotas.reserve(id, 1).record(Some(100), 0);
        let before = quotas.reserve(id, 30);
        let counting = quotas.reserve(id, 40);
        let after = quotas.reserve(id, 50);
        before.record(None, 30);
        after.record(None, 50);
        // The count saw neither of the other acquires' jobs.
        counting.record(Some(100), 40);
        drop((before, counting, after));
        assert!(quotas.reserve(id, 1).holds.unwrap() >= 100 + 30 + 40 + 50);
    }

    #[test]
    fn remembered_sessions_stay_bounded() {
        let quotas = SessionQuotas::default();
        for n in 0..2 * SESSIONS as u128 {
            quotas.reserve(Uuid::from_u128(n), 1).record(Some(0), 1);
        }
        assert!(quotas.sessions().len() <= SESSIONS);
    }
}
