//! Insert: stores new jobs.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use async_trait::async_trait;
use jobqueue_store::{
    error::{StoreError, StoreResult},
    failpoint,
    insert_units::InsertGroup,
    prepare::{self, FirstKey, Holder, NewRow},
    types::{HandOff, Inserted, Unit},
};
use sqlx::{Arguments as _, FromRow, postgres::PgArguments};
use uuid::Uuid;

use crate::{
    PostgresStore, Tx, deltas,
    direct_hand_off::{self, Offered},
};

/// Maximum number of times that a group is written, while the outcome of its commit is unknown because the connection
/// was lost.
const COMMIT_TRIES: u32 = 3;
/// Time between two of these tries.
const AGAIN: Duration = Duration::from_millis(50);

#[async_trait]
impl InsertGroup for PostgresStore {
    async fn insert_group(&self, units: &[Unit], offers: &[HandOff]) -> StoreResult<Option<Inserted>> {
        insert_group(self, units, offers).await
    }
}

async fn insert_group(store: &PostgresStore, units: &[Unit], offers: &[HandOff]) -> StoreResult<Option<Inserted>> {
    let rows = prepare::new_rows(units, &store.clock)?;
    let keys = prepare::first_keys(&rows);
    let has_copies = units.iter().flat_map(|unit| &unit.jobs).any(|job| job.origin.is_some());
    let mut tries = 0;
    loop {
        tries += 1;
        // New jobs without keys and origins are stored by one statement, which is its own transaction.
        let mut tx = if !keys.is_empty() || has_copies || tries > 1 {
            store.begin().await?
        } else {
            store.pool.acquire().await?
        };
        let decision = prepare::decide_keys(units, &rows, &win_keys(&mut tx, keys.clone()).await?);
        if units.len() > 1 && prepare::depends_on_refused_unit(&decision) {
            tx.rollback().await?;
            return Ok(None);
        }
        give_back_keys(&mut tx, &decision.give_back).await?;
        let written = async {
            let written = if tries == 1 {
                (decision.insert.clone(), write_new_jobs(store, &mut tx, &decision.insert, offers).await?)
            } else {
                (write_jobs(&mut tx, &decision.insert).await?, Vec::new())
            };
            write_origins(&mut tx, &prepare::origins(&written.0)).await?;
            tx.commit().await?;
            Ok(written)
        };
        match failpoint::committed("insert_commit", written.await).await {
            Ok((stored, taken)) => {
                let claimed = prepare::claimed(taken.iter().map(|offered| &offered.claim));
                let ready = stored.iter().filter(|row| !claimed.contains(&row.id));
                store.scan_cursors.lower(ready.map(|row| row.key()));
                let mut inserted = prepare::with_empty_hand_offs(decision.answers, offers);
                for offered in taken {
                    let at = offered.at;
                    inserted.handed[at] = offered.leased();
                }
                return Ok(Some(inserted));
            }
            // The group may be committed: further tries use `write_jobs`, which skips jobs that are stored already.
            Err(StoreError::Unavailable(_)) if tries < COMMIT_TRIES => tokio::time::sleep(AGAIN).await,
            Err(error) => return Err(error),
        }
    }
}

/// Wins the keys that are free. Returns the holders of all, by worker_id and key.
async fn win_keys(tx: &mut Tx, mut open: Vec<FirstKey<'_>>) -> StoreResult<HashMap<(String, String), Holder>> {
    let mut holders: HashMap<(String, String), Holder> = HashMap::new();
    // A key whose holder is deleted between the two statements is free again.
    while !open.is_empty() {
        let won = insert_keys(tx, &open).await?;
        for ((worker_id, key), job_id, hash) in &open {
            let at = ((*worker_id).to_owned(), (*key).to_owned());
            if won.contains(&at) {
                holders.insert(at, Holder { job_id: *job_id, request_hash: hash.to_vec() });
            }
        }
        open.retain(|((worker_id, key), ..)| !holders.contains_key(&((*worker_id).to_owned(), (*key).to_owned())));
        if !open.is_empty() {
            holders.extend(read_keys(tx, &open).await?);
            open.retain(|((worker_id, key), ..)| !holders.contains_key(&((*worker_id).to_owned(), (*key).to_owned())));
        }
    }
    Ok(holders)
}

