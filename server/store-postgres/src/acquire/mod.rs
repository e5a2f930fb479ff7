//! Acquire: leases runnable jobs to sessions.

mod dequeue;
pub(crate) mod handlers;
pub(crate) mod scan_cursor;
pub(crate) mod session_quota;

use std::collections::{HashMap, HashSet};

use dequeue::{Dequeue, Locked, dequeue, scan_below};
use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    leases::{self, Taker},
    rows::{
        job::{ClaimRow, LeasedRow},
        packed_claim,
        write::Deltas,
    },
    settle::claim::Claim,
    types::{Acquire, Acquired, Leased},
};
use sqlx::{Arguments as _, postgres::PgArguments};
use uuid::Uuid;

use crate::{PostgresStore, Tx, deltas, id_range, session_lock_key};

pub(crate) async fn acquire(store: &PostgresStore, requests: &[Acquire]) -> StoreResult<Vec<Option<Acquired>>> {
    match requests {
        [] => Ok(Vec::new()),
        [request] => Ok(vec![Some(alone(store, request).await?)]),
        _ => group(store, requests).await,
    }
}

async fn alone(store: &PostgresStore, request: &Acquire) -> StoreResult<Acquired> {
    // Two calls with one acquire_no, made when the first is slow and the worker asks again, must give one answer, so
    // one waits for the other. Otherwise the second would skip the rows that the first has locked and answer that there
    // is nothing, and the jobs that the first took would be stranded.
    let mut tx = store.begin_acquire(request).await?;
    let mut look = Dequeue::new(store, request, limits::REPLY_BYTES);
    dequeue(&mut tx, &mut [&mut look], Locked::Wait).await?;
    match &look.session {
        None => Ok(Acquired::NoSession),
        Some(session) if session.repeated => {
            let claims = repeated_claims(&mut tx, request).await?;
            let jobs = leased_jobs(&mut tx, &claims).await?;
            Ok(Acquired::Jobs { worker_id: session.worker_id.clone(), jobs, next_run_at_ms: None })
        }
        Some(_) => {
            let answers = finish(store, tx, vec![look]).await?;
            Ok(answers.into_iter().next().flatten().unwrap_or(Acquired::NoSession))
        }
    }
}

/// Acquires for several sessions in one transaction. `None` for a request that has to be repeated alone, because it
/// would hold up the others or needs more queries: its worker_id is not known or an earlier request's, its session is
/// locked, unknown or ended, or its acquire_no is in use or has been used.
async fn group(store: &PostgresStore, requests: &[Acquire]) -> StoreResult<Vec<Option<Acquired>>> {
    let mut tx = store.begin_acquires().await?;
    let mut worker_ids = HashSet::new();
    let mut is_first =
        |at: usize| requests[at].worker_id.as_deref().is_some_and(|worker_id| worker_ids.insert(worker_id));
    let firsts: Vec<usize> = (0..requests.len()).filter(|at| is_first(*at)).collect();
    let free = lock(&mut tx, requests, firsts).await?;
    let reply_bytes = leases::reply_bytes(requests.len());
    let mut looks: Vec<_> = free.iter().map(|at| Dequeue::new(store, &requests[*at], reply_bytes)).collect();
    dequeue(&mut tx, &mut looks.iter_mut().collect::<Vec<_>>(), Locked::Skip).await?;
    let mut answers = vec![None; requests.len()];
    for (at, answer) in free.into_iter().zip(finish(store, tx, looks).await?) {
        answers[at] = answer;
    }
    Ok(answers)
}

/// Takes the advisory locks of `begin_acquire` for several acquires without waiting; selects the acquires whose locks
/// are free. It is a statement of its own, so that the next one sees everything that was committed before the locks.
const LOCK: &str = "
    SELECT a.n FROM unnest($1::bigint[], $2::integer[], $3::integer[]) WITH ORDINALITY AS a(session, half, acquire_no, n)
    WHERE pg_try_advisory_xact_lock_shared(a.session) AND pg_try_advisory_xact_lock(a.half, a.acquire_no)";

