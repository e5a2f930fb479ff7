//! One error group with what its page shows.

use jobqueue_shared::limits;
use jobqueue_store::{
    error::{StoreError, StoreResult},
    error_groups::details::{self, DetailRows, SampleRow, WorkerIdRow},
    types::{ErrorGroupDetails, ErrorGroupId, ErrorGroupQuery, ErrorWindow},
};

use super::list;
use crate::SqliteStore;

const WORKER_IDS: &str = "
    SELECT worker_id, attempts, dead_letters, last_seen FROM error_worker_ids WHERE fingerprint = ?1
    ORDER BY attempts DESC, worker_id LIMIT ?2";

const SAMPLE: &str = "SELECT error, job_id, last_seen AS at FROM error_groups WHERE fingerprint = ?1";

/// Number of jobs among the next ?3 of these worker_ids that wait for a time, whose last failed attempt belongs to the
/// group; and the number examined. SQLite has no LATERAL: the index is read by worker_id and priority, as far as the
/// LIMIT.
const RETRYING: &str = "
    WITH RECURSIVE p(priority) AS (SELECT 0 UNION ALL SELECT priority + 1 FROM p WHERE priority < 9), waiting AS MATERIALIZED (
        SELECT r.id, r.attempts_used FROM json_each(?2) AS w CROSS JOIN p CROSS JOIN ready r
        ON r.worker_id = w.value AND r.priority = p.priority AND r.run_at > ?4
        LIMIT ?3
    )
    SELECT count(CASE WHEN attempts_used > 0 AND (
               SELECT a.fingerprint FROM attempts a WHERE a.job_id = waiting.id AND a.outcome <= 3
               ORDER BY a.run_no DESC, a.ended_at DESC LIMIT 1) = ?1 THEN 1 END), count(*)
    FROM waiting";

/// Reads a group on one snapshot.
pub(crate) async fn error_group(
    store: &SqliteStore,
    id: ErrorGroupId,
    window: ErrorWindow,
) -> StoreResult<Option<ErrorGroupDetails>> {
    let mut tx = store.readers.begin().await?;
    let now = store.clock.now_ms();
    let query = ErrorGroupQuery { window, ..ErrorGroupQuery::default() };
    let rows = list::rows(&mut tx, &query, Some(id.0), now).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let read = list::page_rows(&mut tx, &[id.0], window, None, now).await?;
    let worker_ids: Vec<WorkerIdRow> =
        sqlx::query_as(WORKER_IDS).bind(id.0).bind(limits::ERROR_GROUP_WORKER_IDS as i64).fetch_all(&mut *tx).await?;
    let names: Vec<_> = worker_ids.iter().map(|row| row.worker_id.as_str()).collect();
    let names = serde_json::to_string(&names).map_err(|error| StoreError::Data(error.to_string()))?;
    let sample: Option<SampleRow> = sqlx::query_as(SAMPLE).bind(id.0).fetch_optional(&mut *tx).await?;
    let (retrying, examined) = sqlx::query_as(RETRYING)
        .bind(id.0)
        .bind(names)
        .bind(i64::from(limits::RETRYING_EXAMINED))
        .bind(now)
        .fetch_one(&mut *tx)
        .await?;
    let more = DetailRows { died: read.slots.clone(), worker_ids, sample, retrying, examined };
    let group = details::groups(rows, read, window, now).into_iter().next();
    Ok(group.map(|group| details::details(group, more, window, now)))
}
