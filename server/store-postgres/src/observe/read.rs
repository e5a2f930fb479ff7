//! Reads of jobs, their states and their histories.

use std::collections::HashMap;

use jobqueue_store::{
    error::StoreResult,
    rows::{
        job::{AttemptReadRow, JobRow, ProgressRow},
        packed_claim,
    },
    types::{AttemptRecord, History, JobRecord, View},
};
use sqlx::AssertSqlSafe;
use uuid::Uuid;

use crate::{PostgresStore, connect::connection::PooledConnection, id_range};

/// Query for the row of job `j` in `ready`. A row with an inline job has the same key as in `jobs`; other rows are
/// found by their ids.
macro_rules! ready_of {
    ($columns:literal) => {
        concat!(
            "SELECT ",
            $columns,
            " FROM ready
        WHERE ready.worker_id = j.worker_id AND ready.priority = j.priority AND ready.run_at = j.run_at AND ready.id = j.id
        UNION ALL SELECT ",
            $columns,
            " FROM ready WHERE ready.id = j.id AND ready.inline_job IS NULL
        LIMIT 1"
        )
    };
}
pub(crate) use ready_of;

/// Reads jobs and their states. One statement, so that a job that moves is found in one table. Claims and done are
/// searched only for jobs that the cheaper tables do not have; done backwards from the job's id, no further than its
/// rows reach. Claims are read once: few are open, but many may be deleted and not vacuumed yet.
const GET: &str = concat!(
    "
    WITH open AS MATERIALIZED (SELECT worker_id, session_id, claimed_at, ids, entries FROM claims)
    SELECT j.id, j.worker_id, j.task, j.priority, j.run_at, {payload} AS payload, j.max_retries, j.retry,
           j.attempt_timeout, j.idempotency_key,
           r.run_no AS r_run_no, r.attempts_used AS r_attempts_used, r.run_at AS r_run_at, r.enqueued_at AS r_enqueued_at, r.waits_for_handler AS r_waits,
           r.for_task IS NOT NULL AS r_kept,
           c.session_id AS c_session_id, c.claimed_at AS c_claimed_at, c.ids AS c_ids, c.entries AS c_entries,
           d.session_id AS d_session_id, d.claimed_at AS d_claimed_at, d.finished_at AS d_finished_at, d.ids AS d_ids,
           d.runs AS d_runs,
           f.run_no AS f_run_no, f.attempts_used AS f_attempts_used, f.reason AS f_reason, f.fingerprint AS f_fingerprint, f.error AS f_error, f.session_id AS f_session_id,
           f.started_at AS f_started_at, f.failed_at AS f_failed_at,
           x.run_no AS x_run_no, x.attempts_used AS x_attempts_used, x.note AS x_note, x.session_id AS x_session_id,
           x.started_at AS x_started_at, x.cancelled_at AS x_cancelled_at,
           (SELECT a.error FROM attempts a WHERE a.job_id = j.id AND a.outcome <= 3 ORDER BY a.run_no DESC, a.ended_at DESC LIMIT 1)
               AS last_error,
           {result} AS result, o.note AS result_note,
           p.run_no AS p_run_no, p.fraction AS p_fraction, p.message AS p_message, p.at AS p_at, g.origin
    FROM unnest($1::uuid[], $2::uuid[]) AS asked(id, earliest)
    CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.id = asked.id AND jobs.id BETWEEN $3 AND $4 LIMIT 1) AS j
    LEFT JOIN LATERAL (",
    ready_of!("*"),
    ") AS r ON true
    LEFT JOIN dead_letters f ON f.id = j.id
    LEFT JOIN cancelled x ON x.id = j.id
    LEFT JOIN LATERAL (
        SELECT open.session_id, open.claimed_at, open.ids, open.entries FROM open
        WHERE r.id IS NULL AND f.id IS NULL AND x.id IS NULL AND open.worker_id = j.worker_id
          AND position(uuid_send(j.id) IN open.ids) % 16 = 1
        LIMIT 1
    ) AS c ON true
    LEFT JOIN LATERAL (
        SELECT done.session_id, done.claimed_at, done.finished_at, done.ids, done.runs FROM done
        WHERE r.id IS NULL AND f.id IS NULL AND x.id IS NULL AND c.ids IS NULL AND done.worker_id = j.worker_id
          AND done.first_id BETWEEN asked.earliest AND j.id AND position(uuid_send(j.id) IN done.ids) % 16 = 1
        ORDER BY done.first_id DESC LIMIT 1
    ) AS d ON true
    LEFT JOIN results o ON o.id = j.id
    LEFT JOIN progress p ON p.id = j.id
    LEFT JOIN origins g ON g.id = j.id"
);

