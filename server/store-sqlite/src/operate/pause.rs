//! Pauses: jobs of a paused worker_id are not handed out until a person resumes it.

use jobqueue_store::error::StoreResult;

use crate::{SqliteStore, begin};

const PAUSE: &str = "
    INSERT INTO pauses (worker_id, paused_at, reason) VALUES (?1, ?3, ?2)
    ON CONFLICT (worker_id) DO UPDATE SET reason = excluded.reason";

/// Pauses a worker_id. With one writer, no acquire is under way meanwhile.
pub(crate) async fn pause(store: &SqliteStore, worker_id: &str, reason: &str) -> StoreResult<()> {
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    sqlx::query(PAUSE).bind(worker_id).bind(reason).bind(now).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

pub(crate) async fn resume(store: &SqliteStore, worker_id: &str) -> StoreResult<()> {
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    sqlx::query("DELETE FROM pauses WHERE worker_id = ?1").bind(worker_id).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}
