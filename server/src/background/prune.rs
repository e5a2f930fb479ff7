//! Removes what is older than its retention: days as a whole, the rest in small batches.

use std::time::Duration;

use metrics::counter;
use tracing::info;

use crate::store::{Retention, Store, StoreResult};

/// Rows of each kind in one transaction.
const LIMIT: u32 = 1_000;
/// Between batches, for those who wait to write.
const PAUSE: Duration = Duration::from_millis(20);

pub async fn run_once(store: &dyn Store, retention: &Retention) -> StoreResult<()> {
    // What goes as a whole need not go row by row; what cannot does all the same.
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
