//! One error group with what its page shows.

use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    error_groups::details::{self, DetailRows, SampleRow, WorkerIdRow},
    types::{ErrorGroupDetails, ErrorGroupId, ErrorGroupQuery, ErrorWindow},
};

use super::list;
use crate::{PostgresStore, Tx};

const WORKER_IDS: &str = "
    SELECT worker_id, sum(attempts)::bigint AS attempts, sum(dead_letters)::bigint AS dead_letters, max(last_seen) AS last_seen
    FROM (
        SELECT worker_id, attempts, dead_letters, last_seen FROM error_worker_ids WHERE fingerprint = $1
        UNION ALL
        SELECT worker_id, attempts, dead_letters, CASE WHEN attempts > 0 THEN at ELSE 0 END FROM error_deltas
        WHERE id > (SELECT up_to FROM error_delta_watermark) AND fingerprint = $1
    ) AS t
    GROUP BY worker_id ORDER BY sum(attempts) DESC, worker_id LIMIT $2";

const SAMPLE: &str = "
    SELECT error, job_id, at FROM (
        SELECT error, job_id, last_seen AS at, 0::bigint AS id FROM error_groups WHERE fingerprint = $1
        UNION ALL
        SELECT error, job_id, at, id FROM error_deltas
        WHERE id > (SELECT up_to FROM error_delta_watermark) AND fingerprint = $1 AND attempts > 0
    ) AS t ORDER BY at DESC, id DESC LIMIT 1";

/// Number of jobs among the next $3 of these worker_ids that wait for a time, whose last failed attempt belongs to the
/// group; and the number examined.
const RETRYING: &str = "
    WITH waiting AS MATERIALIZED (
        SELECT r.id, r.attempts_used FROM unnest($2::text[]) AS w(worker_id), generate_series(0, 9) AS p(priority), LATERAL (
            SELECT id, attempts_used FROM ready
            WHERE ready.worker_id = w.worker_id AND ready.priority = p.priority::smallint AND ready.run_at > $4
            ORDER BY ready.run_at LIMIT $3
        ) AS r
        LIMIT $3
    )
    SELECT count(*) FILTER (WHERE attempts_used > 0 AND (
               SELECT a.fingerprint FROM attempts a WHERE a.job_id = waiting.id AND a.outcome <= 3
               ORDER BY a.run_no DESC, a.ended_at DESC LIMIT 1) = $1), count(*)
    FROM waiting";

/// Reads a group on one snapshot.
pub(crate) async fn error_group(
    store: &PostgresStore,
    id: ErrorGroupId,
    window: ErrorWindow,
) -> StoreResult<Option<ErrorGroupDetails>> {
    let mut tx = store.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "").await?;
    let now = store.clock.now_ms();
    let query = ErrorGroupQuery { window, ..ErrorGroupQuery::default() };
    let rows = list::rows(&mut tx, &query, Some(id.0), now).await?;
    if rows.is_empty() {
        return Ok(None);
    }
    let read = list::page_rows(&mut tx, &[id.0], window, None, now).await?;
    let (worker_ids, names) = worker_ids(&mut tx, id).await?;
    let sample: Option<SampleRow> = sqlx::query_as(SAMPLE).bind(id.0).fetch_optional(&mut *tx).await?;
    let (retrying, examined) = sqlx::query_as(RETRYING)
        .bind(id.0)
        .bind(names)
        .bind(i64::from(limits::RETRYING_EXAMINED))
        .bind(now)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    let more = DetailRows { died: read.slots.clone(), worker_ids, sample, retrying, examined };
    let group = details::groups(rows, read, window, now).into_iter().next();
    Ok(group.map(|group| details::details(group, more, window, now)))
}

async fn worker_ids(tx: &mut Tx, id: ErrorGroupId) -> StoreResult<(Vec<WorkerIdRow>, Vec<String>)> {
    let rows: Vec<WorkerIdRow> =
        sqlx::query_as(WORKER_IDS).bind(id.0).bind(limits::ERROR_GROUP_WORKER_IDS as i64).fetch_all(&mut **tx).await?;
    let names = rows.iter().map(|row| row.worker_id.clone()).collect();
    Ok((rows, names))
}
