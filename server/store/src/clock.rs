//! Driver clock: the time by which a driver makes job ids and writes rows where it does not ask the database. It is the
//! database's time at one moment plus the monotonic time since, so that a jump of this machine's wall clock does not
//! move it.
//!
//! The server has another clock, `DisplayClock`, for what it only shows or estimates; that one follows the wall clock.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use uuid::{ContextV7, Timestamp, Uuid};

/// Difference between two clocks, in milliseconds, up to which they count as equal.
const SKEW_MS: i64 = 60_000;

/// Clock that follows the database's, and the generator of job ids.
pub struct Clock {
    start: Instant,
    /// The database's time at `start`, in milliseconds.
    base_ms: AtomicI64,
    context: Mutex<ContextV7>,
}

impl Clock {
    /// Makes a clock; `now_ms` is the database's time now.
    pub fn new(now_ms: i64) -> Self {
        Self { start: Instant::now(), base_ms: AtomicI64::new(now_ms), context: Mutex::new(ContextV7::new()) }
    }

    pub fn now_ms(&self) -> i64 {
        self.base_ms.load(Ordering::Relaxed) + self.elapsed_ms()
    }

    /// Adjusts the clock to an answer of the database. The answer took a while to arrive, so the clock is never ahead
    /// of the database; otherwise a job would have to wait for its own submission time. Of several answers the quickest
    /// counts.
    pub fn set(&self, now_ms: i64) {
        let known = self.base_ms.load(Ordering::Relaxed);
        let heard = now_ms - self.elapsed_ms();
        // Drift is followed by a millisecond an answer; a database's clock that was set back is followed at once.
        let base = if heard < known - 1_000 { heard } else { heard.max(known - 1) };
        self.base_ms.store(base, Ordering::Relaxed);
    }

    /// Moves the clock ahead; for SQLite, whose time is this machine's.
    pub fn advance(&self, ms: i64) {
        self.base_ms.fetch_add(ms, Ordering::Relaxed);
    }

    /// Time for decisions that cannot be undone, such as pruning: this machine's wall clock if the database's time is
    /// more than a minute ahead of it, because one of them is wrong.
    pub fn no_later_than(&self, wall_ms: i64) -> i64 {
        let now = self.now_ms();
        if now - wall_ms > SKEW_MS { wall_ms } else { now }
    }

    /// Makes `count` new ids with the current time. They ascend, also over earlier calls.
    pub fn ids(&self, count: usize) -> Vec<Uuid> {
        let ms = self.now_ms().max(0) as u64;
        let context = self.context.lock();
        (0..count)
            .map(|_| Uuid::new_v7(Timestamp::from_unix(&*context, ms / 1_000, (ms % 1_000 * 1_000_000) as u32)))
            .collect()
    }

    fn elapsed_ms(&self) -> i64 {
        self.start.elapsed().as_millis() as i64
    }
}

/// This machine's wall clock, in milliseconds since 1970.
pub fn wall_ms() -> i64 {
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
    fn what_cannot_be_undone_is_judged_by_the_earlier_of_two_clocks() {
        let clock = Clock::new(5_000_000);
        assert_eq!(clock.no_later_than(1_000_000), 1_000_000);
        assert!((5_000_000..5_010_000).contains(&clock.no_later_than(9_000_000)));
        // A difference of ten seconds is tolerated.
        assert!((5_000_000..5_010_000).contains(&clock.no_later_than(4_990_000)));
        clock.advance(3_600_000);
        assert!((8_600_000..8_610_000).contains(&clock.now_ms()));
    }

    #[test]
    fn it_follows_the_database() {
        let clock = Clock::new(0);
        clock.set(5_000_000);
        assert!((5_000_000..5_010_000).contains(&clock.now_ms()));
        clock.set(4_999_950);
        assert!(clock.now_ms() >= 4_999_999, "a slow answer is no news");
        clock.set(1_000_000);
        assert!((1_000_000..1_010_000).contains(&clock.now_ms()), "a clock that was set back is");
    }
}