async fn lock(tx: &mut Tx, requests: &[Acquire], of: Vec<usize>) -> StoreResult<Vec<usize>> {
    let keys = || of.iter().map(|at| session_lock_key(requests[*at].session_id));
    let free: Vec<i64> = sqlx::query_scalar(LOCK)
        .bind(keys().collect::<Vec<_>>())
        .bind(keys().map(|key| key as i32).collect::<Vec<_>>())
        .bind(of.iter().map(|at| requests[*at].acquire_no as i32).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    Ok(free.into_iter().filter_map(|n| of.get(n as usize - 1).copied()).collect())
}

/// Writes claims for the rows that were taken, and commits. `None` for a request whose session is not alive, or whose
/// acquire_no is a repetition.
async fn finish(store: &PostgresStore, mut tx: Tx, mut looks: Vec<Dequeue<'_>>) -> StoreResult<Vec<Option<Acquired>>> {
    scan_below(store, &mut tx, &mut looks).await?;
    let later = look_ahead(&mut tx, &looks).await?;
    for look in &mut looks {
        if look.taker().and_then(|session| later.get(&session.worker_id)).is_some_and(|later| later.waits_for_handler) {
            handlers::take(&mut tx, look).await?;
        }
    }
    let (mut columns, mut unknown) = (HashMap::new(), Vec::new());
    for look in &looks {
        leases::decode_inline_jobs(&look.taken, &mut columns, &mut unknown);
    }
    if !unknown.is_empty() {
        columns.extend(read_leased_columns(&mut tx, unknown).await?);
    }
    let (mut claims, mut deltas, mut answers) = (Vec::new(), Deltas::default(), Vec::with_capacity(looks.len()));
    for look in &looks {
        let Some(session) = look.session.as_ref().filter(|session| !session.repeated) else {
            answers.push(None);
            continue;
        };
        if !session.gets_nothing && look.room(session) <= 0 {
            answers.push(Some(Acquired::SessionFull));
            continue;
        }
        let (session_id, worker_id) = (look.request.session_id, session.worker_id.as_str());
        let taker = Taker { worker_id, session_id, host: &session.host, now: session.now };
        let own = leases::new_claims(&taker, &look.taken, &columns);
        leases::add_deltas(&mut deltas, worker_id, &look.taken);
        let next_run_at_ms = later.get(worker_id).and_then(|later| later.next_run_at);
        let jobs = leases::leased(&own, &mut columns)?;
        answers.push(Some(Acquired::Jobs { worker_id: worker_id.to_owned(), jobs, next_run_at_ms }));
        claims.extend(own.into_iter().zip(0..).map(|(claim, chunk)| (claim, look.request.acquire_no, chunk)));
    }
    write_claims(&mut tx, &claims, &deltas).await?;
    for look in &looks {
        // With this the number of jobs that the session holds is known, so that it can be offered direct hand-offs.
        if let Some(session) = look.taker() {
            look.reservation.record(session.held, look.taken.len());
        }
    }
    tx.commit().await?;
    for look in looks.iter().filter(|look| !look.taken.is_empty() && !look.early) {
        if let Some(session) = look.taker() {
            store.scan_cursors.raise(&session.worker_id, &look.start, &look.taken);
        }
    }
    Ok(answers)
}

const REPEATED_CLAIMS: &str = "
    SELECT c.id, c.worker_id, c.session_id, NULL AS host, c.claimed_at, c.ids, c.entries
    FROM claims c WHERE c.session_id = $1 AND c.acquire_no = $2 ORDER BY c.chunk";

async fn repeated_claims(tx: &mut Tx, request: &Acquire) -> StoreResult<Vec<Claim>> {
    let rows: Vec<ClaimRow> = sqlx::query_as(REPEATED_CLAIMS)
        .bind(request.session_id)
        .bind(request.acquire_no as i32)
        .fetch_all(&mut **tx)
        .await?;
    Ok(ClaimRow::sound_or_logged(rows).collect())
}

/// worker_ids with a runnable job. The scan starts shortly below the scan cursors, as after an acquire that got too few
/// jobs, with one key for each worker_id and priority. The time is the database's, read once: this server's estimate of
/// it lags behind, and could miss a job that another server has just submitted.
const RUNNABLE: &str = "
    SELECT w.worker_id FROM unnest($1::text[]) WITH ORDINALITY AS w(worker_id, n), LATERAL (
        SELECT FROM generate_series(0, 9) AS p(priority), LATERAL (
            SELECT FROM ready r
            WHERE r.worker_id = w.worker_id AND r.priority = p.priority::smallint AND r.run_at <= (SELECT now_ms())
              AND (r.run_at, r.id) > (($2::bigint[])[(w.n - 1) * 10 + p.priority + 1], ($3::uuid[])[(w.n - 1) * 10 + p.priority + 1])
            LIMIT 1
        ) AS job LIMIT 1
    ) AS any_job
    WHERE NOT EXISTS (SELECT FROM pauses p WHERE p.worker_id = w.worker_id)";

pub(crate) async fn runnable(store: &PostgresStore, worker_ids: &[String]) -> StoreResult<Vec<String>> {
    let now = store.clock.now_ms();
    let keys: Vec<_> =
        worker_ids.iter().flat_map(|worker_id| store.scan_cursors.shortly_before(worker_id, now)).collect();
    Ok(sqlx::query_scalar(RUNNABLE)
        .bind(worker_ids)
        .bind(keys.iter().map(|(run_at, _)| *run_at).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, id)| *id).collect::<Vec<_>>())
        .fetch_all(&store.pool)
        .await?)
}

