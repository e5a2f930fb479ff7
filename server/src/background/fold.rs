//! Adds the counters' deltas to their totals, so that reading them stays cheap.

use crate::store::{Store, StoreResult};

/// Deltas in one transaction.
const LIMIT: u32 = 5_000;

pub async fn run_once(store: &dyn Store) -> StoreResult<()> {
    while store.fold(LIMIT).await? >= u64::from(LIMIT) {}
    Ok(())
}
