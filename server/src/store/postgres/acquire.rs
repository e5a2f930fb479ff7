//! Handing runnable jobs to a session.

use std::{collections::HashMap, sync::Arc, time::Instant};

use jobqueue_shared::limits;
use serde::Deserialize;
use sqlx::{Arguments as _, FromRow as _, Row as _, postgres::PgArguments};
use uuid::Uuid;

use super::{
    PostgresStore, Tx, counts,
    floor::{Floors, PRIORITIES, Start},
    held::Taking,
    pool::Pool,
    range,
};
use crate::store::{
    error::StoreResult,
    hand_over::{self, Taker},
    places,
    plan::Claim,
    rows::{ClaimRow, LeasedRow, TakenRow},
    types::{Acquire, Acquired, Leased},
    writes::Deltas,
};

pub(super) async fn acquire(store: &PostgresStore, request: &Acquire) -> StoreResult<Acquired> {
    // Two calls with one acquire_no, when the first is slow and the worker asks again, must give one answer: the
    // second would skip what the first has locked, say that there is nothing, and what the first took were stranded.
    let mut tx = store.begin_acquire(request).await?;
    let taking = store.held.take(request.session_id, request.max_jobs);
    let start = store.floors.start(request.worker_id.as_deref(), store.clock.now_ms());
    let first = take_ready(&mut tx, request, &start, &taking, &[]).await?;
    let Some((mut session, mut taken)) = first else { return Ok(Acquired::NoSession) };
    if session.repeated {
        let claims = repeated_claims(&mut tx, request).await?;
        let jobs = leased_jobs(&mut tx, &claims).await?;
        return Ok(Acquired::Jobs { worker_id: session.worker_id, jobs, next_run_at_ms: None });
    }
    if session.paused {
        return Ok(Acquired::Jobs { worker_id: session.worker_id, jobs: Vec::new(), next_run_at_ms: None });
    }
    let held = session.held.or(taking.holds).unwrap_or_default();
    let room = i64::from(limits::JOBS_PER_SESSION) - taking.others - held;
    if room <= 0 {
        return Ok(Acquired::SessionFull);
    }
    if start.expired {
        let (pool, floors) = (store.pool.clone(), Arc::clone(&store.floors));
        tokio::spawn(look_from_bottom(pool, floors, session.worker_id.clone(), session.now));
    }
    // A short answer: perhaps something was put below the floors.
    if (taken.len() as i64) < room.min(i64::from(request.max_jobs))
        && let Some(below) = start.below()
    {
        let began = Instant::now();
        let more = take_ready(&mut tx, request, &below, &taking, &taken).await?;
        store.floors.looked_below(&session.worker_id, began);
        let (later, more) = more.map_or((session.now, Vec::new()), |(later, more)| (later.now, more));
        // What became due between the two looks does not start before its time.
        session.now = session.now.max(later);
        taken.extend(more);
        taken.sort_unstable_by_key(|row| (row.priority, row.run_at, row.id));
    }
    if taken.is_empty() {
        // From now on it is known what the session holds, and it can be offered jobs.
        taking.took(session.held, 0);
        let next_run_at_ms = next_run_at(&mut tx, &session).await?;
        return Ok(Acquired::Jobs { worker_id: session.worker_id, jobs: Vec::new(), next_run_at_ms });
    }
    let (mut facts, unknown) = hand_over::facts(&taken);
    if !unknown.is_empty() {
        facts.extend(facts_of(&mut tx, unknown).await?);
    }
    let taker =
        Taker { worker_id: &session.worker_id, session_id: request.session_id, host: &session.host, now: session.now };
    let claims = hand_over::new_claims(&taker, &taken, &facts);
    write_claims(&mut tx, request, &claims, &hand_over::deltas(&session.worker_id, &taken)).await?;
    let jobs = hand_over::leased(&claims, facts)?;
    taking.took(session.held, taken.len());
    tx.commit().await?;
    store.floors.raise(&session.worker_id, &start, &taken);
    Ok(Acquired::Jobs { worker_id: session.worker_id, jobs, next_run_at_ms: None })
}

