//! Pruning of error groups: old slots of their series, and groups that have not failed for long.

use jobqueue_store::{
    error::StoreResult,
    error_groups::fold::{GROUPS_KEPT_MS, SLOTS_PRUNED, STEPS, STEPS_KEPT_MS},
};

use super::fold;
use crate::Tx;

/// Deletes up to ?3 old slots.
const OLD_SLOTS: &str = "
    DELETE FROM error_series WHERE rowid IN (
        SELECT rowid FROM error_series WHERE step = ?1 AND slot < ?2 ORDER BY slot LIMIT ?3)";

const OLD_GROUPS: &str = "
    SELECT fingerprint FROM error_groups WHERE dead_letters = 0 AND last_seen < ?1 ORDER BY last_seen LIMIT ?2";

/// Deletes old worker_ids without dead letters of groups that are kept.
const OLD_WORKER_IDS: &str = "
    DELETE FROM error_worker_ids WHERE rowid IN (
        SELECT rowid FROM error_worker_ids WHERE dead_letters = 0 AND last_seen < ?1 LIMIT ?2)";

pub(crate) async fn prune(tx: &mut Tx, now: i64, limit: i64) -> StoreResult<()> {
    for (step, kept_ms) in STEPS.into_iter().zip(STEPS_KEPT_MS) {
        sqlx::query(OLD_SLOTS).bind(step).bind((now - kept_ms) / step).bind(SLOTS_PRUNED).execute(&mut *tx).await?;
    }
    let before = now - GROUPS_KEPT_MS;
    let old: Vec<i64> = sqlx::query_scalar(OLD_GROUPS).bind(before).bind(limit).fetch_all(&mut *tx).await?;
    fold::remove(tx, &old).await?;
    sqlx::query(OLD_WORKER_IDS).bind(before).bind(limit).execute(&mut *tx).await?;
    Ok(())
}
