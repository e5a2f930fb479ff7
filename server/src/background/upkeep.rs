//! Lets the store follow the clock and tidy up, every second.

use crate::store::{Store, StoreResult};

pub async fn run_once(store: &dyn Store) -> StoreResult<()> {
    store.upkeep().await
}
