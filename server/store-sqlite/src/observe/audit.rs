//! Audit: finds contradictions in the stored data.

use std::collections::HashMap;

use jobqueue_store::{
    audit::{CounterRow, ErrorGroupCounts, Found, INLINE_JOBS, OPERATIONS, StateCheck, THEIR_JOBS},
    error::StoreResult,
    rows::job::TakenRow,
};
use uuid::Uuid;

use crate::SqliteStore;

/// Reads all tables on one snapshot, so that a job that moves is seen in exactly one of them.
pub(crate) async fn audit(store: &SqliteStore) -> StoreResult<Vec<String>> {
    let mut tx = store.readers.begin().await?;
    let mut found = Found::default();
    found.jobs = sqlx::query_as("SELECT id, worker_id FROM jobs").fetch_all(&mut *tx).await?.into_iter().collect();
    let mut states = StateCheck::new(&mut found);
    let ready: Vec<(Uuid, String, i64, i64, i32)> =
        sqlx::query_as("SELECT id, worker_id, enqueued_at, run_at, attempts_used FROM ready")
            .fetch_all(&mut *tx)
            .await?;
    states.ready(ready);
    let kept: Vec<TakenRow> = sqlx::query_as(INLINE_JOBS).fetch_all(&mut *tx).await?;
    states.inline_jobs(&kept, sqlx::query_as(THEIR_JOBS).fetch_all(&mut *tx).await?);
    let claims: Vec<(Uuid, String, Vec<u8>, Vec<u8>)> =
        sqlx::query_as("SELECT id, worker_id, ids, entries FROM claims").fetch_all(&mut *tx).await?;
    states.claims(claims);
    let done: Vec<(Uuid, String, Vec<u8>)> =
        sqlx::query_as("SELECT first_id, worker_id, ids FROM done").fetch_all(&mut *tx).await?;
    states.done(done);
    let failed: Vec<(Uuid, String, i64)> =
        sqlx::query_as("SELECT id, worker_id, fingerprint FROM dead_letters").fetch_all(&mut *tx).await?;
    states.failed(failed);
    let cancelled: Vec<(Uuid, String)> =
        sqlx::query_as("SELECT id, worker_id FROM cancelled").fetch_all(&mut *tx).await?;
    states.cancelled(cancelled);
    let counters: Vec<CounterRow> = sqlx::query_as(
        "SELECT worker_id, bucket, first_attempt, retry, running, done, failed, cancelled FROM counters",
    )
    .fetch_all(&mut *tx)
    .await?;
    let counters: HashMap<_, _> =
        counters.into_iter().map(|(w, b, n1, n2, n3, n4, n5, n6)| ((w, b), [n1, n2, n3, n4, n5, n6])).collect();
    found.error_groups(ErrorGroupCounts {
        groups: sqlx::query_as("SELECT fingerprint, dead_letters FROM error_groups").fetch_all(&mut *tx).await?,
        worker_ids: sqlx::query_as("SELECT fingerprint, worker_id, dead_letters FROM error_worker_ids")
            .fetch_all(&mut *tx)
            .await?,
        // Groups are updated in place.
        deltas: Vec::new(),
    });
    let orphans: Vec<(String, i64)> = sqlx::query_as(
        "SELECT * FROM (
            SELECT 'attempts' AS kind, count(*) AS n FROM attempts WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = job_id)
            UNION ALL SELECT 'results', count(*) FROM results r WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = r.id)
            UNION ALL SELECT 'progress', count(*) FROM progress p WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = p.id)
            UNION ALL SELECT 'origins', count(*) FROM origins g WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = g.id)
            UNION ALL SELECT 'idempotency_keys', count(*) FROM idempotency_keys
                WHERE gone_at IS NULL AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.id = job_id)
         ) AS t WHERE n > 0",
    )
    .fetch_all(&mut *tx)
    .await?;
    found.operations(sqlx::query_as(OPERATIONS).fetch_all(&mut *tx).await?);
    Ok(found.verdict(&counters, &orphans))
}
