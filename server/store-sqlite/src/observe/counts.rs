//! Counts of jobs by state, and of events by minute.

use jobqueue_shared::limits::LATELY_MINUTES;
use jobqueue_store::{
    error::{StoreError, StoreResult},
    rows::counts::{CountRow, MinuteRow, SlotRow},
    types::{MinuteCounts, SlotCounts, WorkerIdCounts},
};

use crate::SqliteStore;

/// Counts by worker_id. A worker_id is listed while it has jobs or live sessions, or is paused.
const COUNTS: &str = "
    WITH RECURSIVE p(priority) AS (SELECT 0 UNION ALL SELECT priority + 1 FROM p WHERE priority < 9), sums AS (
        SELECT worker_id,
               sum(first_attempt + retry) AS pending,
               sum(CASE WHEN bucket > ?1 THEN first_attempt ELSE 0 END) AS scheduled,
               sum(CASE WHEN bucket > ?1 THEN retry ELSE 0 END) AS retrying,
               sum(running) AS running, sum(done) AS done, sum(failed) AS failed, sum(cancelled) AS cancelled
        FROM counters GROUP BY worker_id
    ), lately AS (
        SELECT worker_id, sum(died) AS failed_lately FROM series WHERE minute > ?1 / 60000 - ?2 GROUP BY worker_id
    ), live AS (
        SELECT worker_id, count(*) AS sessions FROM sessions
        WHERE ended_at IS NULL AND expires_at > ?1 GROUP BY worker_id
    )
    SELECT worker_id,
           coalesce(pending, 0) AS pending, coalesce(scheduled, 0) AS scheduled, coalesce(retrying, 0) AS retrying,
           coalesce(running, 0) AS running, coalesce(done, 0) AS done, coalesce(failed, 0) AS failed,
           coalesce(failed_lately, 0) AS failed_lately, coalesce(cancelled, 0) AS cancelled,
           CASE WHEN pending > 0 THEN (
               SELECT min((SELECT ready.run_at FROM ready
                           WHERE ready.worker_id = sums.worker_id AND ready.priority = p.priority AND ready.run_at <= ?1
                           ORDER BY ready.run_at LIMIT 1)) FROM p
           ) END AS oldest_runnable,
           coalesce(sessions, 0) AS sessions, paused_at, reason AS pause_reason
    FROM sums FULL JOIN live USING (worker_id) FULL JOIN pauses USING (worker_id)
         LEFT JOIN lately USING (worker_id)
    WHERE paused_at IS NOT NULL OR sessions > 0 OR pending <> 0 OR running <> 0 OR done <> 0 OR failed <> 0 OR cancelled <> 0
    ORDER BY worker_id";

pub(crate) async fn counts(store: &SqliteStore) -> StoreResult<Vec<WorkerIdCounts>> {
    let rows: Vec<CountRow> =
        sqlx::query_as(COUNTS).bind(store.clock.now_ms()).bind(LATELY_MINUTES).fetch_all(&store.readers).await?;
    Ok(rows.into_iter().map(WorkerIdCounts::from).collect())
}

const THROUGHPUT: &str = "
    SELECT minute, sum(submitted) AS submitted, sum(completed) AS done, sum(died) AS failed, sum(retried) AS retried
    FROM series
    WHERE minute >= ?2 AND (?1 IS NULL OR worker_id = ?1)
    GROUP BY minute
    ORDER BY minute";

pub(crate) async fn throughput(
    store: &SqliteStore,
    worker_id: Option<&str>,
    from_minute: i64,
) -> StoreResult<Vec<MinuteCounts>> {
    let rows: Vec<MinuteRow> =
        sqlx::query_as(THROUGHPUT).bind(worker_id).bind(from_minute).fetch_all(&store.readers).await?;
    Ok(rows.into_iter().map(MinuteCounts::from).collect())
}

const THROUGHPUTS: &str = "
    SELECT worker_id, minute / ?3 * ?3 AS minute, sum(submitted) AS submitted, sum(completed) AS done,
           sum(died) AS failed, sum(retried) AS retried
    FROM series
    WHERE minute >= ?2 AND worker_id IN (SELECT value FROM json_each(?1))
    GROUP BY worker_id, minute / ?3
    ORDER BY worker_id, minute / ?3";

pub(crate) async fn throughputs(
    store: &SqliteStore,
    worker_ids: &[String],
    from_minute: i64,
    step: u32,
) -> StoreResult<Vec<SlotCounts>> {
    let worker_ids = serde_json::to_string(worker_ids).map_err(|error| StoreError::Data(error.to_string()))?;
    let rows: Vec<SlotRow> =
        sqlx::query_as(THROUGHPUTS).bind(worker_ids).bind(from_minute).bind(step).fetch_all(&store.readers).await?;
    Ok(rows.into_iter().map(SlotCounts::from).collect())
}
