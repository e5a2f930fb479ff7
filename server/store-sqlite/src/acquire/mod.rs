//! Acquire: leases runnable jobs to sessions.

pub(crate) mod handlers;
mod sessions;

use std::collections::{HashMap, HashSet};

use jobqueue_shared::limits;
use jobqueue_store::{
    error::{StoreError, StoreResult},
    leases::{self, Taker},
    rows::{
        job::{ClaimRow, LeasedRow, TakenRow},
        packed_claim,
        write::Deltas,
    },
    settle::claim::Claim,
    types::{Acquire, Acquired, Leased},
};
use sessions::SessionRow;
use sqlx::QueryBuilder;
use uuid::Uuid;

pub(crate) use self::sessions::takers;
use crate::{SqliteStore, Tx, batches, deltas, id_list};

/// Acquires for several sessions in one transaction. `None` for a second request of a session, because it would not see
/// the claims of the first: they are written at the end, together with all others.
pub(crate) async fn acquire(store: &SqliteStore, requests: &[Acquire]) -> StoreResult<Vec<Option<Acquired>>> {
    let mut share = store.share().await?;
    let acquired = acquire_in(share.connection()?, requests, store.clock.now_ms()).await;
    share.finish(acquired).await
}

async fn acquire_in(tx: &mut Tx, requests: &[Acquire], now: i64) -> StoreResult<Vec<Option<Acquired>>> {
    let mut seen = HashSet::new();
    let is_first: Vec<bool> = requests.iter().map(|request| seen.insert(request.session_id)).collect();
    let asked = requests.iter().map(|request| (request.session_id, request.acquire_no));
    let sessions = sessions::read_sessions(tx, asked, now).await?;
    let (mut taken, mut answers) = (Taken::default(), Vec::with_capacity(requests.len()));
    let reply_bytes = leases::reply_bytes(requests.len());
    for ((request, session), is_first) in requests.iter().zip(sessions).zip(is_first) {
        answers.push(match session {
            _ if !is_first => None,
            Some(session) => Some(acquire_one(tx, request, session, reply_bytes, now, &mut taken).await?),
            None => Some(Acquired::NoSession),
        });
    }
    write_claims(tx, &taken.claims).await?;
    deltas::write_deltas(tx, &taken.deltas, now).await?;
    Ok(answers)
}

/// Claims and counter changes that are still to be written.
#[derive(Default)]
struct Taken {
    claims: Vec<NumberedClaim>,
    deltas: Deltas,
}

/// A claim with the acquire_no of its call and its index in the answer.
pub(crate) type NumberedClaim = (Claim, u32, i16);

async fn acquire_one(
    tx: &mut Tx,
    request: &Acquire,
    session: SessionRow,
    reply_bytes: usize,
    now: i64,
    all: &mut Taken,
) -> StoreResult<Acquired> {
    if session.repeated {
        let claims = repeated_claims(tx, request).await?;
        let jobs = leased_jobs(tx, &claims).await?;
        return Ok(Acquired::Jobs { worker_id: session.worker_id, jobs, next_run_at_ms: None });
    }
    if session.gets_nothing {
        return Ok(Acquired::Jobs { worker_id: session.worker_id, jobs: Vec::new(), next_run_at_ms: None });
    }
    let room = u64::from(limits::JOBS_PER_SESSION).saturating_sub(session.held as u64);
    if room == 0 {
        return Ok(Acquired::SessionFull);
    }
    let most = u64::from(request.max_jobs).min(room);
    let (mut taken, mut next_run_at_ms, mut for_tasks) = (Vec::new(), session.jobs.next_run_at, session.jobs.for_tasks);
    if session.jobs.runnable {
        taken = dequeue(tx, &session.worker_id, now, most, reply_bytes).await?;
        for_tasks = false;
        if taken.is_empty() {
            // An acquire of the same group has taken the jobs.
            (next_run_at_ms, for_tasks) = look_ahead(tx, &session.worker_id, now).await?;
        }
    }
    if for_tasks {
        taken = handlers::take(tx, request.session_id, &session.worker_id, most, reply_bytes).await?;
    }
    if taken.is_empty() {
        return Ok(Acquired::Jobs { worker_id: session.worker_id, jobs: Vec::new(), next_run_at_ms });
    }
    let (mut columns, mut unknown) = (HashMap::new(), Vec::new());
    leases::decode_inline_jobs(&taken, &mut columns, &mut unknown);
    if !unknown.is_empty() {
        columns.extend(read_leased_columns(tx, &unknown).await?);
    }
    let taker = Taker { worker_id: &session.worker_id, session_id: request.session_id, host: &session.host, now };
    let claims = leases::new_claims(&taker, &taken, &columns);
    leases::add_deltas(&mut all.deltas, &session.worker_id, &taken);
    let jobs = leases::leased(&claims, &mut columns)?;
    all.claims.extend(claims.into_iter().zip(0..).map(|(claim, chunk)| (claim, request.acquire_no, chunk)));
    Ok(Acquired::Jobs { worker_id: session.worker_id, jobs, next_run_at_ms: None })
}

const REPEATED_CLAIMS: &str = "
    SELECT c.id, c.worker_id, c.session_id, NULL AS host, c.claimed_at, c.ids, c.entries
    FROM claims c WHERE c.session_id = ?1 AND c.acquire_no = ?2 ORDER BY c.chunk";

async fn repeated_claims(tx: &mut Tx, request: &Acquire) -> StoreResult<Vec<Claim>> {
    let rows: Vec<ClaimRow> = sqlx::query_as(REPEATED_CLAIMS)
        .bind(request.session_id)
        .bind(i64::from(request.acquire_no))
        .fetch_all(&mut *tx)
        .await?;
    Ok(ClaimRow::sound_or_logged(rows).collect())
}

