//! Folds changes of error groups into the groups' rows, so that reading the groups stays cheap.

use jobqueue_store::{Store, StoreResult};

/// Maximum number of changes in one transaction. Each can carry an error of 8 KiB.
const LIMIT: u32 = 1_000;

pub async fn run_once(store: &dyn Store) -> StoreResult<()> {
    while store.fold_errors(LIMIT).await? >= u64::from(LIMIT) {}
    Ok(())
}
