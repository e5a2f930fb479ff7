//! Runs the driver's own maintenance.

use jobqueue_store::{Store, StoreResult};

pub async fn run_once(store: &dyn Store) -> StoreResult<()> {
    store.housekeeping().await
}
