//! What keeps the tables small: pruning what is old, and folding counter deltas into totals.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicI64, AtomicU32, Ordering},
};

use sqlx::FromRow;
use uuid::Uuid;

use super::{PostgresStore, counts, moves, partitions, read};
use crate::store::{
    error::StoreResult,
    moving::{self, SetAsideRow},
    places,
    retention::{self, Keys},
    types::Retention,
    writes::Deltas,
};

pub(super) async fn prune(store: &PostgresStore, retention: &Retention, limit: u32) -> StoreResult<u64> {
    let now = store.now().await?;
    let limit = i64::from(limit);
    let keys = |kept_ms| Keys::of(retention, kept_ms, now);
    let (done, cancelled, failed) = (retention.done_ms, retention.cancelled_ms, retention.dead_letters_ms);
    let mut pruned = prune_done(store, now, done, limit, keys(done)).await?;
    pruned += prune_set_aside(store, TAKE_OLD_CANCELLED, now - cancelled, limit, keys(cancelled)).await?;
    pruned += prune_set_aside(store, TAKE_OLD_DEAD_LETTERS, now - failed, limit, keys(failed)).await?;
    pruned += prune_keys(store, now - retention.keys_ms, limit).await?;
    pruned += prune_sessions(store, now - retention.done_ms.max(86_400_000), limit).await?;
    sqlx::query("DELETE FROM series WHERE minute < $1").bind(now / 60_000 - 2 * 1_440).execute(&store.pool).await?;
    Ok(pruned)
}

#[derive(FromRow)]
struct DoneRow {
    worker_id: String,
    ids: Vec<u8>,
}

/// Jobs leave their facts and their place in one transaction; small batches, so that nobody waits long.
const TAKE_OLD_DONE: &str = "
    DELETE FROM done WHERE ctid = ANY(ARRAY(
        SELECT tid FROM (
            SELECT tid, sum(jobs) OVER (ROWS UNBOUNDED PRECEDING) - jobs AS jobs_before
            FROM (
                SELECT ctid AS tid, octet_length(ids) / 16 AS jobs
                FROM done WHERE finished_at < $1 ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED
            ) AS oldest
        ) AS counted
        WHERE jobs_before < $2))
    RETURNING worker_id, ids";

async fn prune_done(store: &PostgresStore, now: i64, kept_ms: i64, limit: i64, keys: Keys) -> StoreResult<u64> {
    let mut tx = store.begin().await?;
    let before = partitions::done_before(&mut tx, now, kept_ms).await?;
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

/// By its age in the statement that takes it: one that is retried meanwhile, and has ended anew, is not old.
const TAKE_OLD_CANCELLED: &str = "
    DELETE FROM cancelled WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM cancelled WHERE cancelled_at < $1 ORDER BY cancelled_at LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING id, worker_id, false AS failed";

const TAKE_OLD_DEAD_LETTERS: &str = "
    DELETE FROM dead_letters WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM dead_letters WHERE failed_at < $1 ORDER BY failed_at LIMIT $2 FOR UPDATE SKIP LOCKED))
    RETURNING id, worker_id, true AS failed";

async fn prune_set_aside(
    store: &PostgresStore,
    take_old: &'static str,
    before: i64,
    limit: i64,
    keys: Keys,
) -> StoreResult<u64> {
    let mut tx = store.begin().await?;
    let rows: Vec<SetAsideRow> = sqlx::query_as(take_old).bind(before).bind(limit).fetch_all(&mut *tx).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut deltas = Deltas::default();
    let gone = moving::set_aside_gone(&rows, &mut deltas);
    moves::forget(&mut tx, &gone, keys).await?;
    counts::write_deltas(&mut tx, &deltas, store.clock.now_ms()).await?;
    tx.commit().await?;
    Ok(gone.len() as u64)
}

