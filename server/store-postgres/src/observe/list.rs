//! Lists of jobs: pages by keyset. Each list reads the one table that holds its state, in that table's order.

use async_trait::async_trait;
use jobqueue_shared::state::State;
use jobqueue_store::{
    error::StoreResult,
    page::{self, GroupRow, ListRow, ListSource, ListStart, NoHandlerRow},
    types::{JobRecord, View, WorkerIdCounts},
};
use uuid::Uuid;

use crate::{
    PostgresStore,
    observe::{counts, read},
};

/// Jobs of all states, newest id first.
const ALL: &str = "
    SELECT j.id, j.worker_id, j.priority, 0::bigint AS at, j.task,
           (octet_length(j.payload) + coalesce(octet_length(o.result), 0))::bigint AS bytes
    FROM jobs j LEFT JOIN results o ON o.id = j.id
    WHERE ($1::text IS NULL OR j.worker_id = $1) AND ($2::uuid IS NULL OR j.id < $2)
    ORDER BY j.id DESC LIMIT $3";

/// Pending jobs, in the order in which they will be taken.
const PENDING: &str = "
    SELECT r.id, r.worker_id, r.priority, r.run_at AS at, j.task, r.payload_bytes::bigint AS bytes,
           r.attempts_used, r.waits_for_handler
    FROM ready r CROSS JOIN LATERAL (SELECT task FROM jobs WHERE jobs.id = r.id LIMIT 1) AS j
    WHERE ($1::text IS NULL OR r.worker_id = $1)
      AND ($2::text IS NULL OR (r.worker_id, r.priority, r.run_at, r.id) > ($2, $3, $4, $5))
    ORDER BY r.worker_id, r.priority, r.run_at, r.id LIMIT $6";

/// Failed jobs, newest failure first.
const FAILED: &str = "
    SELECT f.id, f.worker_id, f.priority, f.failed_at AS at, f.task, octet_length(f.payload)::bigint AS bytes
    FROM dead_letters f
    WHERE ($1::text IS NULL OR f.worker_id = $1) AND ($2::bigint IS NULL OR (f.failed_at, f.id) < ($2, $3))
    ORDER BY f.failed_at DESC, f.id DESC LIMIT $4";

/// Dead letters of an error group, newest failure first.
const FAILED_OF_GROUP: &str = "
    SELECT f.id, f.worker_id, f.priority, f.failed_at AS at, f.task, octet_length(f.payload)::bigint AS bytes
    FROM dead_letters f
    WHERE f.fingerprint = $5 AND ($1::text IS NULL OR f.worker_id = $1)
      AND ($2::bigint IS NULL OR (f.failed_at, f.id) < ($2, $3))
    ORDER BY f.failed_at DESC, f.id DESC LIMIT $4";

/// Cancelled jobs, newest cancellation first.
const CANCELLED: &str = "
    SELECT x.id, x.worker_id, j.priority, x.cancelled_at AS at, j.task, octet_length(j.payload)::bigint AS bytes
    FROM cancelled x CROSS JOIN LATERAL (SELECT priority, task, payload FROM jobs WHERE jobs.id = x.id LIMIT 1) AS j
    WHERE ($1::text IS NULL OR x.worker_id = $1) AND ($2::bigint IS NULL OR (x.cancelled_at, x.id) < ($2, $3))
    ORDER BY x.cancelled_at DESC, x.id DESC LIMIT $4";

/// Running jobs. All claims are read, since the table is no larger than the jobs that run now.
const RUNNING: &str = "
    SELECT claimed_at AS at, ids FROM claims WHERE $1::text IS NULL OR worker_id = $1";

/// Done jobs, newest finish first.
const DONE: &str = "
    SELECT finished_at AS at, ids FROM done
    WHERE ($1::text IS NULL OR worker_id = $1) AND ($2::bigint IS NULL OR finished_at <= $2)
    ORDER BY finished_at DESC LIMIT $3";

/// Done jobs that finished at one moment: the LIMIT of [`DONE`] may have cut these off.
const DONE_AT: &str = "
    SELECT finished_at AS at, ids FROM done WHERE ($1::text IS NULL OR worker_id = $1) AND finished_at = $2";

/// Columns of a list's rows for given jobs, in their order.
const DETAILS: &str = "
    SELECT j.id, j.worker_id, j.priority, t.at, j.task,
           (octet_length(j.payload) + coalesce(octet_length(o.result), 0))::bigint AS bytes
    FROM unnest($1::uuid[], $2::bigint[]) WITH ORDINALITY AS t(id, at, n)
    CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.id = t.id LIMIT 1) AS j
    LEFT JOIN results o ON o.id = j.id
    ORDER BY t.n";

/// Pending jobs that wait for a handler, in no order.
const NO_HANDLER_IDS: &str = "
    SELECT id FROM ready WHERE waits_for_handler AND ($1::text IS NULL OR worker_id = $1) LIMIT $2";

/// Numbers of pending jobs that wait for a handler: all, and those that the counters still count as scheduled or
/// retrying. The end of the bucket is computed as by `bucket` in server/store/src/rows/write.rs.
const NO_HANDLER_COUNTS: &str = "
    SELECT count(*) AS total, count(*) FILTER (WHERE until > $2 AND attempts_used = 0) AS scheduled,
           count(*) FILTER (WHERE until > $2 AND attempts_used > 0) AS retrying
    FROM (
        SELECT attempts_used, CASE WHEN run_at <= enqueued_at THEN 0
                                   WHEN run_at - enqueued_at <= 600000 THEN (run_at + 999) / 1000 * 1000
                                   ELSE (run_at + 59999) / 60000 * 60000 END AS until
        FROM ready WHERE waits_for_handler AND (cardinality($1::text[]) = 0 OR worker_id = ANY($1)) LIMIT $3
    ) AS waiting";