const INSERT_KEYS: &str = "
    INSERT INTO idempotency_keys (worker_id, key, job_id, request_hash)
    SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::bytea[])
    ORDER BY 1, 2
    ON CONFLICT DO NOTHING
    RETURNING worker_id, key";

async fn insert_keys(tx: &mut Tx, keys: &[FirstKey<'_>]) -> StoreResult<Vec<(String, String)>> {
    Ok(sqlx::query_as(INSERT_KEYS)
        .bind(keys.iter().map(|((worker_id, _), ..)| *worker_id).collect::<Vec<_>>())
        .bind(keys.iter().map(|((_, key), ..)| *key).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, id, _)| *id).collect::<Vec<_>>())
        .bind(keys.iter().map(|(.., hash)| hash.as_slice()).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?)
}

const READ_KEYS: &str = "
    SELECT k.worker_id, k.key, k.job_id, k.request_hash
    FROM unnest($1::text[], $2::text[]) AS asked(worker_id, key)
    JOIN idempotency_keys k ON k.worker_id = asked.worker_id AND k.key = asked.key";

#[derive(FromRow)]
struct KeyRow {
    worker_id: String,
    key: String,
    job_id: Uuid,
    request_hash: Vec<u8>,
}

/// Reads the holders of keys that were not won. The statement that lost a key does not see its row, so that a new one
/// reads it.
async fn read_keys(tx: &mut Tx, keys: &[FirstKey<'_>]) -> StoreResult<HashMap<(String, String), Holder>> {
    let rows: Vec<KeyRow> = sqlx::query_as(READ_KEYS)
        .bind(keys.iter().map(|((worker_id, _), ..)| *worker_id).collect::<Vec<_>>())
        .bind(keys.iter().map(|((_, key), ..)| *key).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    let holder =
        |row: KeyRow| ((row.worker_id, row.key), Holder { job_id: row.job_id, request_hash: row.request_hash });
    Ok(rows.into_iter().map(holder).collect())
}

async fn give_back_keys(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<()> {
    if !ids.is_empty() {
        sqlx::query("DELETE FROM idempotency_keys WHERE job_id = ANY($1)").bind(ids).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Beginning of both statements that store jobs. The parameters are those of [`job_arguments`].
macro_rules! store_jobs {
    () => {
        "WITH new AS MATERIALIZED (
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::smallint[], $5::bigint[], $6::bytea[], $7::smallint[],
                             $8::text[], $9::bigint[], $10::text[], $11::bigint[], $12::bytea[])
        AS t(id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key, enqueued_at, inline_job)
    ), stored AS (
        INSERT INTO jobs (id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key)
        SELECT id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key
        FROM new ORDER BY id"
    };
}

/// Stores jobs whose ids were made just now, and counts them. It is one statement, and so a transaction without a BEGIN
/// and a COMMIT that the server would have to wait for.
const WRITE_NEW_JOBS: &str = concat!(
    store_jobs!(),
    "), counted AS (
        INSERT INTO deltas (worker_id, bucket, minute, first_attempt, submitted, retry, running, done, failed, cancelled, completed,
                            died, retried)
        SELECT t.worker_id, t.bucket, $13, t.first_attempt, t.submitted, 0, 0, 0, 0, 0, 0, 0, 0
        FROM unnest($14::text[], $15::bigint[], $16::integer[], $17::integer[]) AS t(worker_id, bucket, first_attempt, submitted)
    )
    INSERT INTO ready (worker_id, id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, waits_for_handler, inline_job)
    SELECT worker_id, id, priority, run_at, 0, 0, octet_length(payload), enqueued_at, false, inline_job FROM new"
);

/// Stores new jobs as ready, except those of offers that are taken. Returns these offers.
async fn write_new_jobs<'a>(
    store: &'a PostgresStore,
    tx: &mut Tx,
    rows: &[&NewRow<'_>],
    offers: &[HandOff],
) -> StoreResult<Vec<Offered<'a>>> {
    let Some(now) = rows.iter().map(|row| row.enqueued_at).max() else { return Ok(Vec::new()) };
    let arguments = new_job_arguments(rows, now)?;
    let offered = direct_hand_off::offered(store, rows, offers);
    if offered.is_empty() {
        sqlx::query_with(WRITE_NEW_JOBS, arguments).execute(&mut **tx).await?;
        return Ok(offered);
    }
    direct_hand_off::write(tx, arguments, rows, offered).await
}

/// Arguments of [`job_arguments`], the minute, and the counter changes.
fn new_job_arguments(rows: &[&NewRow<'_>], now: i64) -> StoreResult<PgArguments> {
    let deltas = prepare::submit_deltas(rows);
    let mut arguments = job_arguments(rows)?;
    let mut add = || {
        arguments.add(now.div_euclid(60_000))?;
        arguments.add(deltas.rows().map(|(worker_id, ..)| worker_id).collect::<Vec<_>>())?;
        arguments.add(deltas.rows().map(|(_, bucket, _)| bucket).collect::<Vec<_>>())?;
        arguments.add(deltas.rows().map(|(.., delta)| delta.first_attempt).collect::<Vec<_>>())?;
        arguments.add(deltas.rows().map(|(.., delta)| delta.submitted).collect::<Vec<_>>())
    };
    add().map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

/// Arguments for the columns of `jobs`, and for those of `ready` that do not follow from them.
fn job_arguments(rows: &[&NewRow<'_>]) -> StoreResult<PgArguments> {
    let mut arguments = PgArguments::default();
    let mut add = || {
        arguments.add(rows.iter().map(|row| row.id).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| row.job.worker_id.as_str()).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| row.job.task.as_str()).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| i16::from(row.job.priority)).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| row.run_at).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| row.job.payload.as_bytes()).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| row.job.max_retries as i16).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| row.retry.as_deref()).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| row.job.attempt_timeout_ms).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| row.job.key.as_ref().map(|key| key.key.as_str())).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| row.enqueued_at).collect::<Vec<_>>())?;
        arguments.add(rows.iter().map(|row| row.inline_job.as_deref()).collect::<Vec<_>>())
    };
    add().map_err(sqlx::Error::Encode)?;
    Ok(arguments)
}

