//! Changes of error groups by people.

use jobqueue_store::{
    error::StoreResult,
    error_groups::state::Decision,
    types::{ErrorGroupChange, ErrorGroupId},
};

use crate::{SqliteStore, begin};

const ATTEMPTS: &str = "SELECT attempts FROM error_groups WHERE fingerprint = ?1";

const SET_STATE: &str = "
    UPDATE error_groups SET state = ?2, state_attempts = ?3, ignore_until = ?4, ignore_attempts = ?5, changed_at = ?6
    WHERE fingerprint = ?1";

const SET_TEXTS: &str = "
    UPDATE error_groups SET note = coalesce(?2, note), link = coalesce(?3, link) WHERE fingerprint = ?1";

pub(crate) async fn update(store: &SqliteStore, id: ErrorGroupId, change: &ErrorGroupChange) -> StoreResult<bool> {
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let attempts: Option<i64> = sqlx::query_scalar(ATTEMPTS).bind(id.0).fetch_optional(&mut *tx).await?;
    let Some(attempts) = attempts else { return Ok(false) };
    if let Some(state) = change.state {
        let decision = Decision::of(state, attempts);
        sqlx::query(SET_STATE)
            .bind(id.0)
            .bind(decision.state)
            .bind(decision.state_attempts)
            .bind(decision.ignore_until)
            .bind(decision.ignore_attempts)
            .bind(now)
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
