//! Estimate of the database's time: this machine's time plus the difference measured last.

use std::sync::atomic::{AtomicI64, Ordering};

use jobqueue_store::clock::wall_ms;

/// Clock for estimates, such as how old a job is or how long until it is due. The store decides what must be exact.
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
