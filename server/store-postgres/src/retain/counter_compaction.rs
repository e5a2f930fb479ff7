//! Counter compaction: adds counter deltas to the totals, and raises their low watermark.

use std::collections::HashMap;

use jobqueue_store::error::StoreResult;
use sqlx::FromRow;

use crate::{
    PostgresStore,
    retain::low_watermark::{DeltaTable, delta_table},
};

const DELTAS: DeltaTable = delta_table!("deltas", "delta_watermark", "jobqueue_compact");

#[derive(FromRow)]
struct DeltaRow {
    worker_id: String,
    bucket: i64,
    minute: i64,
    first_attempt: i32,
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
    RETURNING worker_id, bucket, minute, first_attempt, retry, running, done, failed, cancelled, submitted, completed, died, retried";

const ADD_COUNTERS: &str = "
    INSERT INTO counters AS c (worker_id, bucket, first_attempt, retry, running, done, failed, cancelled)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[],
                         $8::bigint[])
    ON CONFLICT (worker_id, bucket) DO UPDATE SET
        first_attempt = c.first_attempt + excluded.first_attempt, retry = c.retry + excluded.retry, running = c.running + excluded.running,
        done = c.done + excluded.done, failed = c.failed + excluded.failed, cancelled = c.cancelled + excluded.cancelled";

const FORGET_EMPTY_COUNTERS: &str = "
    DELETE FROM counters c USING unnest($1::text[], $2::bigint[]) AS t(worker_id, bucket)
    WHERE c.worker_id = t.worker_id AND c.bucket = t.bucket
      AND (c.first_attempt, c.retry, c.running, c.done, c.failed, c.cancelled) = (0, 0, 0, 0, 0, 0)";

const ADD_SERIES: &str = "
    INSERT INTO series AS s (minute, worker_id, submitted, completed, died, retried)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[])
    ON CONFLICT (minute, worker_id) DO UPDATE SET
        submitted = s.submitted + excluded.submitted, completed = s.completed + excluded.completed,
        died = s.died + excluded.died, retried = s.retried + excluded.retried";

/// Compacts up to `limit` deltas, and returns their number. Any server may do so at any time: a delta is taken by one
/// of them, and added in the same transaction.
pub(crate) async fn compact_counters(store: &PostgresStore, limit: u32) -> StoreResult<u64> {
    let mut tx = store.begin().await?;
    let Some(turn) = store.compaction.begin_turn(&mut tx, &DELTAS).await? else { return Ok(0) };
    let rows: Vec<DeltaRow> =
        sqlx::query_as(TAKE_DELTAS).bind(i64::from(limit)).bind(turn.mark).fetch_all(&mut *tx).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut counters: HashMap<(&str, i64), [i64; 6]> = HashMap::new();
    let mut series: HashMap<(i64, &str), [i64; 4]> = HashMap::new();
    for row in &rows {
        let gauges = [row.first_attempt, row.retry, row.running, row.done, row.failed, row.cancelled];
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
    let next = turn.end(&mut tx, &DELTAS, rows.len() < limit as usize).await?;
    tx.commit().await?;
    store.compaction.set(next);
    Ok(rows.len() as u64)
}

fn add<const N: usize>(sums: &mut [i64; N], more: [i32; N]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += i64::from(more);
    }
}
