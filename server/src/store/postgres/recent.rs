//! Connections that were used just now, before they go back to the pool. The last one used is the next to be used: of
//! it PostgreSQL and the processor still have everything at hand, where the pool would take its turns. And it is not
//! tested in between, which costs a message and its answer.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// As long as this one is kept from the pool, which closes what is old or has been idle for long.
const KEPT: Duration = Duration::from_mins(1);

/// The last one used is the last.
#[derive(Debug)]
pub(super) struct Recent<C>(Mutex<Vec<Used<C>>>);

#[derive(Debug)]
struct Used<C> {
    lent: Lent<C>,
    at: Instant,
}

/// A connection, and when it came from the pool.
#[derive(Debug)]
pub(super) struct Lent<C> {
    pub connection: C,
    since: Instant,
}

impl<C> From<C> for Lent<C> {
    fn from(connection: C) -> Self {
        Self { connection, since: Instant::now() }
    }
}

impl<C> Default for Recent<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> Recent<C> {
    fn all(&self) -> MutexGuard<'_, Vec<Used<C>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The last one used, and those that are to go back to the pool: they have been idle for too long to be trusted.
    pub(super) fn take(&self, trusted: impl Fn(Duration) -> bool) -> (Option<Lent<C>>, Vec<C>) {
        let mut all = self.all();
        let first = all.iter().position(|used| trusted(used.at.elapsed())).unwrap_or(all.len());
        let stale = all.drain(..first).map(|used| used.lent.connection).collect();
        (all.pop().map(|used| used.lent), stale)
    }

    /// Gives it back where it is to go to the pool now.
    pub(super) fn keep(&self, lent: Lent<C>, closed: impl Fn() -> bool) -> Option<C> {
        let mut all = self.all();
        if closed() || lent.since.elapsed() >= KEPT {
            return Some(lent.connection);
        }
        all.push(Used { lent, at: Instant::now() });
        None
    }

    pub(super) fn take_all(&self) -> Vec<C> {
        self.all().drain(..).map(|used| used.lent.connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: fn(Duration) -> bool = |_| true;

    fn taken(recent: &Recent<u8>, trusted: impl Fn(Duration) -> bool) -> (Option<u8>, Vec<u8>) {
        let (lent, stale) = recent.take(trusted);
        (lent.map(|lent| lent.connection), stale)
    }

    #[test]
    fn the_last_one_used_is_the_next() {
        let recent = Recent::<u8>::default();
        assert_eq!(taken(&recent, ALWAYS), (None, vec![]));
        for number in [1, 2, 3] {
            assert_eq!(recent.keep(Lent::from(number), || false), None);
        }
        let (lent, _) = recent.take(ALWAYS);
        assert_eq!(lent.as_ref().map(|lent| lent.connection), Some(3));
        recent.keep(lent.unwrap(), || false);
        assert_eq!(taken(&recent, ALWAYS), (Some(3), vec![]));
        assert_eq!(recent.take_all(), [1, 2]);
        assert_eq!(taken(&recent, ALWAYS), (None, vec![]));
    }

    #[test]
    fn what_was_idle_for_long_goes_back_to_the_pool() {
        let recent = Recent::<u8>::default();
        for (number, idle) in [(1, 20), (2, 10), (3, 1)] {
            let at = Instant::now().checked_sub(Duration::from_secs(idle)).unwrap();
            recent.all().push(Used { lent: Lent::from(number), at });
        }
        assert_eq!(taken(&recent, |idle| idle < Duration::from_secs(5)), (Some(3), vec![1, 2]));
        recent.keep(Lent::from(4), || false);
        assert_eq!(taken(&recent, |_| false), (None, vec![4]));
    }

    #[test]
    fn what_is_lent_for_long_and_all_of_a_closed_pool_goes_back() {
        let recent = Recent::<u8>::default();
        let since = Instant::now().checked_sub(KEPT).unwrap();
        assert_eq!(recent.keep(Lent { connection: 1, since }, || false), Some(1));
        assert_eq!(recent.keep(Lent::from(2), || true), Some(2));
        assert!(recent.take_all().is_empty());
    }
}