pub(crate) async fn get(store: &PostgresStore, ids: &[Uuid], view: View) -> StoreResult<Vec<Option<JobRecord>>> {
    let mut connection = store.pool.acquire().await?;
    let records = records(&mut connection, ids, view).await?;
    connection.commit().await?;
    Ok(ids.iter().map(|id| records.get(id).cloned()).collect())
}

/// Reads jobs and their states without payloads and results.
pub(crate) async fn states(connection: &mut PooledConnection, ids: &[Uuid]) -> StoreResult<HashMap<Uuid, JobRecord>> {
    records(connection, ids, View::Basic).await
}

async fn records(connection: &mut PooledConnection, ids: &[Uuid], view: View) -> StoreResult<HashMap<Uuid, JobRecord>> {
    let (payload, result) = match view {
        View::Full => ("j.payload", "o.result"),
        View::Basic => ("''::bytea", "NULL::bytea"),
    };
    let (first, last) = id_range(ids);
    let rows: Vec<JobRow> =
        sqlx::query_as(AssertSqlSafe(GET.replace("{payload}", payload).replace("{result}", result)))
            .bind(ids)
            .bind(ids.iter().map(|id| packed_claim::earliest_first_id(*id)).collect::<Vec<_>>())
            .bind(first)
            .bind(last)
            .fetch_all(connection)
            .await?;
    let mut records = HashMap::with_capacity(rows.len());
    for row in rows {
        match row.into_record() {
            Ok(record) => drop(records.insert(record.id, record)),
            // A damaged job must not hide a page of sound ones.
            Err(error) => tracing::error!(%error, "a stored job cannot be read"),
        }
    }
    Ok(records)
}

const ATTEMPTS: &str = "
    SELECT run_no, outcome, error, session_id, host, started_at, ended_at
    FROM attempts WHERE job_id = $1 ORDER BY ended_at DESC, run_no DESC LIMIT $2";

pub(crate) async fn attempts(store: &PostgresStore, job_id: Uuid) -> StoreResult<Vec<AttemptRecord>> {
    let mut connection = store.pool.acquire().await?;
    let attempts = attempts_of(&mut connection, job_id).await?;
    connection.commit().await?;
    Ok(attempts)
}

async fn attempts_of(connection: &mut PooledConnection, job_id: Uuid) -> StoreResult<Vec<AttemptRecord>> {
    let rows: Vec<AttemptReadRow> = sqlx::query_as(ATTEMPTS)
        .bind(job_id)
        .bind(i64::from(jobqueue_shared::limits::ATTEMPTS_KEPT))
        .fetch_all(connection)
        .await?;
    rows.into_iter().map(AttemptReadRow::into_record).collect()
}

pub(crate) const COPIES: &str = "SELECT id FROM origins WHERE origin = $1 ORDER BY id DESC LIMIT $2";

pub(crate) async fn copies(store: &PostgresStore, origin: Uuid, limit: u32) -> StoreResult<Vec<JobRecord>> {
    let mut connection = store.pool.acquire().await?;
    let ids: Vec<Uuid> =
        sqlx::query_scalar(COPIES).bind(origin).bind(i64::from(limit)).fetch_all(&mut *connection).await?;
    let mut records = if ids.is_empty() { HashMap::new() } else { states(&mut connection, &ids).await? };
    connection.commit().await?;
    Ok(ids.iter().filter_map(|id| records.remove(id)).collect())
}

const PROGRESS: &str = "SELECT run_no, fraction, message, at FROM progress WHERE id = $1";

const HOST: &str = "SELECT host FROM sessions WHERE id = $1";

/// Locks `jobs` against changes of its partitions, before a snapshot is taken: an older snapshot does not see the rows
/// that a change has moved.
pub(crate) const PARTITIONS_STAY: &str = "; LOCK TABLE ONLY jobs IN ACCESS SHARE MODE";

/// Reads a job's history on one snapshot, so that an attempt that ends meanwhile is told exactly once.
pub(crate) async fn history(store: &PostgresStore, job_id: Uuid) -> StoreResult<Option<History>> {
    let mut tx = store.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", PARTITIONS_STAY).await?;
    let Some(job) = states(&mut tx, &[job_id]).await?.remove(&job_id) else { return Ok(None) };
    let attempts = attempts_of(&mut tx, job_id).await?;
    let progress: Option<ProgressRow> = sqlx::query_as(PROGRESS).bind(job_id).fetch_optional(&mut *tx).await?;
    let host: Option<String> = match job.session_id {
        Some(session_id) => sqlx::query_scalar(HOST).bind(session_id).fetch_optional(&mut *tx).await?,
        None => None,
    };
    tx.commit().await?;
    let progress = progress.map(ProgressRow::into_progress);
    Ok(Some(History { job, attempts, progress, host: host.unwrap_or_default() }))
}
