//! Pruning of error groups: old slots of their series, and groups that have not failed for long.

use jobqueue_store::{
    error::StoreResult,
    error_groups::fold::{GROUPS_KEPT_MS, SLOTS_PRUNED, STEPS, STEPS_KEPT_MS},
};

use crate::PostgresStore;

/// Deletes up to $3 old slots.
const OLD_SLOTS: &str = "
    DELETE FROM error_series WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM error_series WHERE step = $1 AND slot < $2 ORDER BY slot LIMIT $3 FOR UPDATE SKIP LOCKED))";

/// Deletes old groups without dead letters, and their worker_ids. A group with changes that are not folded is not old.
const OLD_GROUPS: &str = "
    WITH old AS (
        DELETE FROM error_groups WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM error_groups g WHERE dead_letters = 0 AND last_seen < $1
              AND NOT EXISTS (SELECT FROM error_deltas d WHERE d.fingerprint = g.fingerprint)
            ORDER BY last_seen LIMIT $2 FOR UPDATE SKIP LOCKED))
        RETURNING fingerprint
    ), slots AS (
        DELETE FROM error_series WHERE fingerprint IN (SELECT fingerprint FROM old)
    )
    DELETE FROM error_worker_ids WHERE fingerprint IN (SELECT fingerprint FROM old)";

/// Deletes old worker_ids without dead letters of groups that are kept.
const OLD_WORKER_IDS: &str = "
    DELETE FROM error_worker_ids WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM error_worker_ids WHERE dead_letters = 0 AND last_seen < $1 LIMIT $2 FOR UPDATE SKIP LOCKED))";

pub(crate) async fn prune(store: &PostgresStore, now: i64, limit: i64) -> StoreResult<()> {
    for (step, kept_ms) in STEPS.into_iter().zip(STEPS_KEPT_MS) {
        sqlx::query(OLD_SLOTS).bind(step).bind((now - kept_ms) / step).bind(SLOTS_PRUNED).execute(&store.pool).await?;
    }
    for statement in [OLD_GROUPS, OLD_WORKER_IDS] {
        sqlx::query(statement).bind(now - GROUPS_KEPT_MS).bind(limit).execute(&store.pool).await?;
    }
    Ok(())
}
