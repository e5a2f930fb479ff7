//! What keeps the tables small: pruning what is old. Counters are updated in place, so there is nothing to fold.

use sqlx::FromRow;
use uuid::Uuid;

use super::{
    SqliteStore, begin, counts, id_list,
    moves::{self, Keys},
    read,
};
use crate::store::{
    error::StoreResult,
    places,
    plan::Deltas,
    types::{Moved, Retention},
};

pub(super) async fn prune(store: &SqliteStore, retention: &Retention, limit: u32) -> StoreResult<u64> {
    let now = store.clock.now_ms();
    let limit = i64::from(limit);
    // Keys outlive jobs that are kept for less time than they are.
    let keys = |kept_ms| if kept_ms >= retention.keys_ms { Keys::Delete } else { Keys::Keep { gone_at: now } };
    let mut pruned = prune_done(store, now - retention.done_ms, limit, keys(retention.done_ms)).await?;
    pruned += prune_set_aside(store, OLD_CANCELLED, now - retention.cancelled_ms, limit, keys(retention.cancelled_ms))
        .await?;
    pruned += prune_set_aside(
        store,
        OLD_DEAD_LETTERS,
        now - retention.dead_letters_ms,
        limit,
        keys(retention.dead_letters_ms),
    )
    .await?;
    pruned += prune_keys(store, now - retention.keys_ms, limit).await?;
    pruned += prune_sessions(store, now - retention.done_ms.max(86_400_000), limit).await?;
    let mut writer = store.writer().await?;
    sqlx::query("DELETE FROM series WHERE minute < ?1").bind(now / 60_000 - 2 * 1_440).execute(&mut *writer).await?;
    Ok(pruned)
}

#[derive(FromRow)]
struct DoneRow {
    worker_id: String,
    ids: Vec<u8>,
}

/// Jobs leave their facts and their place in one transaction; small batches, so that nobody waits long.
const TAKE_OLD_DONE: &str = "
    DELETE FROM done WHERE rowid IN (
        SELECT id FROM (
            SELECT id, sum(jobs) OVER (ROWS UNBOUNDED PRECEDING) - jobs AS jobs_before
            FROM (
                SELECT rowid AS id, length(ids) / 16 AS jobs
                FROM done WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2
            ) AS oldest
        ) AS counted
        WHERE jobs_before < ?2)
    RETURNING worker_id, ids";

async fn prune_done(store: &SqliteStore, before: i64, limit: i64, keys: Keys) -> StoreResult<u64> {
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    let rows: Vec<DoneRow> = sqlx::query_as(TAKE_OLD_DONE).bind(before).bind(limit).fetch_all(&mut *tx).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut deltas = Deltas::default();
    let mut gone: Vec<Uuid> = Vec::new();
    for row in rows {
        let ids: Vec<_> = places::decode_ids(&row.ids).collect();
        deltas.at(&row.worker_id, 0).done -= ids.len() as i32;
        gone.extend(ids);
    }
    gone.sort_unstable();
    moves::forget(&mut tx, &gone, keys).await?;
    counts::write_deltas(&mut tx, &deltas, store.clock.now_ms()).await?;
    tx.commit().await?;
    Ok(gone.len() as u64)
}

const OLD_CANCELLED: &str = "SELECT id FROM cancelled WHERE cancelled_at < ?1 ORDER BY cancelled_at LIMIT ?2";
const OLD_DEAD_LETTERS: &str = "SELECT id FROM dead_letters WHERE failed_at < ?1 ORDER BY failed_at LIMIT ?2";

async fn prune_set_aside(
    store: &SqliteStore,
    old: &'static str,
    before: i64,
    limit: i64,
    keys: Keys,
) -> StoreResult<u64> {
    let ids: Vec<Uuid> = sqlx::query_scalar(old).bind(before).bind(limit).fetch_all(&store.readers).await?;
    if ids.is_empty() {
        return Ok(0);
    }
    let moved = moves::delete(store, &ids, keys).await?;
    Ok(moved.iter().filter(|moved| matches!(moved, Moved::Yes { .. })).count() as u64)
}

/// The next keys by the age of their jobs, from where the last turn ended.
const NEXT_KEYS: &str = "
    SELECT job_id, gone_at FROM idempotency_keys WHERE job_id > ?1 AND job_id < ?2 ORDER BY job_id LIMIT ?3";

async fn prune_keys(store: &SqliteStore, before: i64, limit: i64) -> StoreResult<u64> {
    let cursor = *store.key_cursor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let newest = Uuid::from_u128((before.max(0) as u128) << 80);
    let mut connection = store.readers.acquire().await?;
    let keys: Vec<(Uuid, Option<i64>)> =
        sqlx::query_as(NEXT_KEYS).bind(cursor).bind(newest).bind(limit).fetch_all(&mut *connection).await?;
    let next = if (keys.len() as i64) < limit { Uuid::nil() } else { keys.last().map(|key| key.0).unwrap_or_default() };
    *store.key_cursor.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = next;
    if keys.is_empty() {
        return Ok(0);
    }
    let ids: Vec<_> = keys.iter().map(|(id, _)| *id).collect();
    let records = read::states(&mut connection, &ids).await?;
    let ended_at = |(id, gone_at): &(Uuid, Option<i64>)| match records.get(id) {
        Some(job) => job.finished_at_ms,
        None => *gone_at,
    };
    let expired: Vec<Uuid> =
        keys.iter().filter(|key| ended_at(key).is_some_and(|at| at < before)).map(|(id, _)| *id).collect();
    let mut writer = store.writer().await?;
    let deleted = sqlx::query("DELETE FROM idempotency_keys WHERE job_id IN (SELECT unhex(value) FROM json_each(?1))")
        .bind(id_list(&expired))
        .execute(&mut *writer)
        .await?;
    Ok(deleted.rows_affected())
}

const OLD_SESSIONS: &str = "
    DELETE FROM sessions WHERE rowid IN (
        SELECT s.rowid FROM sessions s
        WHERE s.ended_at < ?1 AND NOT EXISTS (SELECT 1 FROM claims c WHERE c.session_id = s.id)
        ORDER BY s.ended_at LIMIT ?2)";

async fn prune_sessions(store: &SqliteStore, before: i64, limit: i64) -> StoreResult<u64> {
    let mut writer = store.writer().await?;
    let deleted = sqlx::query(OLD_SESSIONS).bind(before).bind(limit).execute(&mut *writer).await?;
    Ok(deleted.rows_affected())
}
