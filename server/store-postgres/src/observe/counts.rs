//! Counts of jobs by state, and of events by minute.

use jobqueue_shared::limits::LATELY_MINUTES;
use jobqueue_store::{
    error::StoreResult,
    rows::counts::{CountRow, MinuteRow, SlotRow},
    types::{MinuteCounts, SlotCounts, WorkerIdCounts},
};

use crate::PostgresStore;

/// Counters plus the deltas that are not yet compacted, in one statement and so as of one moment. A worker_id is listed
/// while it has jobs or live sessions, or is paused. Deltas are read from the low watermark on, and the oldest runnable
/// job is searched from the scan cursors: dead rows behind an old snapshot are walked neither here nor by acquires.
const COUNTS: &str = "
    WITH clock AS MATERIALIZED (SELECT now_ms() AS now), sums AS (
        SELECT all_counts.worker_id,
               sum(first_attempt + retry) AS pending,
               sum(first_attempt) FILTER (WHERE bucket > clock.now) AS scheduled,
               sum(retry) FILTER (WHERE bucket > clock.now) AS retrying,
               sum(running) AS running, sum(done) AS done, sum(failed) AS failed, sum(cancelled) AS cancelled,
               sum(died) FILTER (WHERE minute > clock.now / 60000 - $4) AS failed_lately
        FROM (
            SELECT worker_id, bucket, first_attempt, retry, running, done, failed, cancelled, 0 AS minute, 0 AS died
            FROM counters
            UNION ALL
            SELECT worker_id, bucket, first_attempt, retry, running, done, failed, cancelled, minute, died FROM deltas
            WHERE id > (SELECT up_to FROM delta_watermark)
            UNION ALL
            SELECT worker_id, 0, 0, 0, 0, 0, 0, 0, minute, died FROM series
            WHERE minute > (SELECT now / 60000 - $4 FROM clock)
        ) AS all_counts, clock
        GROUP BY all_counts.worker_id
    ), live AS (
        SELECT worker_id, count(*) AS sessions FROM sessions, clock
        WHERE ended_at IS NULL AND expires_at > clock.now GROUP BY worker_id
    )
    SELECT worker_id,
           coalesce(pending, 0)::bigint AS pending, coalesce(scheduled, 0)::bigint AS scheduled,
           coalesce(retrying, 0)::bigint AS retrying, coalesce(running, 0)::bigint AS running,
           coalesce(done, 0)::bigint AS done, coalesce(failed, 0)::bigint AS failed,
           coalesce(failed_lately, 0)::bigint AS failed_lately, coalesce(cancelled, 0)::bigint AS cancelled,
           CASE WHEN pending > 0 THEN (
               SELECT min(r.run_at) FROM generate_series(0, 9) AS p(priority), LATERAL (
                   SELECT ready.run_at FROM ready, clock
                   WHERE ready.worker_id = sums.worker_id AND ready.priority = p.priority::smallint
                     AND ready.run_at <= clock.now
                     AND (ready.run_at, ready.id) > (coalesce(($2::bigint[])[(scan_cursors.n - 1) * 10 + p.priority + 1], -1),
                          coalesce(($3::uuid[])[(scan_cursors.n - 1) * 10 + p.priority + 1], '00000000-0000-0000-0000-000000000000'))
                   ORDER BY ready.run_at, ready.id LIMIT 1
               ) AS r
           ) END AS oldest_runnable,
           coalesce(sessions, 0) AS sessions, paused_at, reason AS pause_reason
    FROM sums FULL JOIN live USING (worker_id) FULL JOIN pauses USING (worker_id)
         LEFT JOIN unnest($1::text[]) WITH ORDINALITY AS scan_cursors(worker_id, n) USING (worker_id)
    WHERE paused_at IS NOT NULL OR sessions > 0 OR pending <> 0 OR running <> 0 OR done <> 0 OR failed <> 0 OR cancelled <> 0
    ORDER BY worker_id COLLATE \"C\"";

pub(crate) async fn counts(store: &PostgresStore) -> StoreResult<Vec<WorkerIdCounts>> {
    let (worker_ids, scan_cursors): (Vec<_>, Vec<_>) = store.scan_cursors.all(store.clock.now_ms()).into_iter().unzip();
    let rows: Vec<CountRow> = sqlx::query_as(COUNTS)
        .bind(worker_ids)
        .bind(scan_cursors.iter().flatten().map(|(run_at, _)| *run_at).collect::<Vec<_>>())
        .bind(scan_cursors.iter().flatten().map(|(_, id)| *id).collect::<Vec<_>>())
        .bind(LATELY_MINUTES)
        .fetch_all(&store.pool)
        .await?;
    Ok(rows.into_iter().map(WorkerIdCounts::from).collect())
}

const THROUGHPUT: &str = "
    SELECT minute, sum(submitted)::bigint AS submitted, sum(completed)::bigint AS done, sum(died)::bigint AS failed,
           sum(retried)::bigint AS retried
    FROM (
        SELECT minute, worker_id, submitted, completed, died, retried FROM series WHERE minute >= $2
        UNION ALL
        SELECT minute, worker_id, submitted, completed, died, retried FROM deltas
        WHERE id > (SELECT up_to FROM delta_watermark) AND minute >= $2
    ) AS all_minutes
    WHERE $1::text IS NULL OR worker_id = $1
    GROUP BY minute
    HAVING sum(submitted) + sum(completed) + sum(died) + sum(retried) > 0
    ORDER BY minute";

pub(crate) async fn throughput(
    store: &PostgresStore,
    worker_id: Option<&str>,
    from_minute: i64,
) -> StoreResult<Vec<MinuteCounts>> {
    let rows: Vec<MinuteRow> =
        sqlx::query_as(THROUGHPUT).bind(worker_id).bind(from_minute).fetch_all(&store.pool).await?;
    Ok(rows.into_iter().map(MinuteCounts::from).collect())
}

const THROUGHPUTS: &str = "
    SELECT worker_id, minute / $3 * $3 AS minute, sum(submitted)::bigint AS submitted, sum(completed)::bigint AS done,
           sum(died)::bigint AS failed, sum(retried)::bigint AS retried
    FROM (
        SELECT minute, worker_id, submitted, completed, died, retried FROM series WHERE minute >= $2
        UNION ALL
        SELECT minute, worker_id, submitted, completed, died, retried FROM deltas
        WHERE id > (SELECT up_to FROM delta_watermark) AND minute >= $2
    ) AS all_minutes
    WHERE worker_id = ANY($1::text[])
    GROUP BY worker_id, minute / $3
    HAVING sum(submitted) + sum(completed) + sum(died) + sum(retried) > 0
    ORDER BY worker_id COLLATE \"C\", minute / $3";

pub(crate) async fn throughputs(
    store: &PostgresStore,
    worker_ids: &[String],
    from_minute: i64,
    step: u32,
) -> StoreResult<Vec<SlotCounts>> {
    let rows: Vec<SlotRow> = sqlx::query_as(THROUGHPUTS)
        .bind(worker_ids)
        .bind(from_minute)
        .bind(i64::from(step))
        .fetch_all(&store.pool)
        .await?;
    Ok(rows.into_iter().map(SlotCounts::from).collect())
}
