//! Outages of all servers: leases that were live when one began are extended by its length.

use jobqueue_store::{error::StoreResult, sessions::outage};

use super::heartbeat;
use crate::PostgresStore;

const HEARD: &str = "
    UPDATE heard_until SET until = clock.now
    FROM (SELECT until AS last, now_ms() AS now FROM heard_until FOR UPDATE) AS clock
    RETURNING clock.last, clock.now";

pub(crate) async fn note_heard(store: &PostgresStore) -> StoreResult<i64> {
    let mut tx = store.begin_lazy().await?;
    let (until, now): (i64, i64) = sqlx::query_as(HEARD).fetch_one(&mut *tx).await?;
    let outage = outage::outage_ms(until, now);
    if let Some(outage) = outage {
        sqlx::query(heartbeat::EXTEND).bind(until).bind(outage).bind(now).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(outage.unwrap_or_default())
}
