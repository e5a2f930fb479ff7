//! Explain inputs: the counts and times on which the start of a pending job depends.

use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    rows::counts::ExplainInputsRow,
    types::{ExplainInputs, JobRecord},
};

use crate::PostgresStore;

/// Reads the explain inputs of a job. Jobs ahead of it are read backwards from its position in the index, one index
/// range for each priority, and no further than they are counted. A session that lists no tasks, or "*", handles all.
const EXPLAIN_INPUTS: &str = "
    WITH clock AS MATERIALIZED (SELECT now_ms() AS now), live AS (
        SELECT s.draining, s.slots,
               NOT s.draining AND (s.tasks = '[]' OR s.tasks::jsonb ?| ARRAY[$2, '*']) AS handles,
               (SELECT coalesce(sum(octet_length(c.ids)), 0) / 16 FROM claims c WHERE c.session_id = s.id) AS held
        FROM sessions s, clock
        WHERE s.worker_id = $1 AND s.ended_at IS NULL AND s.expires_at > clock.now
    ), sums AS (
        SELECT count(*) FILTER (WHERE NOT draining) AS sessions, count(*) FILTER (WHERE draining) AS draining,
               count(*) FILTER (WHERE handles) AS handling,
               coalesce(sum(slots) FILTER (WHERE handles), 0)::bigint AS slots,
               coalesce(sum(held) FILTER (WHERE handles), 0)::bigint AS held
        FROM live
    ), bounds AS MATERIALIZED (
        SELECT p.priority::smallint AS priority,
               CASE WHEN p.priority = $3 THEN $4 ELSE clock.now + 1 END AS run_at,
               CASE WHEN p.priority = $3 THEN $5 ELSE '00000000-0000-0000-0000-000000000000'::uuid END AS id
        FROM clock, generate_series(0, $3) AS p(priority)
        WHERE $4 <= clock.now
    )
    SELECT clock.now, w.paused_at, w.reason AS pause_reason, sums.sessions, sums.draining, sums.handling, sums.slots, sums.held,
           greatest(
               (SELECT max(s.heartbeat_at) FROM sessions s WHERE s.worker_id = $1 AND s.ended_at IS NULL),
               (SELECT s.heartbeat_at FROM sessions s WHERE s.worker_id = $1 AND s.ended_at IS NOT NULL
                ORDER BY s.ended_at DESC LIMIT 1)
           ) AS last_seen,
           (SELECT count(*) FROM (
               SELECT FROM bounds, LATERAL (
                   SELECT FROM ready
                   WHERE ready.worker_id = $1 AND ready.priority = bounds.priority
                     AND (ready.run_at, ready.id) < (bounds.run_at, bounds.id)
                   ORDER BY ready.run_at DESC, ready.id DESC LIMIT $6
               ) AS before
               LIMIT $6
           ) AS counted) AS ahead
    FROM clock CROSS JOIN sums LEFT JOIN pauses w ON w.worker_id = $1";

/// Setting for the query: while the table has no statistics, a bitmap of all jobs ahead looks cheaper than the index.
const BY_INDEX: &str = "; SET LOCAL enable_bitmapscan = off";

pub(crate) async fn explain_inputs(store: &PostgresStore, job: &JobRecord) -> StoreResult<ExplainInputs> {
    let mut tx = store.pool.begin_with("BEGIN READ ONLY", BY_INDEX).await?;
    let row: ExplainInputsRow = sqlx::query_as(EXPLAIN_INPUTS)
        .bind(&job.worker_id)
        .bind(&job.task)
        .bind(i32::from(job.priority))
        .bind(job.run_at_ms)
        .bind(job.id)
        .bind(i64::from(limits::AHEAD))
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(row.into())
}
