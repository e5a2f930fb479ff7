//! The database's time, known without asking: a base that was read from it, and the monotonic clock since.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicI64, Ordering},
    },
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use uuid::{ContextV7, Timestamp, Uuid};

pub(super) struct Clock {
    start: Instant,
    /// The database's milliseconds at `start`.
    base_ms: AtomicI64,
    context: Mutex<ContextV7>,
}

impl Clock {
    /// `now_ms` is the database's time now.
    pub(super) fn new(now_ms: i64) -> Self {
        Self { start: Instant::now(), base_ms: AtomicI64::new(now_ms), context: Mutex::new(ContextV7::new()) }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.base_ms.load(Ordering::Relaxed) + self.elapsed_ms()
    }

    /// The database said `now_ms` between `asked` and now.
    pub(super) fn set(&self, now_ms: i64, asked: Instant) {
        let halfway = (asked.elapsed() / 2).as_millis() as i64;
        self.base_ms.store(now_ms + halfway - self.elapsed_ms(), Ordering::Relaxed);
    }

    /// `count` new ids of this moment, ascending, also after those made before.
    pub(super) fn ids(&self, count: usize) -> Vec<Uuid> {
        let ms = self.now_ms().max(0) as u64;
        let context = self.context.lock().unwrap_or_else(PoisonError::into_inner);
        (0..count)
            .map(|_| Uuid::new_v7(Timestamp::from_unix(&*context, ms / 1_000, (ms % 1_000 * 1_000_000) as u32)))
            .collect()
    }

    fn elapsed_ms(&self) -> i64 {
        self.start.elapsed().as_millis() as i64
    }
}

/// This machine's wall clock.
pub(super) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::lease::created_at_ms;

    use super::*;

    #[test]
    fn ids_ascend_and_carry_the_time() {
        let clock = Clock::new(1_700_000_000_000);
        let ids = [clock.ids(500), clock.ids(500)].concat();
        assert!(ids.is_sorted_by(|a, b| a < b));
        assert!((0..10_000).contains(&(created_at_ms(ids[999]) - 1_700_000_000_000)));
    }

    #[test]
    fn it_follows_the_database() {
        let clock = Clock::new(0);
        clock.set(5_000_000, Instant::now());
        assert!((5_000_000..5_010_000).contains(&clock.now_ms()));
    }
}
