//! Jobs that wait for a session that handles their task, because a session that does not handle it has given them back.
//! A session that handles the task may take them before they are due.
//!
//! A session that lists no tasks, or "*", handles all.

use std::collections::HashMap;

use jobqueue_store::{
    error::StoreResult,
    leases,
    rows::{job::TakenRow, session::parse_tasks},
    settle::{claim::RetryColumns, decision},
    types::handles_all,
};
use uuid::Uuid;

use crate::{Tx, pair_list};

const READ_FOREIGN_TASKS: &str = "
    WITH t AS MATERIALIZED (
        SELECT unhex(substr(value, 1, 32)) AS session_id, unhex(substr(value, 33, 32)) AS job_id FROM json_each(?1)
    )
    SELECT j.id, j.task FROM t JOIN jobs j ON j.id = t.job_id JOIN sessions s ON s.id = t.session_id
    WHERE s.tasks <> '[]' AND NOT EXISTS (SELECT 1 FROM json_each(s.tasks) WHERE value IN (j.task, '*'))";

pub(crate) async fn read_foreign_tasks(
    tx: &mut Tx,
    without_handler: &[(Uuid, Uuid)],
    columns: &mut HashMap<Uuid, RetryColumns>,
) -> StoreResult<()> {
    if without_handler.is_empty() {
        return Ok(());
    }
    let asked = pair_list(without_handler.iter().map(|(session_id, job_id)| [*session_id, *job_id]));
    let rows: Vec<(Uuid, String)> = sqlx::query_as(READ_FOREIGN_TASKS).bind(asked).fetch_all(&mut *tx).await?;
    decision::set_foreign_tasks(columns, rows);
    Ok(())
}

/// Tasks that jobs of a worker_id are kept for, one index probe each; at most 1,000, so that an acquire stays short.
const KEPT_TASKS: &str = "
    WITH RECURSIVE kept(task) AS (
        SELECT min(for_task) FROM ready WHERE worker_id = ?1 AND for_task IS NOT NULL
        UNION ALL
        SELECT (SELECT min(for_task) FROM ready WHERE worker_id = ?1 AND for_task > kept.task)
        FROM kept WHERE kept.task IS NOT NULL
    )
    SELECT task FROM kept WHERE task IS NOT NULL LIMIT 1000";

/// Tasks that a session lists and that jobs of its worker_id are kept for.
const KEPT_OF_LISTED: &str = "
    SELECT DISTINCT listed.value FROM json_each(?2) AS listed
    WHERE EXISTS (SELECT 1 FROM ready WHERE ready.worker_id = ?1 AND ready.for_task = listed.value)";

/// Finds jobs that are kept for a task, with one index range.
const FIND: &str = "
    SELECT id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, inline_job FROM ready
    WHERE worker_id = ?1 AND for_task = ?3 ORDER BY priority, run_at, id LIMIT ?2";

const TAKE: &str = "DELETE FROM ready WHERE worker_id = ?1 AND priority = ?2 AND run_at = ?3 AND id = ?4";

/// Takes up to `most` jobs for a session of this worker_id.
pub(crate) async fn take(
    tx: &mut Tx,
    session_id: Uuid,
    worker_id: &str,
    most: u64,
    reply_bytes: usize,
) -> StoreResult<Vec<TakenRow>> {
    let stored: String =
        sqlx::query_scalar("SELECT tasks FROM sessions WHERE id = ?1").bind(session_id).fetch_one(&mut *tx).await?;
    let tasks = if handles_all(&parse_tasks(&stored)?) {
        sqlx::query_scalar(KEPT_TASKS).bind(worker_id)
    } else {
        sqlx::query_scalar(KEPT_OF_LISTED).bind(worker_id).bind(stored)
    };
    let tasks: Vec<String> = tasks.fetch_all(&mut *tx).await?;
    let mut found: Vec<TakenRow> = Vec::new();
    for task in tasks {
        let of_task = sqlx::query_as(FIND).bind(worker_id).bind(most as i64).bind(task);
        found.append(&mut of_task.fetch_all(&mut *tx).await?);
    }
    found.sort_unstable_by_key(|row| (row.priority, row.run_at, row.id));
    found.truncate(most as usize);
    leases::cut_to_reply(&mut found, reply_bytes);
    for row in &found {
        sqlx::query(TAKE).bind(worker_id).bind(row.priority).bind(row.run_at).bind(row.id).execute(&mut *tx).await?;
    }
    Ok(found)
}
