//! Jobs that wait for a session that handles their task, because a session that does not handle it has given them back.
//! A session that handles the task may take them before they are due.
//!
//! A session that lists no tasks, or "*", handles all.

use std::collections::HashMap;

use jobqueue_store::{
    error::StoreResult,
    rows::{job::TakenRow, session::parse_tasks},
    settle::{claim::RetryColumns, decision},
    types::handles_all,
};
use sqlx::FromRow as _;
use uuid::Uuid;

use crate::{Tx, acquire::dequeue::Dequeue};

const READ_FOREIGN_TASKS: &str = "
    SELECT j.id, j.task FROM unnest($1::uuid[], $2::uuid[]) AS t(session_id, job_id)
    CROSS JOIN LATERAL (SELECT id, task FROM jobs WHERE jobs.id = t.job_id LIMIT 1) AS j
    JOIN sessions s ON s.id = t.session_id
    WHERE s.tasks <> '[]' AND NOT s.tasks::jsonb ?| ARRAY[j.task, '*']";

pub(crate) async fn read_foreign_tasks(
    tx: &mut Tx,
    without_handler: &[(Uuid, Uuid)],
    columns: &mut HashMap<Uuid, RetryColumns>,
) -> StoreResult<()> {
    if without_handler.is_empty() {
        return Ok(());
    }
    let (sessions, jobs): (Vec<_>, Vec<_>) = without_handler.iter().copied().unzip();
    let rows: Vec<(Uuid, String)> =
        sqlx::query_as(READ_FOREIGN_TASKS).bind(sessions).bind(jobs).fetch_all(&mut **tx).await?;
    decision::set_foreign_tasks(columns, rows);
    Ok(())
}

/// Tasks that jobs of a worker_id are kept for, one index probe each; at most 1,000, so that an acquire stays short.
const KEPT_TASKS: &str = "
    WITH RECURSIVE kept(task) AS (
        SELECT min(for_task) FROM ready WHERE worker_id = $1 AND for_task IS NOT NULL
        UNION ALL
        SELECT (SELECT min(for_task) FROM ready WHERE worker_id = $1 AND for_task > kept.task)
        FROM kept WHERE kept.task IS NOT NULL
    )
    SELECT task FROM kept WHERE task IS NOT NULL LIMIT 1000";

/// Takes jobs that are kept for tasks, with one index range for each task: as many as fit into the answer, $4 bytes, but
/// at least one.
const TAKE: &str = "
    WITH found AS MATERIALIZED (
        SELECT r.* FROM unnest($2::text[]) AS t(task), LATERAL (
            SELECT ctid AS tid, priority, run_at, id, payload_bytes FROM ready
            WHERE ready.worker_id = $1 AND ready.for_task = t.task
            ORDER BY priority, run_at, id LIMIT $3 FOR UPDATE SKIP LOCKED
        ) AS r
        ORDER BY r.priority, r.run_at, r.id LIMIT $3
    ), sized AS (
        SELECT tid, row_number() OVER in_order AS n, sum(payload_bytes) OVER in_order AS bytes
        FROM found WINDOW in_order AS (ORDER BY priority, run_at, id)
    )
    DELETE FROM ready WHERE ctid = ANY(ARRAY(SELECT tid FROM sized WHERE bytes <= $4 OR n = 1))
    RETURNING id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, inline_job";

/// Adds jobs to those taken for a session. They are not due, so that the scan cursors of their priorities stay.
pub(crate) async fn take(tx: &mut Tx, look: &mut Dequeue<'_>) -> StoreResult<()> {
    let Some(session) = look.taker() else { return Ok(()) };
    let most = look.room(session).min(i64::from(look.request.max_jobs));
    let tasks: String = sqlx::query_scalar("SELECT tasks FROM sessions WHERE id = $1")
        .bind(look.request.session_id)
        .fetch_one(&mut **tx)
        .await?;
    let mut tasks = parse_tasks(&tasks)?;
    if handles_all(&tasks) {
        tasks = sqlx::query_scalar(KEPT_TASKS).bind(&session.worker_id).fetch_all(&mut **tx).await?;
    }
    tasks.sort_unstable();
    tasks.dedup();
    let rows = sqlx::query(TAKE)
        .bind(&session.worker_id)
        .bind(tasks)
        .bind(most.max(0))
        .bind(look.reply_bytes as i64)
        .fetch_all(&mut **tx)
        .await?;
    for row in &rows {
        look.taken.push(TakenRow::from_row(row)?);
    }
    look.taken.sort_unstable_by_key(|row| (row.priority, row.run_at, row.id));
    look.early = true;
    Ok(())
}
