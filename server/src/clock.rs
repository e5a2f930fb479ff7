//! Display clock: the server's estimate of the database's time, for what it shows, checks and waits for, where a second
//! more or less does no harm. It is this machine's wall clock plus the difference that the last health check measured.
//!
//! Times that are stored come from the driver's own [`Clock`](jobqueue_store::clock::Clock) or from the database.

use std::sync::atomic::{AtomicI64, Ordering};

use jobqueue_store::clock::wall_ms;

/// Wall clock, corrected to the database's time, for estimates such as how long it is until a job is due. The store
/// decides what must be exact.
#[derive(Debug, Default)]
pub struct DisplayClock {
    ahead_ms: AtomicI64,
}

impl DisplayClock {
    /// Estimate of the database's time, in milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        wall_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }

    /// Sets the clock: the database's time is now `database_ms`. Returns by how many milliseconds it is ahead of this
    /// machine's.
    pub fn set(&self, database_ms: i64) -> i64 {
        let ahead_ms = database_ms - wall_ms();
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
        ahead_ms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_database() {
        let clock = DisplayClock::default();
        let hour = 3_600_000;
        clock.set(wall_ms() + hour);
        assert!((clock.now_ms() - wall_ms() - hour).abs() < 1_000);
    }
}