/// Stores jobs, except those that are there already: a commit whose outcome was not known has stored these, and they
/// may have run since, so they are neither made ready nor counted again.
const WRITE_JOBS: &str = concat!(
    store_jobs!(),
    " ON CONFLICT (id) DO NOTHING
        RETURNING id
    )
    INSERT INTO ready (worker_id, id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, waits_for_handler, inline_job)
    SELECT worker_id, id, priority, run_at, 0, 0, octet_length(payload), enqueued_at, false, inline_job
    FROM new WHERE id IN (SELECT id FROM stored)
    RETURNING id"
);

async fn write_jobs<'r, 'a>(tx: &mut Tx, rows: &[&'r NewRow<'a>]) -> StoreResult<Vec<&'r NewRow<'a>>> {
    if rows.is_empty() {
        return Ok(Vec::new());
    }
    let stored: Vec<Uuid> = sqlx::query_scalar_with(WRITE_JOBS, job_arguments(rows)?).fetch_all(&mut **tx).await?;
    let stored: HashSet<Uuid> = stored.into_iter().collect();
    let rows: Vec<_> = rows.iter().copied().filter(|row| stored.contains(&row.id)).collect();
    let now = rows.iter().map(|row| row.enqueued_at).max().unwrap_or_default();
    deltas::write_deltas(tx, &prepare::submit_deltas(&rows), now).await?;
    Ok(rows)
}

const WRITE_ORIGINS: &str = "INSERT INTO origins (id, origin) SELECT * FROM unnest($1::uuid[], $2::uuid[])";

async fn write_origins(tx: &mut Tx, origins: &[(Uuid, Uuid)]) -> StoreResult<()> {
    if origins.is_empty() {
        return Ok(());
    }
    sqlx::query(WRITE_ORIGINS)
        .bind(origins.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(origins.iter().map(|(_, origin)| *origin).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
