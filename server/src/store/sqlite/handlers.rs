//! Jobs that wait for a session that handles their task, because a session that does not handle it has given them back.
//! A session that handles the task may take them before they are due.
//!
//! A session that lists no tasks, or "*", handles all.

use std::collections::HashMap;

use uuid::Uuid;

use super::{Tx, pair_list};
use crate::store::{
    claim::RetryFacts,
    error::{StoreError, StoreResult},
    leases,
    rows::job::TakenRow,
    settle_decision::{self},
    types::handles_all,
};

const READ_FOREIGN_TASKS: &str = "
    WITH t AS MATERIALIZED (
        SELECT unhex(substr(value, 1, 32)) AS session_id, unhex(substr(value, 33, 32)) AS job_id FROM json_each(?1)
    )
    SELECT j.id, j.task FROM t JOIN jobs j ON j.id = t.job_id JOIN sessions s ON s.id = t.session_id
    WHERE s.tasks <> '[]' AND NOT EXISTS (SELECT 1 FROM json_each(s.tasks) WHERE value IN (j.task, '*'))";

pub(super) async fn read_foreign_tasks(
    tx: &mut Tx<'_>,
    without_handler: &[(Uuid, Uuid)],
    facts: &mut HashMap<Uuid, RetryFacts>,
) -> StoreResult<()> {
    if without_handler.is_empty() {
        return Ok(());
    }
    let asked = pair_list(without_handler.iter().map(|(session_id, job_id)| [*session_id, *job_id]));
    let rows: Vec<(Uuid, String)> = sqlx::query_as(READ_FOREIGN_TASKS).bind(asked).fetch_all(&mut **tx).await?;
    settle_decision::set_foreign_tasks(facts, rows);
    Ok(())
}

/// Finds jobs for a session that handles all tasks. Their order is by task first, as in the index.
const FIND_ALL: &str = "
    SELECT id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, inline_job FROM ready
    WHERE worker_id = ?1 AND for_task IS NOT NULL ORDER BY for_task, priority, run_at, id LIMIT ?2";

/// Tasks for which jobs wait, of a session that lists its tasks. Each of them is read by one index range.
const WAITING_TASKS: &str = "
    SELECT DISTINCT t.value FROM json_each(?2) AS t
    WHERE EXISTS (SELECT 1 FROM ready WHERE ready.worker_id = ?1 AND ready.for_task = t.value)";
const FIND_OF_TASK: &str = "
    SELECT id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, inline_job FROM ready
    WHERE worker_id = ?1 AND for_task = ?3 ORDER BY priority, run_at, id LIMIT ?2";

const TAKE: &str = "DELETE FROM ready WHERE worker_id = ?1 AND priority = ?2 AND run_at = ?3 AND id = ?4";

/// Takes up to `most` jobs for a session of this worker_id.
pub(super) async fn take(
    tx: &mut Tx<'_>,
    session_id: Uuid,
    worker_id: &str,
    most: u64,
    reply_bytes: usize,
) -> StoreResult<Vec<TakenRow>> {
    let stored: String =
        sqlx::query_scalar("SELECT tasks FROM sessions WHERE id = ?1").bind(session_id).fetch_one(&mut **tx).await?;
    let tasks: Vec<String> =
        serde_json::from_str(&stored).map_err(|error| StoreError::Defect(format!("stored tasks: {error}")))?;
    let mut found: Vec<TakenRow> = Vec::new();
    if handles_all(&tasks) {
        found = sqlx::query_as(FIND_ALL).bind(worker_id).bind(most as i64).fetch_all(&mut **tx).await?;
    } else {
        let waiting: Vec<String> =
            sqlx::query_scalar(WAITING_TASKS).bind(worker_id).bind(stored).fetch_all(&mut **tx).await?;
        for task in waiting {
            let of_task = sqlx::query_as(FIND_OF_TASK).bind(worker_id).bind(most as i64).bind(task);
            found.append(&mut of_task.fetch_all(&mut **tx).await?);
        }
        found.sort_unstable_by_key(|row| (row.priority, row.run_at, row.id));
        found.truncate(most as usize);
    }
    leases::cut_to_reply(&mut found, reply_bytes);
    for row in &found {
        sqlx::query(TAKE).bind(worker_id).bind(row.priority).bind(row.run_at).bind(row.id).execute(&mut **tx).await?;
    }
    found.sort_unstable_by_key(|row| (row.priority, row.run_at, row.id));
    Ok(found)
}
