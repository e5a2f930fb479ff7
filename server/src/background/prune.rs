//! Deletes rows that are older than their retention: days of jobs as whole partitions, the rest in small batches;
//! and has PostgreSQL's daily partitions made ahead of time.
//!
//! Ages are computed from clocks, and a deletion cannot be undone. After a jump of the clock, while the server ran or
//! was stopped, nothing is deleted for a while, so that an operator can correct the clock. The database stores the last
//! plausible time, so that a restart does not shorten the wait.

use std::time::Duration;

use jobqueue_store::{PruningTime, Retention, Store, StoreResult};
use metrics::counter;
use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

/// Maximum number of rows of each kind in one transaction.
const LIMIT: u32 = 1_000;
/// Pause between batches, so that other writes get their turn.
const PAUSE: Duration = Duration::from_millis(20);
/// Difference between two turns, in milliseconds, up to which the clock counts as right. Turns are a minute apart; a
/// server that was stopped for a night is no jump of the clock that could delete jobs that are kept for days.
const PLAUSIBLE_MS: i64 = 12 * 3_600_000;
/// Time after a jump of the clock in which nothing is pruned.
pub const HOLD: Duration = Duration::from_hours(1);

/// Pruner of one server.
pub struct Pruner {
    hold: Duration,
    /// Time at which the jump of the clock was noticed.
    doubted: Mutex<Option<Instant>>,
}

impl Pruner {
    /// Makes a pruner that waits for `hold` after a jump of the clock; see [`HOLD`].
    pub fn new(hold: Duration) -> Self {
        Self { hold, doubted: Mutex::default() }
    }

    pub async fn run_once(&self, store: &dyn Store, retention: &Retention) -> StoreResult<()> {
        let time = store.pruning_time().await?;
        if !self.is_right(time) {
            return Ok(());
        }
        store.confirm_time(time.now_ms).await?;
        prune(store, retention).await
    }

    /// Whether the clock may be trusted. A clock that was set back is: rows only seem younger.
    fn is_right(&self, time: PruningTime) -> bool {
        let mut doubted = self.doubted.lock();
        let ahead_ms = time.now_ms - time.confirmed_ms;
        if ahead_ms <= PLAUSIBLE_MS {
            *doubted = None;
            return true;
        }
        let Some(since) = *doubted else {
            warn!(
                hours = ahead_ms / 3_600_000,
                hold = %humantime::format_duration(self.hold),
                "the clock is this far ahead of the last time that pruning saw: the server was stopped for as long, or the \
                 clock is wrong. Nothing is pruned meanwhile; if the clock is wrong, stop the server and set the clock"
            );
            *doubted = Some(Instant::now());
            return false;
        };
        let right = since.elapsed() >= self.hold;
        if right {
            info!("the clock is taken for right; pruning goes on");
            *doubted = None;
        }
        right
    }
}

async fn prune(store: &dyn Store, retention: &Retention) -> StoreResult<()> {
    // Days that are dropped as a whole need not be deleted row by row; if that fails, they are.
    let maintained = store.maintain(retention).await;
    let mut total = 0;
    loop {
        let removed = store.prune(retention, LIMIT).await?;
        total += removed;
        counter!("jobqueue_pruned_total").increment(removed);
        if removed < u64::from(LIMIT) {
            if total > 0 {
                info!(rows = total, "removed what was older than its retention");
            }
            return maintained.map(drop);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: i64 = 24 * 3_600_000;

    fn at(now_ms: i64, confirmed_ms: i64) -> PruningTime {
        PruningTime { now_ms, confirmed_ms }
    }

    #[tokio::test(start_paused = true)]
    async fn a_jump_is_waited_out_and_ordinary_time_is_not() {
        let pruner = Pruner::new(HOLD);
        assert!(pruner.is_right(at(DAY_MS, DAY_MS - 60_000)));
        assert!(pruner.is_right(at(DAY_MS, 3 * DAY_MS)), "a clock that went back prunes less");
        assert!(!pruner.is_right(at(40 * DAY_MS, DAY_MS)));
        tokio::time::advance(HOLD / 2).await;
        assert!(!pruner.is_right(at(40 * DAY_MS, DAY_MS)));
        tokio::time::advance(HOLD / 2).await;
        assert!(pruner.is_right(at(40 * DAY_MS, DAY_MS)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_was_set_right_is_not_waited_for_any_more_and_the_next_jump_is() {
        let pruner = Pruner::new(HOLD);
        assert!(!pruner.is_right(at(40 * DAY_MS, DAY_MS)));
        assert!(pruner.is_right(at(DAY_MS + 60_000, DAY_MS)));
        tokio::time::advance(HOLD).await;
        assert!(!pruner.is_right(at(40 * DAY_MS, DAY_MS)), "an hour before the jump is no hour after it");
    }
}