/// The next keys by the age of their jobs, from where the last turn ended.
const NEXT_KEYS: &str = "
    SELECT job_id, gone_at FROM idempotency_keys WHERE job_id > $1 AND job_id < $2 ORDER BY job_id LIMIT $3";

async fn prune_keys(store: &PostgresStore, before: i64, limit: i64) -> StoreResult<u64> {
    let cursor = *store.key_cursor.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let newest = Uuid::from_u128((before.max(0) as u128) << 80);
    let mut connection = store.pool.acquire().await?;
    let keys: Vec<(Uuid, Option<i64>)> =
        sqlx::query_as(NEXT_KEYS).bind(cursor).bind(newest).bind(limit).fetch_all(&mut *connection).await?;
    *store.key_cursor.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = retention::next_cursor(&keys, limit);
    if keys.is_empty() {
        return Ok(0);
    }
    let ids: Vec<_> = keys.iter().map(|(id, _)| *id).collect();
    let records = read::states(&mut connection, &ids).await?;
    let expired = retention::expired_keys(&keys, &records, before);
    let deleted = sqlx::query("DELETE FROM idempotency_keys WHERE job_id = ANY($1)")
        .bind(expired)
        .execute(&mut *connection)
        .await?;
    connection.commit().await?;
    Ok(deleted.rows_affected())
}

const OLD_SESSIONS: &str = "
    DELETE FROM sessions WHERE ctid = ANY(ARRAY(
        SELECT s.ctid FROM sessions s
        WHERE s.ended_at < $1 AND NOT EXISTS (SELECT FROM claims c WHERE c.session_id = s.id)
        ORDER BY s.ended_at LIMIT $2 FOR UPDATE SKIP LOCKED))";

async fn prune_sessions(store: &PostgresStore, before: i64, limit: i64) -> StoreResult<u64> {
    let deleted = sqlx::query(OLD_SESSIONS).bind(before).bind(limit).execute(&store.pool).await?;
    Ok(deleted.rows_affected())
}

#[derive(FromRow)]
struct DeltaRow {
    id: i64,
    worker_id: String,
    bucket: i64,
    minute: i64,
    first: i32,
    retry: i32,
    running: i32,
    done: i32,
    failed: i32,
    cancelled: i32,
    submitted: i32,
    completed: i32,
    died: i32,
    retried: i32,
}

const TAKE_DELTAS: &str = "
    DELETE FROM deltas WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM deltas WHERE id > $2 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING id, worker_id, bucket, minute, first, retry, running, done, failed, cancelled, submitted, completed, died, retried";

const ADD_COUNTERS: &str = "
    INSERT INTO counters AS c (worker_id, bucket, first, retry, running, done, failed, cancelled)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::bigint[])
    ON CONFLICT (worker_id, bucket) DO UPDATE SET
        first = c.first + excluded.first, retry = c.retry + excluded.retry, running = c.running + excluded.running,
        done = c.done + excluded.done, failed = c.failed + excluded.failed, cancelled = c.cancelled + excluded.cancelled";

const FORGET_EMPTY_COUNTERS: &str = "
    DELETE FROM counters c USING unnest($1::text[], $2::bigint[]) AS t(worker_id, bucket)
    WHERE c.worker_id = t.worker_id AND c.bucket = t.bucket
      AND (c.first, c.retry, c.running, c.done, c.failed, c.cancelled) = (0, 0, 0, 0, 0, 0)";

const ADD_SERIES: &str = "
    INSERT INTO series AS s (minute, worker_id, submitted, completed, died, retried)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    ON CONFLICT (minute, worker_id) DO UPDATE SET
        submitted = s.submitted + excluded.submitted, completed = s.completed + excluded.completed,
        died = s.died + excluded.died, retried = s.retried + excluded.retried";

