//! Records that this server receives heartbeats, and logs an outage of all servers when one ends.

use std::time::Duration;

use jobqueue_store::{Store, StoreResult};
use tracing::warn;

pub async fn run_once(store: &dyn Store) -> StoreResult<()> {
    let outage_ms = store.note_heard().await?;
    if outage_ms > 0 {
        let outage = Duration::from_millis(outage_ms.unsigned_abs());
        warn!(
            ?outage,
            "no server could hear the workers for so long, or the database's clock went ahead; workers that were alive keep \
             their leases so much longer"
        );
    }
    Ok(())
}
