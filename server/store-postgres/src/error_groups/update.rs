//! Changes of error groups by people.

use jobqueue_store::{
    error::StoreResult,
    error_groups::state::Decision,
    types::{ErrorGroupChange, ErrorGroupId},
};

use crate::{PostgresStore, Tx};

/// Makes the row of a group of which nothing is folded yet; the changes are added to it later.
const MAKE: &str = "
    INSERT INTO error_groups (fingerprint, task, title, first_seen, last_seen, attempts, dead_letters, error, job_id)
    SELECT fingerprint, task, title, at, at, 0, 0, error, job_id FROM error_deltas
    WHERE id > (SELECT up_to FROM error_delta_watermark) AND fingerprint = $1 AND attempts > 0
    ORDER BY id LIMIT 1
    ON CONFLICT DO NOTHING";

const LOCK: &str = "SELECT fingerprint FROM error_groups WHERE fingerprint = $1 FOR UPDATE";

/// Failed attempts of a locked group, folded or not.
const ATTEMPTS: &str = "
    SELECT attempts + (SELECT coalesce(sum(attempts), 0)::bigint FROM error_deltas
                       WHERE id > (SELECT up_to FROM error_delta_watermark) AND fingerprint = $1)
    FROM error_groups WHERE fingerprint = $1";

const SET_STATE: &str = "
    UPDATE error_groups SET state = $2, state_attempts = $3, ignore_until = $4, ignore_attempts = $5, changed_at = $6
    WHERE fingerprint = $1";

const SET_TEXTS: &str = "
    UPDATE error_groups SET note = coalesce($2, note), link = coalesce($3, link) WHERE fingerprint = $1";

pub(crate) async fn update(store: &PostgresStore, id: ErrorGroupId, change: &ErrorGroupChange) -> StoreResult<bool> {
    let mut tx = store.begin().await?;
    if !lock(&mut tx, id).await? {
        return Ok(false);
    }
    if let Some(state) = change.state {
        let attempts: i64 = sqlx::query_scalar(ATTEMPTS).bind(id.0).fetch_one(&mut *tx).await?;
        let decision = Decision::of(state, attempts);
        sqlx::query(SET_STATE)
            .bind(id.0)
            .bind(decision.state)
            .bind(decision.state_attempts)
            .bind(decision.ignore_until)
            .bind(decision.ignore_attempts)
            .bind(store.clock.now_ms())
            .execute(&mut *tx)
            .await?;
    }
    sqlx::query(SET_TEXTS)
        .bind(id.0)
        .bind(change.note.as_deref())
        .bind(change.link.as_deref())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(true)
}

/// Locks a group's row, so that nothing of it is folded meanwhile. False: there is no such group.
async fn lock(tx: &mut Tx, id: ErrorGroupId) -> StoreResult<bool> {
    let found: Option<i64> = sqlx::query_scalar(LOCK).bind(id.0).fetch_optional(&mut **tx).await?;
    if found.is_some() {
        return Ok(true);
    }
    sqlx::query(MAKE).bind(id.0).execute(&mut **tx).await?;
    let found: Option<i64> = sqlx::query_scalar(LOCK).bind(id.0).fetch_optional(&mut **tx).await?;
    Ok(found.is_some())
}
