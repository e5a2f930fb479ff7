//! Pauses: jobs of a paused worker_id are not handed out until a person resumes it.

use jobqueue_store::error::StoreResult;
use uuid::Uuid;

use crate::PostgresStore;

const PAUSE: &str = "
    INSERT INTO pauses (worker_id, paused_at, reason) VALUES ($1, now_ms(), $2)
    ON CONFLICT (worker_id) DO UPDATE SET reason = excluded.reason";

const LIVE: &str = "SELECT id FROM sessions WHERE worker_id = $1 AND ended_at IS NULL ORDER BY id";

/// Waits for the acquires of these sessions that are under way: they may have checked for a pause before this one was
/// committed. One lock at a time, and not to the end of the transaction, because there may be more sessions than
/// PostgreSQL has room for locks.
const WAIT_FOR_ACQUIRES: &str = "SELECT pg_advisory_lock(k), pg_advisory_unlock(k) FROM unnest($1::bigint[]) AS t(k)";

pub(crate) async fn pause(store: &PostgresStore, worker_id: &str, reason: &str) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    sqlx::query(PAUSE).bind(worker_id).bind(reason).execute(&mut *tx).await?;
    tx.commit().await?;
    let mut tx = store.begin().await?;
    let sessions: Vec<Uuid> = sqlx::query_scalar(LIVE).bind(worker_id).fetch_all(&mut *tx).await?;
    let keys: Vec<i64> = sessions.into_iter().map(crate::session_lock_key).collect();
    sqlx::query(WAIT_FOR_ACQUIRES).bind(keys).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

pub(crate) async fn resume(store: &PostgresStore, worker_id: &str) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    sqlx::query("DELETE FROM pauses WHERE worker_id = $1").bind(worker_id).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}
