//! LIFO stack of idle connections in front of sqlx's pool.
//!
//! The connection that was used last is used next: its server process and the caches are still warm, where sqlx's pool
//! would take its connections in turn. And it is not tested before use, which would cost a round trip.

use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// Time after which a connection goes back to sqlx's pool, which closes connections that are old or idle for long.
const MAX_AGE: Duration = Duration::from_mins(1);

/// Idle connections, the one used last at the end.
#[derive(Debug)]
pub(crate) struct LifoPool<C>(Mutex<Vec<Idle<C>>>);

#[derive(Debug)]
struct Idle<C> {
    borrowed: Borrowed<C>,
    used_at: Instant,
}

/// A connection, and when it was taken from sqlx's pool.
#[derive(Debug)]
pub(crate) struct Borrowed<C> {
    pub connection: C,
    borrowed_at: Instant,
}

impl<C> From<C> for Borrowed<C> {
    fn from(connection: C) -> Self {
        Self { connection, borrowed_at: Instant::now() }
    }
}

impl<C> Default for LifoPool<C> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<C> LifoPool<C> {
    fn all(&self) -> MutexGuard<'_, Vec<Idle<C>>> {
        self.0.lock()
    }

    /// Takes the connection used last, if one is trusted, and all that have been idle for too long: these go back to
    /// sqlx's pool, which tests them.
    pub(crate) fn take(&self, trusted: impl Fn(Duration) -> bool) -> (Option<Borrowed<C>>, Vec<C>) {
        let mut all = self.all();
        let first = all.iter().position(|used| trusted(used.used_at.elapsed())).unwrap_or(all.len());
        let stale = all.drain(..first).map(|used| used.borrowed.connection).collect();
        (all.pop().map(|used| used.borrowed), stale)
    }

    /// Keeps a connection; returns it if it has to go to sqlx's pool, because of its age or because the pool is closed.
    pub(crate) fn keep(&self, borrowed: Borrowed<C>, closed: impl Fn() -> bool) -> Option<C> {
        let mut all = self.all();
        if closed() || borrowed.borrowed_at.elapsed() >= MAX_AGE {
            return Some(borrowed.connection);
        }
        all.push(Idle { borrowed, used_at: Instant::now() });
        None
    }

    pub(crate) fn take_all(&self) -> Vec<C> {
        self.all().drain(..).map(|used| used.borrowed.connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALWAYS: fn(Duration) -> bool = |_| true;

    fn taken(lifo: &LifoPool<u8>, trusted: impl Fn(Duration) -> bool) -> (Option<u8>, Vec<u8>) {
        let (borrowed, stale) = lifo.take(trusted);
        (borrowed.map(|borrowed| borrowed.connection), stale)
    }

    #[test]
    fn the_last_one_used_is_the_next() {
        let lifo = LifoPool::<u8>::default();
        assert_eq!(taken(&lifo, ALWAYS), (None, vec![]));
        for number in [1, 2, 3] {
            assert_eq!(lifo.keep(Borrowed::from(number), || false), None);
        }
        let (borrowed, _) = lifo.take(ALWAYS);
        assert_eq!(borrowed.as_ref().map(|borrowed| borrowed.connection), Some(3));
        lifo.keep(borrowed.unwrap(), || false);
        assert_eq!(taken(&lifo, ALWAYS), (Some(3), vec![]));
        assert_eq!(lifo.take_all(), [1, 2]);
        assert_eq!(taken(&lifo, ALWAYS), (None, vec![]));
    }

    #[test]
    fn what_was_idle_for_long_goes_back_to_the_pool() {
        let lifo = LifoPool::<u8>::default();
        for (number, idle) in [(1, 20), (2, 10), (3, 1)] {
            let used_at = Instant::now().checked_sub(Duration::from_secs(idle)).unwrap();
            lifo.all().push(Idle { borrowed: Borrowed::from(number), used_at });
        }
        assert_eq!(taken(&lifo, |idle| idle < Duration::from_secs(5)), (Some(3), vec![1, 2]));
        lifo.keep(Borrowed::from(4), || false);
        assert_eq!(taken(&lifo, |_| false), (None, vec![4]));
    }

    #[test]
    fn what_is_lent_for_long_and_all_of_a_closed_pool_goes_back() {
        let lifo = LifoPool::<u8>::default();
        let borrowed_at = Instant::now().checked_sub(MAX_AGE).unwrap();
        assert_eq!(lifo.keep(Borrowed { connection: 1, borrowed_at }, || false), Some(1));
        assert_eq!(lifo.keep(Borrowed::from(2), || true), Some(2));
        assert!(lifo.take_all().is_empty());
    }
}