#[async_trait]
impl ListSource for PostgresStore {
    fn clock_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    async fn candidates(&self, start: &ListStart, limit: usize) -> StoreResult<Vec<ListRow>> {
        candidates(self, start, limit).await
    }

    async fn rows(&self, jobs: Vec<(i64, Uuid)>) -> StoreResult<Vec<ListRow>> {
        details(self, jobs).await
    }

    async fn jobs(&self, ids: &[Uuid], view: View) -> StoreResult<Vec<Option<JobRecord>>> {
        read::get(self, ids, view).await
    }

    async fn no_handler_ids(&self, worker_id: Option<&str>, limit: usize) -> StoreResult<Vec<Uuid>> {
        Ok(sqlx::query_scalar(NO_HANDLER_IDS).bind(worker_id).bind(limit as i64).fetch_all(&self.pool).await?)
    }

    async fn copy_ids(&self, origin: Uuid, limit: usize) -> StoreResult<Vec<Uuid>> {
        Ok(sqlx::query_scalar(read::COPIES).bind(origin).bind(limit as i64).fetch_all(&self.pool).await?)
    }

    async fn no_handler_counts(&self, worker_ids: &[String], limit: u32) -> StoreResult<NoHandlerRow> {
        no_handler_counts(self, worker_ids, limit).await
    }

    async fn counts(&self) -> StoreResult<Vec<WorkerIdCounts>> {
        counts::counts(self).await
    }
}

async fn candidates(store: &PostgresStore, start: &ListStart, limit: usize) -> StoreResult<Vec<ListRow>> {
    let (worker_id, after, limit) = (start.worker_id.as_deref(), start.after.as_ref(), limit as i64);
    let at = after.map(|cursor| cursor.at_ms);
    let id = after.map(|cursor| cursor.id);
    let rows = match start.state {
        None => sqlx::query_as(ALL).bind(worker_id).bind(id).bind(limit).fetch_all(&store.pool).await?,
        Some(State::Pending) => {
            sqlx::query_as(PENDING)
                .bind(worker_id)
                .bind(after.map(|cursor| cursor.worker_id.as_str()))
                .bind(after.map(|cursor| i16::from(cursor.priority)))
                .bind(at)
                .bind(id)
                .bind(limit)
                .fetch_all(&store.pool)
                .await?
        }
        Some(State::Failed) => {
            let query = match start.error_group {
                Some(_) => sqlx::query_as(FAILED_OF_GROUP),
                None => sqlx::query_as(FAILED),
            };
            let query = query.bind(worker_id).bind(at).bind(id).bind(limit);
            let query = match start.error_group {
                Some(group) => query.bind(group.0),
                None => query,
            };
            query.fetch_all(&store.pool).await?
        }
        Some(State::Cancelled) => {
            sqlx::query_as(CANCELLED).bind(worker_id).bind(at).bind(id).bind(limit).fetch_all(&store.pool).await?
        }
        Some(State::Running) => {
            let groups: Vec<GroupRow> = sqlx::query_as(RUNNING).bind(worker_id).fetch_all(&store.pool).await?;
            details(store, page::newest(&groups, after, limit as usize)).await?
        }
        Some(State::Done) => {
            let groups = done_groups(store, worker_id, at, limit).await?;
            details(store, page::newest(&groups, after, limit as usize)).await?
        }
    };
    Ok(rows)
}

async fn no_handler_counts(store: &PostgresStore, worker_ids: &[String], limit: u32) -> StoreResult<NoHandlerRow> {
    Ok(sqlx::query_as(NO_HANDLER_COUNTS)
        .bind(worker_ids)
        .bind(store.clock.now_ms())
        .bind(i64::from(limit))
        .fetch_one(&store.pool)
        .await?)
}

async fn done_groups(
    store: &PostgresStore,
    worker_id: Option<&str>,
    at: Option<i64>,
    limit: i64,
) -> StoreResult<Vec<GroupRow>> {
    // Jobs of the cursor's own moment are read again and skipped: they must not use up the LIMIT.
    let same: Vec<GroupRow> = match at {
        Some(at) => sqlx::query_as(DONE_AT).bind(worker_id).bind(at).fetch_all(&store.pool).await?,
        None => Vec::new(),
    };
    let mut rows: Vec<GroupRow> =
        sqlx::query_as(DONE).bind(worker_id).bind(at.map(|at| at - 1)).bind(limit).fetch_all(&store.pool).await?;
    if rows.len() as i64 == limit
        && let Some(last) = rows.last().map(|row| row.at)
    {
        rows.retain(|row| row.at != last);
        let rest: Vec<GroupRow> = sqlx::query_as(DONE_AT).bind(worker_id).bind(last).fetch_all(&store.pool).await?;
        rows.extend(rest);
    }
    rows.extend(same);
    Ok(rows)
}

async fn details(store: &PostgresStore, jobs: Vec<(i64, Uuid)>) -> StoreResult<Vec<ListRow>> {
    Ok(sqlx::query_as(DETAILS)
        .bind(jobs.iter().map(|(_, id)| *id).collect::<Vec<_>>())
        .bind(jobs.iter().map(|(at, _)| *at).collect::<Vec<_>>())
        .fetch_all(&store.pool)
        .await?)
}
