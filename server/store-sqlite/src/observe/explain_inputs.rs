//! Explain inputs: the counts and times on which the start of a pending job depends.

use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    rows::counts::ExplainInputsRow,
    types::{ExplainInputs, JobRecord},
};

use crate::SqliteStore;

/// Reads the explain inputs of a job. Jobs ahead of it are read backwards from its position in the index, one index
/// range for each priority, and no further than they are counted. A session that lists no tasks, or "*", handles all.
/// SQLite has no LATERAL, so each priority is counted by itself.
const EXPLAIN_INPUTS: &str = "
    WITH RECURSIVE p(priority) AS (SELECT 0 UNION ALL SELECT priority + 1 FROM p WHERE priority < ?3), live AS (
        SELECT s.draining, s.slots,
               NOT s.draining
                   AND (s.tasks = '[]' OR EXISTS (SELECT 1 FROM json_each(s.tasks) WHERE value IN (?2, '*'))) AS handles,
               (SELECT coalesce(sum(length(c.ids)), 0) / 16 FROM claims c WHERE c.session_id = s.id) AS held
        FROM sessions s
        WHERE s.worker_id = ?1 AND s.ended_at IS NULL AND s.expires_at > ?7
    ), sums AS (
        SELECT count(*) FILTER (WHERE NOT draining) AS sessions, count(*) FILTER (WHERE draining) AS draining,
               count(*) FILTER (WHERE handles) AS handling,
               coalesce(sum(slots) FILTER (WHERE handles), 0) AS slots,
               coalesce(sum(held) FILTER (WHERE handles), 0) AS held
        FROM live
    ), bounds AS MATERIALIZED (
        SELECT p.priority,
               CASE WHEN p.priority = ?3 THEN ?4 ELSE ?7 + 1 END AS run_at,
               CASE WHEN p.priority = ?3 THEN ?5 ELSE x'' END AS id
        FROM p
        WHERE ?4 <= ?7
    )
    SELECT ?7 AS now, w.paused_at, w.reason AS pause_reason, sums.sessions, sums.draining, sums.handling, sums.slots, sums.held,
           (SELECT max(at) FROM (
               SELECT max(s.heartbeat_at) AS at FROM sessions s WHERE s.worker_id = ?1 AND s.ended_at IS NULL
               UNION ALL
               SELECT * FROM (SELECT s.heartbeat_at FROM sessions s WHERE s.worker_id = ?1 AND s.ended_at IS NOT NULL
                              ORDER BY s.ended_at DESC LIMIT 1)
           )) AS last_seen,
           (SELECT coalesce(sum((SELECT count(*) FROM (
               SELECT 1 FROM ready
               WHERE ready.worker_id = ?1 AND ready.priority = bounds.priority
                 AND (ready.run_at, ready.id) < (bounds.run_at, bounds.id)
               ORDER BY ready.run_at DESC, ready.id DESC LIMIT ?6
           ))), 0) FROM bounds) AS ahead
    FROM sums LEFT JOIN pauses w ON w.worker_id = ?1";

pub(crate) async fn explain_inputs(store: &SqliteStore, job: &JobRecord) -> StoreResult<ExplainInputs> {
    let row: ExplainInputsRow = sqlx::query_as(EXPLAIN_INPUTS)
        .bind(&job.worker_id)
        .bind(&job.task)
        .bind(i64::from(job.priority))
        .bind(job.run_at_ms)
        .bind(job.id)
        .bind(i64::from(limits::AHEAD))
        .bind(store.clock.now_ms())
        .fetch_one(&store.readers)
        .await?;
    Ok(row.into())
}