/// The next runnable jobs. SQLite has no LATERAL, but a CROSS JOIN keeps its loops in the order written: the priorities
/// in order, and for each its index range in order. If that ever changed, the deletion would not find the rows that
/// were read.
const NEXT_READY: &str = "
    WITH p(priority) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))
    SELECT r.id, r.priority, r.run_at, r.run_no, r.attempts_used, r.payload_bytes, r.enqueued_at, r.inline_job
    FROM p CROSS JOIN ready r
    WHERE r.worker_id = ?1 AND r.priority = p.priority AND r.run_at <= ?2
    LIMIT ?3";

/// Takes jobs by priority, then run_at, then id, with one index range for each priority, so that jobs that are not due
/// are never walked.
async fn dequeue(
    tx: &mut Tx,
    worker_id: &str,
    now: i64,
    max_jobs: u64,
    reply_bytes: usize,
) -> StoreResult<Vec<TakenRow>> {
    let mut taken: Vec<TakenRow> =
        sqlx::query_as(NEXT_READY).bind(worker_id).bind(now).bind(max_jobs as i64).fetch_all(&mut *tx).await?;
    leases::cut_to_reply(&mut taken, reply_bytes);
    for of_priority in taken.chunk_by(|a, b| a.priority == b.priority) {
        delete_through(tx, worker_id, of_priority).await?;
    }
    Ok(taken)
}

/// Deletes the rows of a priority up to the last one taken. These are the rows that were read, because there is no
/// other writer.
const DELETE_THROUGH: &str = "DELETE FROM ready WHERE worker_id = ?1 AND priority = ?2 AND (run_at, id) <= (?3, ?4)";

async fn delete_through(tx: &mut Tx, worker_id: &str, taken: &[TakenRow]) -> StoreResult<()> {
    let Some(last) = taken.last() else { return Ok(()) };
    let deleted = sqlx::query(DELETE_THROUGH)
        .bind(worker_id)
        .bind(last.priority)
        .bind(last.run_at)
        .bind(last.id)
        .execute(&mut *tx)
        .await?
        .rows_affected();
    if deleted != taken.len() as u64 {
        return Err(StoreError::Defect(format!(
            "{} jobs of {worker_id} were taken, and {deleted} deleted",
            taken.len()
        )));
    }
    Ok(())
}

const RUNNABLE: &str = "
    WITH p(priority) AS (VALUES (0), (1), (2), (3), (4), (5), (6), (7), (8), (9))
    SELECT w.value FROM json_each(?1) AS w
    WHERE NOT EXISTS (SELECT 1 FROM pauses p WHERE p.worker_id = w.value)
      AND EXISTS (SELECT 1 FROM p CROSS JOIN ready r
                  WHERE r.worker_id = w.value AND r.priority = p.priority AND r.run_at <= ?2)";

pub(crate) async fn runnable(store: &SqliteStore, worker_ids: &[String]) -> StoreResult<Vec<String>> {
    let worker_ids = serde_json::to_string(worker_ids).map_err(|error| StoreError::Data(error.to_string()))?;
    Ok(sqlx::query_scalar(RUNNABLE).bind(worker_ids).bind(store.clock.now_ms()).fetch_all(&store.readers).await?)
}

/// Time at which the next job becomes due, and whether some jobs wait for sessions that handle their task.
const LOOK_AHEAD: &str = "
    WITH RECURSIVE p(priority) AS (SELECT 0 UNION ALL SELECT priority + 1 FROM p WHERE priority < 9)
    SELECT min((SELECT ready.run_at FROM ready
                WHERE ready.worker_id = ?1 AND ready.priority = p.priority AND ready.run_at > ?2
                ORDER BY ready.run_at LIMIT 1)),
           EXISTS (SELECT 1 FROM ready WHERE ready.worker_id = ?1 AND ready.for_task IS NOT NULL)
    FROM p";

async fn look_ahead(tx: &mut Tx, worker_id: &str, now: i64) -> StoreResult<(Option<i64>, bool)> {
    Ok(sqlx::query_as(LOOK_AHEAD).bind(worker_id).bind(now).fetch_one(&mut *tx).await?)
}

const READ_LEASED_COLUMNS: &str = "
    SELECT id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key
    FROM jobs WHERE id IN (SELECT unhex(value) FROM json_each(?1))";

async fn read_leased_columns(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<HashMap<Uuid, LeasedRow>> {
    let rows: Vec<LeasedRow> = sqlx::query_as(READ_LEASED_COLUMNS).bind(id_list(ids)).fetch_all(&mut *tx).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

pub(crate) async fn write_claims(tx: &mut Tx, claims: &[NumberedClaim]) -> StoreResult<()> {
    for claims in batches(claims) {
        let mut query = QueryBuilder::new(
            "INSERT INTO claims (id, worker_id, session_id, acquire_no, chunk, claimed_at, deadline, ids, entries) ",
        );
        query.push_values(claims, |mut row, (claim, acquire_no, chunk)| {
            row.push_bind(claim.id)
                .push_bind(claim.worker_id.as_str())
                .push_bind(claim.session_id)
                .push_bind(i64::from(*acquire_no))
                .push_bind(*chunk)
                .push_bind(claim.claimed_at)
                .push_bind(claim.deadline())
                .push_bind(claim.ids())
                .push_bind(packed_claim::encode_entries(&claim.entries));
        });
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}

async fn leased_jobs(tx: &mut Tx, claims: &[Claim]) -> StoreResult<Vec<Leased>> {
    let ids: Vec<_> = claims.iter().flat_map(|claim| claim.entries.iter().map(|entry| entry.job_id)).collect();
    let mut columns = read_leased_columns(tx, &ids).await?;
    leases::leased(claims, &mut columns)
}
