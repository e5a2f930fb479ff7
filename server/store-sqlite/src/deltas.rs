//! Counter changes, as every transaction writes them.

use jobqueue_store::{
    error::StoreResult,
    rows::write::{Delta, Deltas},
};
use sqlx::QueryBuilder;

use crate::{Tx, batches};

const INSERT_COUNTERS: &str =
    "INSERT INTO counters AS c (worker_id, bucket, first_attempt, retry, running, done, failed, cancelled) ";
const OR_ADD_TO_COUNTERS: &str = " ON CONFLICT (worker_id, bucket) DO UPDATE SET
        first_attempt = c.first_attempt + excluded.first_attempt, retry = c.retry + excluded.retry, running = c.running + excluded.running,
        done = c.done + excluded.done, failed = c.failed + excluded.failed, cancelled = c.cancelled + excluded.cancelled";

const FORGET_EMPTY_COUNTER: &str = "
    DELETE FROM counters WHERE worker_id = ?1 AND bucket = ?2
      AND (first_attempt, retry, running, done, failed, cancelled) = (0, 0, 0, 0, 0, 0)";

const INSERT_SERIES: &str = "INSERT INTO series AS s (minute, worker_id, submitted, completed, died, retried) ";
const OR_ADD_TO_SERIES: &str = " ON CONFLICT (minute, worker_id) DO UPDATE SET
        submitted = s.submitted + excluded.submitted, completed = s.completed + excluded.completed,
        died = s.died + excluded.died, retried = s.retried + excluded.retried";

fn gauges(delta: &Delta) -> [i32; 6] {
    [delta.first_attempt, delta.retry, delta.running, delta.done, delta.failed, delta.cancelled]
}

fn events(delta: &Delta) -> [i32; 4] {
    [delta.submitted, delta.completed, delta.died, delta.retried]
}

/// Adds changes to counters and minutes in place: with one writer, no transaction waits for a counter.
pub(crate) async fn write_deltas(tx: &mut Tx, deltas: &Deltas, now: i64) -> StoreResult<()> {
    let counters: Vec<_> = deltas.rows().filter(|(.., delta)| gauges(delta) != [0; 6]).collect();
    for counters in batches(&counters) {
        let mut query = QueryBuilder::new(INSERT_COUNTERS);
        query.push_values(counters, |mut row, (worker_id, bucket, delta)| {
            row.push_bind(*worker_id).push_bind(*bucket);
            for gauge in gauges(delta) {
                row.push_bind(gauge);
            }
        });
        query.push(OR_ADD_TO_COUNTERS).build().execute(&mut *tx).await?;
    }
    // A bucket other than 0 is kept only while jobs wait in it.
    for (worker_id, bucket, _) in counters.iter().filter(|(_, bucket, _)| *bucket != 0) {
        sqlx::query(FORGET_EMPTY_COUNTER).bind(worker_id).bind(bucket).execute(&mut *tx).await?;
    }
    let series: Vec<_> = deltas.rows().filter(|(.., delta)| events(delta) != [0; 4]).collect();
    for series in batches(&series) {
        let mut query = QueryBuilder::new(INSERT_SERIES);
        query.push_values(series, |mut row, (worker_id, _, delta)| {
            row.push_bind(now.div_euclid(60_000)).push_bind(*worker_id);
            for event in events(delta) {
                row.push_bind(event);
            }
        });
        query.push(OR_ADD_TO_SERIES).build().execute(&mut *tx).await?;
    }
    Ok(())
}
