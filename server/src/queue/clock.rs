//! The database's time without asking for it: this machine's, moved by the difference last measured.

use std::{
    sync::atomic::{AtomicI64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

/// Good for estimates (how long until a job is due, how old it is). What must be exact the store decides.
#[derive(Debug, Default)]
pub struct Clock {
    ahead_ms: AtomicI64,
}

impl Clock {
    /// Milliseconds since 1970.
    pub fn now_ms(&self) -> i64 {
        local_ms() + self.ahead_ms.load(Ordering::Relaxed)
    }

    /// The database said that it is `database_ms` now. Answers by how much it is ahead of this machine.
    pub fn set(&self, database_ms: i64) -> i64 {
        let ahead_ms = database_ms - local_ms();
        self.ahead_ms.store(ahead_ms, Ordering::Relaxed);
        ahead_ms
    }
}

fn local_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |it| it.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_follows_the_database() {
        let clock = Clock::default();
        let hour = 3_600_000;
        clock.set(local_ms() + hour);
        assert!((clock.now_ms() - local_ms() - hour).abs() < 1_000);
    }
}