/// Who asks.
#[derive(Deserialize)]
struct SessionRow {
    worker_id: String,
    host: String,
    now: i64,
    /// Where it was counted.
    held: Option<i64>,
    repeated: bool,
    paused: bool,
}

const REPEATED_CLAIMS: &str = "
    SELECT c.id, c.worker_id, c.session_id, NULL AS host, c.claimed_at, c.ids, c.places
    FROM claims c WHERE c.session_id = $1 AND c.acquire_no = $2 ORDER BY c.chunk";

async fn repeated_claims(tx: &mut Tx, request: &Acquire) -> StoreResult<Vec<Claim>> {
    let rows: Vec<ClaimRow> = sqlx::query_as(REPEATED_CLAIMS)
        .bind(request.session_id)
        .bind(request.acquire_no as i32)
        .fetch_all(&mut **tx)
        .await?;
    Ok(ClaimRow::sound_or_logged(rows).collect())
}

/// The session is locked against rescue, which takes the row FOR UPDATE, and not against heartbeats. An acquire that
/// commits late is therefore never rescued before it is seen.
///
/// By priority, then run_at, then id, one index range a priority, so that jobs that wait for their time are never
/// walked. `ctid = ANY(ARRAY(..))` is a TID scan whatever the statistics, and takes no more rows than the LIMIT. One row
/// more tells of the session, in the same statement, for the server waits for the answer to each.
const TAKE_READY: &str = "
    WITH session AS MATERIALIZED (
        SELECT s.worker_id, s.host, now_ms() AS now,
               CASE WHEN $10 THEN
                   (SELECT coalesce(sum(octet_length(c.ids)), 0) / 16 FROM claims c WHERE c.session_id = s.id)
               END AS held,
               EXISTS (SELECT FROM claims c WHERE c.session_id = s.id AND c.acquire_no = $2) AS repeated,
               EXISTS (SELECT FROM worker_ids w WHERE w.worker_id = s.worker_id) AS paused
        FROM sessions s
        WHERE s.id = $1 AND s.ended_at IS NULL AND s.expires_at > now_ms()
        FOR KEY SHARE OF s
    ), room AS MATERIALIZED (
        SELECT CASE WHEN repeated OR paused THEN 0 ELSE greatest(least($3, $9 - coalesce(held, 0)), 0) END AS jobs FROM session
    ), taken AS (DELETE FROM ready WHERE ctid = ANY(ARRAY(
        SELECT tid FROM (
            SELECT tid, n, sum(payload_bytes) OVER (ORDER BY n ROWS UNBOUNDED PRECEDING) AS bytes
            FROM (
                SELECT r.tid, r.payload_bytes, row_number() OVER () AS n
                FROM unnest($5::smallint[], $6::bigint[], $7::uuid[]) AS f(priority, run_at, id), LATERAL (
                    SELECT ready.ctid AS tid, ready.payload_bytes
                    FROM ready
                    WHERE ready.worker_id = (SELECT worker_id FROM session) AND ready.priority = f.priority
                      AND ready.run_at <= (SELECT now FROM session) AND (ready.run_at, ready.id) > (f.run_at, f.id)
                    ORDER BY ready.run_at, ready.id
                    LIMIT coalesce((SELECT jobs FROM room), 0)
                    FOR UPDATE SKIP LOCKED
                ) AS r
                LIMIT coalesce((SELECT jobs FROM room), 0)
            ) AS candidates
        ) AS sized
        WHERE bytes <= $4 OR (n = 1 AND $8)
    ))
    RETURNING id, priority, run_at, run_no, used, payload_bytes, since, facts)
    SELECT NULL::uuid, NULL::smallint, NULL::bigint, NULL::integer, NULL::integer, NULL::integer, NULL::bigint,
           NULL::bytea, row_to_json(session)::text
    FROM session
    UNION ALL
    SELECT id, priority, run_at, run_no, used, payload_bytes, since, facts, NULL FROM taken";

