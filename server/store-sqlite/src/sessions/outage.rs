//! Outages of all servers: leases that were live when one began are extended by its length.

use jobqueue_store::{error::StoreResult, sessions::outage};

use super::heartbeat;
use crate::{SqliteStore, begin};

/// Time up to which sessions were heard, and the time that the file has for it.
#[derive(Clone, Copy)]
pub(crate) struct HeardUntil {
    until: i64,
    stored: i64,
}

/// Minimum time in milliseconds between two writes of that time to the file, since each commit waits for the disk.
/// After a restart an outage can look longer by this; the extension of leases for it is bounded by a lease.
const NOTE_EVERY_MS: i64 = 5_000;

const ANY_SESSION: &str = "SELECT EXISTS (SELECT 1 FROM sessions WHERE ended_at IS NULL)";

pub(crate) async fn note_heard(store: &SqliteStore) -> StoreResult<i64> {
    let noted = *store.heard_until.lock();
    let known = if let Some(known) = noted {
        known
    } else {
        let until = sqlx::query_scalar("SELECT until FROM heard_until").fetch_one(&store.readers).await?;
        HeardUntil { until, stored: until }
    };
    let now = store.clock.now_ms();
    let outage = outage::outage_ms(known.until, now);
    let mut stored = known.stored;
    // The first note of a process is always stored: a session that registers right after it may need it after a crash.
    // Later ones matter only while there are sessions.
    let due = outage.is_some() || now - known.stored >= NOTE_EVERY_MS;
    if noted.is_none() || due && sqlx::query_scalar(ANY_SESSION).fetch_one(&store.readers).await? {
        let mut writer = store.writer().await?;
        let mut tx = begin(&mut writer).await?;
        if let Some(outage) = outage {
            sqlx::query(heartbeat::EXTEND).bind(known.until).bind(outage).bind(now).execute(&mut *tx).await?;
        }
        sqlx::query("UPDATE heard_until SET until = ?1").bind(now).execute(&mut *tx).await?;
        tx.commit().await?;
        stored = now;
    }
    *store.heard_until.lock() = Some(HeardUntil { until: now, stored });
    Ok(outage.unwrap_or_default())
}

/// Moves the time of the last note by a jump of the clock.
pub(crate) fn shift_heard_until(store: &SqliteStore, jump_ms: i64) {
    if let Some(known) = store.heard_until.lock().as_mut() {
        known.until += jump_ms;
    }
}
