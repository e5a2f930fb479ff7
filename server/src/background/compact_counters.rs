//! Compacts counter deltas into their totals, so that reading the counters stays cheap.

use jobqueue_store::{Store, StoreResult};

/// Maximum number of deltas in one transaction.
const LIMIT: u32 = 5_000;

pub async fn run_once(store: &dyn Store) -> StoreResult<()> {
    while store.compact_counters(LIMIT).await? >= u64::from(LIMIT) {}
    Ok(())
}