/// Any server may fold at any time: a delta is taken by one of them, and added in the same transaction.
pub(super) async fn fold(store: &PostgresStore, limit: u32) -> StoreResult<u64> {
    let mut tx = store.begin().await?;
    // One folder at a time, or two that add to the same counters would wait for each other crosswise.
    let first: bool =
        sqlx::query_scalar("SELECT pg_try_advisory_xact_lock(hashtext('jobqueue_fold'))").fetch_one(&mut *tx).await?;
    if !first {
        return Ok(0);
    }
    let from = store.folded.from();
    let rows: Vec<DeltaRow> = sqlx::query_as(TAKE_DELTAS).bind(i64::from(limit)).bind(from).fetch_all(&mut *tx).await?;
    let Some(last) = rows.iter().map(|row| row.id).max() else { return Ok(0) };
    let mut counters: HashMap<(&str, i64), [i64; 6]> = HashMap::new();
    let mut series: HashMap<(i64, &str), [i64; 4]> = HashMap::new();
    for row in &rows {
        let gauges = [row.first, row.retry, row.running, row.done, row.failed, row.cancelled];
        add(counters.entry((&row.worker_id, row.bucket)).or_default(), gauges);
        let events = [row.submitted, row.completed, row.died, row.retried];
        if events != [0; 4] {
            add(series.entry((row.minute, &row.worker_id)).or_default(), events);
        }
    }
    let worker_ids: Vec<_> = counters.keys().map(|(worker_id, _)| *worker_id).collect();
    let buckets: Vec<_> = counters.keys().map(|(_, bucket)| *bucket).collect();
    let column = |n: usize| counters.values().map(|sums| sums[n]).collect::<Vec<_>>();
    sqlx::query(ADD_COUNTERS)
        .bind(&worker_ids)
        .bind(&buckets)
        .bind(column(0))
        .bind(column(1))
        .bind(column(2))
        .bind(column(3))
        .bind(column(4))
        .bind(column(5))
        .execute(&mut *tx)
        .await?;
    sqlx::query(FORGET_EMPTY_COUNTERS).bind(&worker_ids).bind(&buckets).execute(&mut *tx).await?;
    let column = |n: usize| series.values().map(|sums| sums[n]).collect::<Vec<_>>();
    sqlx::query(ADD_SERIES)
        .bind(series.keys().map(|(minute, _)| *minute).collect::<Vec<_>>())
        .bind(series.keys().map(|(_, worker_id)| *worker_id).collect::<Vec<_>>())
        .bind(column(0))
        .bind(column(1))
        .bind(column(2))
        .bind(column(3))
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    store.folded.up_to(last);
    Ok(rows.len() as u64)
}

/// Up to which delta this server has folded. From there on the next turn looks: what is folded stays in the way, dead,
/// as long as somebody holds an old snapshot. Transactions that began earlier may commit below it, so some turns look
/// from the start.
#[derive(Debug, Default)]
pub(super) struct Folded {
    up_to: AtomicI64,
    turns: AtomicU32,
}

/// At most one of these many turns walks what is dead.
const FROM_THE_START: u32 = 30;

impl Folded {
    fn from(&self) -> i64 {
        if self.turns.fetch_add(1, Ordering::Relaxed).is_multiple_of(FROM_THE_START) {
            return i64::MIN;
        }
        self.up_to.load(Ordering::Relaxed)
    }

    fn up_to(&self, last: i64) {
        self.up_to.fetch_max(last, Ordering::Relaxed);
    }
}

/// About a MiB of new pages, gone at the commit, and a change of a row, in the log.
const TRY_WRITE: &str = "
    CREATE TEMPORARY TABLE jobqueue_room ON COMMIT DROP AS SELECT n FROM generate_series(1, 30000) AS t(n);
    UPDATE schema_compat SET min_server_level = min_server_level";

pub(super) async fn try_write(store: &PostgresStore) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    sqlx::raw_sql(TRY_WRITE).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}

fn add<const N: usize>(sums: &mut [i64; N], more: [i32; N]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += i64::from(more);
    }
}
