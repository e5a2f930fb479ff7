//! Runs the driver's own maintenance.

use crate::store::{Store, StoreResult};

pub async fn run_once(store: &dyn Store) -> StoreResult<()> {
    store.housekeeping().await
}
