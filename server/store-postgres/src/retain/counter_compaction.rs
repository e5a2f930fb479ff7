//! Counter compaction: adds counter deltas to the totals, and raises the low watermark below which no deltas are left.
//!
//! While an old snapshot is held, deltas that were added stay in the table as dead rows. Readers of deltas therefore
//! begin behind the low watermark, `delta_watermark.up_to`: no delta at or below it will ever become visible.
//!
//! Every turn moves all visible deltas into the totals; only the watermark waits. Transactions take ids in the order in
//! which they insert, but commit in another order, so one turn notes the newest id and the transactions that may have
//! taken an id and have not ended. A later turn, when all of these have ended, raises the watermark to that id in the
//! transaction that moves the deltas up to it.

use std::collections::HashMap;

use jobqueue_store::error::StoreResult;
use parking_lot::Mutex;
use sqlx::FromRow;

use crate::{PostgresStore, Tx};

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

/// The next low watermark, valid when all transactions have ended that may have written at or below it.
#[derive(Clone, Debug)]
struct NextWatermark {
    up_to: i64,
    /// Virtual ids of these transactions.
    writers: Vec<String>,
    /// Start time of the PostgreSQL server in which the watermark was noted. In another one the newest id may be lower.
    started: String,
}

#[derive(Debug, Default)]
pub(crate) struct Compaction(Mutex<Option<NextWatermark>>);

impl Compaction {
    fn next_watermark(&self) -> Option<NextWatermark> {
        self.0.lock().clone()
    }

    fn set(&self, next: NextWatermark) {
        *self.0.lock() = Some(next);
    }
}

/// Virtual ids of transactions that may be inserting deltas. A transaction holds this lock from before it takes an id
/// until after its commit is visible.
macro_rules! writers {
    () => {
        "SELECT virtualtransaction FROM pg_locks
         WHERE locktype = 'relation' AND relation = 'deltas'::regclass AND mode = 'RowExclusiveLock'
           AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
           AND pid IS DISTINCT FROM pg_backend_pid()"
    };
}

/// Begins a turn. Its advisory lock lets one server compact at a time: two that add to the same counters would wait for
/// each other crosswise.
const BEGIN_TURN: &str = concat!(
    "SELECT pg_try_advisory_xact_lock(hashtext('jobqueue_compact ' || current_schema())), (SELECT up_to FROM delta_watermark),
            pg_postmaster_start_time()::text, NOT EXISTS (SELECT FROM (",
    writers!(),
    ") AS writers WHERE virtualtransaction = ANY($1))"
);

const SET_WATERMARK: &str = "
    UPDATE delta_watermark SET up_to = $1
    WHERE up_to < $1 AND NOT EXISTS (SELECT FROM deltas WHERE id > up_to AND id <= $1)";

const NEWEST_ID: &str = "SELECT pg_sequence_last_value(pg_get_serial_sequence('deltas', 'id')::regclass)";

/// Notes the newest id, and only then the transactions that may have taken it.
async fn note(tx: &mut Tx, started: String) -> StoreResult<NextWatermark> {
    let up_to = sqlx::query_scalar(NEWEST_ID).fetch_one(&mut **tx).await?;
    let writers = sqlx::query_scalar(writers!()).fetch_all(&mut **tx).await?;
    Ok(NextWatermark { up_to, writers, started })
}

/// Compacts up to `limit` deltas, and returns their number. Any server may do so at any time: a delta is taken by one
/// of them, and added in the same transaction.
pub(crate) async fn compact_counters(store: &PostgresStore, limit: u32) -> StoreResult<u64> {
    let mut tx = store.begin().await?;
    let next = store.compaction.next_watermark();
    let writers = next.as_ref().map(|next| next.writers.as_slice());
    let (mine, mark, started, ended): (bool, i64, String, bool) =
        sqlx::query_as(BEGIN_TURN).bind(writers).fetch_one(&mut *tx).await?;
    if !mine {
        return Ok(0);
    }
    let next = next.filter(|next| next.started == started);
    let rows: Vec<DeltaRow> = sqlx::query_as(TAKE_DELTAS).bind(i64::from(limit)).bind(mark).fetch_all(&mut *tx).await?;
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
    let next = match next {
        Some(next) if !ended || rows.len() == limit as usize => next,
        next => {
            if let Some(next) = next {
                sqlx::query(SET_WATERMARK).bind(next.up_to).execute(&mut *tx).await?;
            }
            note(&mut tx, started).await?
        }
    };
    tx.commit().await?;
    store.compaction.set(next);
    Ok(rows.len() as u64)
}

fn add<const N: usize>(sums: &mut [i64; N], more: [i32; N]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += i64::from(more);
    }
}
