//! Pruning: deletes rows whose retention is over, and leftovers. Counters are updated in place, so there is no
//! compaction.

use jobqueue_store::{
    clock::wall_ms,
    error::StoreResult,
    error_groups::changes::ErrorChanges,
    operator_actions as actions,
    operator_actions::SetAsideRow,
    retention::{self, KeyTreatment},
    rows::{packed_claim, write::Deltas},
    types::{PruningTime, Retention},
};
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    SqliteStore, begin, deltas, error_groups,
    error_groups::fold,
    id_list,
    observe::read,
    operate::{operations, operator_actions},
};

pub(crate) async fn prune(store: &SqliteStore, retention: &Retention, limit: u32) -> StoreResult<u64> {
    let now = store.clock.no_later_than(wall_ms());
    let limit = i64::from(limit);
    let keys = |kept_ms| KeyTreatment::of(retention, kept_ms, now);
    let (done, cancelled, failed) = (retention.done_ms, retention.cancelled_ms, retention.dead_letters_ms);
    let mut pruned = prune_done(store, now - done, limit, keys(done)).await?;
    pruned += prune_set_aside(store, TAKE_OLD_CANCELLED, now - cancelled, limit, keys(cancelled)).await?;
    pruned += prune_set_aside(store, TAKE_OLD_DEAD_LETTERS, now - failed, limit, keys(failed)).await?;
    pruned += prune_keys(store, now - retention.keys_ms, limit).await?;
    pruned += operations::prune(store, now - retention.operations_ms, limit).await?;
    pruned += prune_sessions(store, now - retention.done_ms.max(86_400_000), limit).await?;
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    sqlx::query("DELETE FROM series WHERE minute < ?1").bind(now / 60_000 - 2 * 1_440).execute(&mut *tx).await?;
    error_groups::prune::prune(&mut tx, now, limit).await?;
    tx.commit().await?;
    Ok(pruned)
}

#[derive(FromRow)]
struct DoneRow {
    worker_id: String,
    ids: Vec<u8>,
}

/// Takes the oldest done rows, of about ?2 jobs. The jobs' rows in `jobs` and `done` go in one transaction, which is
/// small so that others do not wait long for the writer.
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

async fn prune_done(store: &SqliteStore, before: i64, limit: i64, keys: KeyTreatment) -> StoreResult<u64> {
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    let rows: Vec<DoneRow> = sqlx::query_as(TAKE_OLD_DONE).bind(before).bind(limit).fetch_all(&mut *tx).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut deltas = Deltas::default();
    let mut gone: Vec<Uuid> = Vec::new();
    for row in rows {
        let ids: Vec<_> = packed_claim::decode_ids(&row.ids).collect();
        deltas.at(&row.worker_id, 0).done -= ids.len() as i32;
        gone.extend(ids);
    }
    gone.sort_unstable();
    operator_actions::delete_jobs(&mut tx, &gone, keys).await?;
    deltas::write_deltas(&mut tx, &deltas, store.clock.now_ms()).await?;
    tx.commit().await?;
    Ok(gone.len() as u64)
}

/// Takes old cancelled jobs. The statement that deletes them checks their age: a job that was retried meanwhile and
/// cancelled anew is not old.
const TAKE_OLD_CANCELLED: &str = "
    DELETE FROM cancelled WHERE rowid IN (SELECT rowid FROM cancelled WHERE cancelled_at < ?1 ORDER BY cancelled_at LIMIT ?2)
    RETURNING id, worker_id, NULL AS fingerprint";

const TAKE_OLD_DEAD_LETTERS: &str = "
    DELETE FROM dead_letters WHERE rowid IN (SELECT rowid FROM dead_letters WHERE failed_at < ?1 ORDER BY failed_at LIMIT ?2)
    RETURNING id, worker_id, fingerprint";

async fn prune_set_aside(
    store: &SqliteStore,
    take_old: &'static str,
    before: i64,
    limit: i64,
    keys: KeyTreatment,
) -> StoreResult<u64> {
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    let rows: Vec<SetAsideRow> = sqlx::query_as(take_old).bind(before).bind(limit).fetch_all(&mut *tx).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let (mut deltas, mut errors) = (Deltas::default(), ErrorChanges::default());
    let gone = actions::set_aside_gone(&rows, &mut deltas, &mut errors);
    operator_actions::delete_jobs(&mut tx, &gone, keys).await?;
    deltas::write_deltas(&mut tx, &deltas, store.clock.now_ms()).await?;
    fold::write(&mut tx, &errors, store.clock.now_ms()).await?;
    tx.commit().await?;
    Ok(gone.len() as u64)
}

/// The next keys in the order of their jobs' ids, and so of their age, from where the last run ended.
const NEXT_KEYS: &str = "
    SELECT job_id, gone_at FROM idempotency_keys WHERE job_id > ?1 AND job_id < ?2 ORDER BY job_id LIMIT ?3";

async fn prune_keys(store: &SqliteStore, before: i64, limit: i64) -> StoreResult<u64> {
    let cursor = *store.key_cursor.lock();
    let newest = Uuid::from_u128((before.max(0) as u128) << 80);
    let mut connection = store.readers.acquire().await?;
    let keys: Vec<(Uuid, Option<i64>)> =
        sqlx::query_as(NEXT_KEYS).bind(cursor).bind(newest).bind(limit).fetch_all(&mut *connection).await?;
    *store.key_cursor.lock() = retention::next_cursor(&keys, limit);
    if keys.is_empty() {
        return Ok(0);
    }
    let ids: Vec<_> = keys.iter().map(|(id, _)| *id).collect();
    let records = read::states(&mut connection, &ids).await?;
    let expired = retention::expired_keys(&keys, &records, before);
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    let deleted = sqlx::query("DELETE FROM idempotency_keys WHERE job_id IN (SELECT unhex(value) FROM json_each(?1))")
        .bind(id_list(&expired))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(deleted.rows_affected())
}

pub(crate) async fn pruning_time(store: &SqliteStore) -> StoreResult<PruningTime> {
    let confirmed_ms = sqlx::query_scalar("SELECT confirmed_at FROM pruning").fetch_one(&store.readers).await?;
    Ok(PruningTime { now_ms: store.clock.now_ms(), confirmed_ms })
}

pub(crate) async fn confirm_time(store: &SqliteStore, now_ms: i64) -> StoreResult<()> {
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    sqlx::query("UPDATE pruning SET confirmed_at = ?1").bind(now_ms).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

const OLD_SESSIONS: &str = "
    DELETE FROM sessions WHERE rowid IN (
        SELECT s.rowid FROM sessions s
        WHERE s.ended_at < ?1 AND NOT EXISTS (SELECT 1 FROM claims c WHERE c.session_id = s.id)
        ORDER BY s.ended_at LIMIT ?2)";

/// Deletes the stops of sessions that have ended: they are told nothing any more, and a stop can be written between
/// their end and that of their claims.
const LEFTOVER_STOPS: &str = "
    DELETE FROM stops WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = stops.session_id AND s.ended_at IS NULL)";

async fn prune_sessions(store: &SqliteStore, before: i64, limit: i64) -> StoreResult<u64> {
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    let deleted = sqlx::query(OLD_SESSIONS).bind(before).bind(limit).execute(&mut *tx).await?;
    sqlx::query(LEFTOVER_STOPS).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(deleted.rows_affected())
}