/// Jobs of a worker_id that are not due.
#[derive(Clone, Copy)]
struct NotDue {
    next_run_at: Option<i64>,
    /// Some jobs wait for sessions that handle their task.
    waits_for_handler: bool,
}

const LOOK_AHEAD: &str = "
    SELECT w.worker_id, (
        SELECT min(r.run_at) FROM generate_series(0, 9) AS p(priority), LATERAL (
            SELECT ready.run_at FROM ready
            WHERE ready.worker_id = w.worker_id AND ready.priority = p.priority::smallint AND ready.run_at > w.now
            ORDER BY ready.run_at LIMIT 1
        ) AS r
    ), EXISTS (SELECT FROM ready WHERE ready.worker_id = w.worker_id AND ready.for_task IS NOT NULL)
    FROM unnest($1::text[], $2::bigint[]) AS w(worker_id, now)";

/// Jobs that are not due, for the worker_ids of sessions that got nothing.
async fn look_ahead(tx: &mut Tx, looks: &[Dequeue<'_>]) -> StoreResult<HashMap<String, NotDue>> {
    let empty: Vec<_> = looks.iter().filter(|look| look.taken.is_empty()).filter_map(Dequeue::taker).collect();
    if empty.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<(String, Option<i64>, bool)> = sqlx::query_as(LOOK_AHEAD)
        .bind(empty.iter().map(|session| session.worker_id.as_str()).collect::<Vec<_>>())
        .bind(empty.iter().map(|session| session.now).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    let later = |(worker_id, next_run_at, waits_for_handler)| (worker_id, NotDue { next_run_at, waits_for_handler });
    Ok(rows.into_iter().map(later).collect())
}

const READ_LEASED_COLUMNS: &str = "
    SELECT id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key
    FROM jobs WHERE id = ANY($1) AND id BETWEEN $2 AND $3";

async fn read_leased_columns(tx: &mut Tx, ids: Vec<Uuid>) -> StoreResult<HashMap<Uuid, LeasedRow>> {
    let (first, last) = id_range(&ids);
    let rows: Vec<LeasedRow> =
        sqlx::query_as(READ_LEASED_COLUMNS).bind(ids).bind(first).bind(last).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

const WRITE_CLAIMS: &str = concat!(
    "WITH counted AS (",
    deltas::insert_deltas!(),
    ")
    INSERT INTO claims (id, worker_id, session_id, acquire_no, chunk, claimed_at, deadline, ids, entries)
    SELECT * FROM unnest($14::uuid[], $15::text[], $16::uuid[], $17::integer[], $18::smallint[], $19::bigint[], $20::bigint[],
                         $21::bytea[], $22::bytea[])"
);

/// Inserts claims and counter deltas. Each claim comes with the acquire_no of its call and its index in the answer.
async fn write_claims(tx: &mut Tx, claims: &[(Claim, u32, i16)], deltas: &Deltas) -> StoreResult<()> {
    let Some((first, ..)) = claims.first() else { return Ok(()) };
    let all = || claims.iter().map(|(claim, ..)| claim);
    let mut arguments = PgArguments::default();
    let mut add = || {
        deltas::add_deltas(&mut arguments, deltas, first.claimed_at)?;
        arguments.add(all().map(|claim| claim.id).collect::<Vec<_>>())?;
        arguments.add(all().map(|claim| claim.worker_id.as_str()).collect::<Vec<_>>())?;
        arguments.add(all().map(|claim| claim.session_id).collect::<Vec<_>>())?;
        arguments.add(claims.iter().map(|(_, acquire_no, _)| *acquire_no as i32).collect::<Vec<_>>())?;
        arguments.add(claims.iter().map(|(.., chunk)| *chunk).collect::<Vec<_>>())?;
        arguments.add(all().map(|claim| claim.claimed_at).collect::<Vec<_>>())?;
        arguments.add(all().map(Claim::deadline).collect::<Vec<_>>())?;
        arguments.add(all().map(Claim::ids).collect::<Vec<_>>())?;
        arguments.add(all().map(|claim| packed_claim::encode_entries(&claim.entries)).collect::<Vec<_>>())
    };
    add().map_err(sqlx::Error::Encode)?;
    sqlx::query_with(WRITE_CLAIMS, arguments).execute(&mut **tx).await?;
    Ok(())
}

async fn leased_jobs(tx: &mut Tx, claims: &[Claim]) -> StoreResult<Vec<Leased>> {
    let ids = claims.iter().flat_map(|claim| claim.entries.iter().map(|entry| entry.job_id)).collect();
    let mut columns = read_leased_columns(tx, ids).await?;
    leases::leased(claims, &mut columns)
}