/// As many as fit beside those that were taken before: `max_jobs` and the bytes of a reply, but at least one in all.
/// `None`: the session is not alive.
async fn take_ready(
    tx: &mut Tx,
    request: &Acquire,
    start: &Start,
    taking: &Taking<'_>,
    before: &[TakenRow],
) -> StoreResult<Option<(SessionRow, Vec<TakenRow>)>> {
    let bytes: i64 = before.iter().map(|row| i64::from(row.payload_bytes)).sum();
    let rows = sqlx::query(TAKE_READY)
        .bind(request.session_id)
        .bind(request.acquire_no as i32)
        .bind(i64::from(request.max_jobs) - before.len() as i64)
        .bind(limits::REPLY_BYTES as i64 - bytes)
        .bind((0..PRIORITIES as i16).collect::<Vec<_>>())
        .bind(start.keys.map(|(run_at, _)| run_at).to_vec())
        .bind(start.keys.map(|(_, id)| id).to_vec())
        .bind(before.is_empty())
        .bind(i64::from(limits::JOBS_PER_SESSION) - taking.others - before.len() as i64)
        .bind(taking.holds.is_none())
        .fetch_all(&mut **tx)
        .await?;
    let (mut session, mut taken) = (None, Vec::with_capacity(rows.len()));
    for row in &rows {
        if let Some(json) = row.try_get::<Option<&str>, _>(8)? {
            session = Some(serde_json::from_str(json).map_err(|error| sqlx::Error::Decode(error.into()))?);
        } else {
            taken.push(TakenRow::from_row(row)?);
        }
    }
    taken.sort_unstable_by_key(|row| (row.priority, row.run_at, row.id));
    Ok(session.map(|session| (session, taken)))
}

/// From a little below the floors, as a short answer looks: one key for each worker_id and priority. The time is asked
/// for once: what this server knows of it is late, perhaps behind what another has just submitted.
const RUNNABLE: &str = "
    SELECT w.worker_id FROM unnest($1::text[]) WITH ORDINALITY AS w(worker_id, n), LATERAL (
        SELECT FROM generate_series(0, 9) AS p(priority), LATERAL (
            SELECT FROM ready r
            WHERE r.worker_id = w.worker_id AND r.priority = p.priority::smallint AND r.run_at <= (SELECT now_ms())
              AND (r.run_at, r.id) > (($2::bigint[])[(w.n - 1) * 10 + p.priority + 1], ($3::uuid[])[(w.n - 1) * 10 + p.priority + 1])
            LIMIT 1
        ) AS job LIMIT 1
    ) AS any_job
    WHERE NOT EXISTS (SELECT FROM worker_ids p WHERE p.worker_id = w.worker_id)";

pub(super) async fn runnable(store: &PostgresStore, worker_ids: &[String]) -> StoreResult<Vec<String>> {
    let now = store.clock.now_ms();
    let keys: Vec<_> = worker_ids.iter().flat_map(|worker_id| store.floors.just_below(worker_id, now)).collect();
    Ok(sqlx::query_scalar(RUNNABLE)
        .bind(worker_ids)
        .bind(keys.iter().map(|(run_at, _)| *run_at).collect::<Vec<_>>())
        .bind(keys.iter().map(|(_, id)| *id).collect::<Vec<_>>())
        .fetch_all(&store.pool)
        .await?)
}

/// The time is a parameter: compared with a function that changes, rows that wait for their time would be walked.
const FIRST_READY: &str = "
    SELECT p.priority::smallint, r.run_at, r.id FROM generate_series(0, 9) AS p(priority), LATERAL (
        SELECT ready.run_at, ready.id FROM ready
        WHERE ready.worker_id = $1 AND ready.priority = p.priority::smallint AND ready.run_at <= $2
        ORDER BY ready.run_at, ready.id LIMIT 1
    ) AS r";

/// Off the acquire path: behind an old snapshot this walks every dead row. Not getting to it is no loss: the next
/// expiry asks again.
async fn look_from_bottom(pool: Pool, floors: Arc<Floors>, worker_id: String, now: i64) {
    let began = Instant::now();
    match sqlx::query_as(FIRST_READY).bind(&worker_id).bind(now).fetch_all(&pool).await {
        Ok(first) => floors.looked(&worker_id, began, &first),
        Err(error) => tracing::debug!(%error, worker_id, "nobody looked below the floor"),
    }
}

const NEXT_RUN_AT: &str = "
    SELECT min(r.run_at) FROM generate_series(0, 9) AS p(priority), LATERAL (
        SELECT ready.run_at FROM ready
        WHERE ready.worker_id = $1 AND ready.priority = p.priority::smallint AND ready.run_at > $2
        ORDER BY ready.run_at LIMIT 1
    ) AS r";

async fn next_run_at(tx: &mut Tx, session: &SessionRow) -> StoreResult<Option<i64>> {
    Ok(sqlx::query_scalar(NEXT_RUN_AT).bind(&session.worker_id).bind(session.now).fetch_one(&mut **tx).await?)
}

const FACTS: &str = "
    SELECT id, task, priority, run_at, payload, max_retries, retry, attempt_timeout, idempotency_key
    FROM jobs WHERE id = ANY($1) AND id BETWEEN $2 AND $3";

async fn facts_of(tx: &mut Tx, ids: Vec<Uuid>) -> StoreResult<HashMap<Uuid, LeasedRow>> {
    let (first, last) = range(&ids);
    let rows: Vec<LeasedRow> = sqlx::query_as(FACTS).bind(ids).bind(first).bind(last).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| (row.id, row)).collect())
}

const WRITE_CLAIMS: &str = concat!(
    "WITH counted AS (",
    counts::insert_deltas!(),
    ")
    INSERT INTO claims (id, worker_id, session_id, acquire_no, chunk, claimed_at, deadline, ids, places)
    SELECT t.id, $14, $15, $16, t.chunk, $17, t.deadline, t.ids, t.places
    FROM unnest($18::uuid[], $19::smallint[], $20::bigint[], $21::bytea[], $22::bytea[]) AS t(id, chunk, deadline, ids, places)"
);

async fn write_claims(tx: &mut Tx, request: &Acquire, claims: &[Claim], deltas: &Deltas) -> StoreResult<()> {
    let Some(first) = claims.first() else { return Ok(()) };
    let mut arguments = PgArguments::default();
    let mut add = || {
        counts::add_deltas(&mut arguments, deltas, first.claimed_at)?;
        arguments.add(first.worker_id.as_str())?;
        arguments.add(first.session_id)?;
        arguments.add(request.acquire_no as i32)?;
        arguments.add(first.claimed_at)?;
        arguments.add(claims.iter().map(|claim| claim.id).collect::<Vec<_>>())?;
        arguments.add((0..claims.len()).map(|n| n as i16).collect::<Vec<_>>())?;
        arguments.add(claims.iter().map(Claim::deadline).collect::<Vec<_>>())?;
        arguments.add(claims.iter().map(Claim::ids).collect::<Vec<_>>())?;
        arguments.add(claims.iter().map(|claim| places::encode_places(&claim.places)).collect::<Vec<_>>())
    };
    add().map_err(sqlx::Error::Encode)?;
    sqlx::query_with(WRITE_CLAIMS, arguments).execute(&mut **tx).await?;
    Ok(())
}

async fn leased_jobs(tx: &mut Tx, claims: &[Claim]) -> StoreResult<Vec<Leased>> {
    let ids = claims.iter().flat_map(|claim| claim.places.iter().map(|place| place.job_id)).collect();
    let facts = facts_of(tx, ids).await?;
    hand_over::leased(claims, facts)
}
