//! Sessions: registration, heartbeats, stops and progress reports.

pub(crate) mod rescue;

use std::collections::HashMap;

use jobqueue_shared::limits;
use jobqueue_store::{
    error::{StoreError, StoreResult},
    rows::{job::StopReadRow, packed_claim, session::SessionRow},
    sessions::{
        outage,
        session_end::{self, Cause, HoldRow},
    },
    types::{
        Heartbeat, HeartbeatAnswer, NewSession, ProgressReport, Registration, SessionDetails, SessionQuery,
        SessionRecord, Stopped,
    },
};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use crate::{PostgresStore, observe::read, settle};

const REGISTER: &str = "
    INSERT INTO sessions (id, worker_id, host, pid, version, tasks, slots, lease, started_at, heartbeat_at, expires_at,
                          draining, ended_at, lost)
    SELECT $1, $2, $3, $4, $5, $6, $7, $8, now, now, now + $8, false, NULL, false FROM (SELECT now_ms() AS now) AS clock";

pub(crate) async fn register(store: &PostgresStore, session: &NewSession) -> StoreResult<Registration> {
    if session.predecessors.is_empty() {
        let session_id = write(&store.pool, session).await?;
        return Ok(Registration::New { session_id, taken_back: 0 });
    }
    match take_over(store, session, session_end::TAKEN_BACK_AT_ONCE).await {
        // The predecessors end in any case; rescue takes back those of their claims that are sound.
        Err(error) if session_end::concerns_single_rows(&error) => take_over(store, session, 0).await,
        result => result,
    }
}

async fn take_over(store: &PostgresStore, session: &NewSession, limit: usize) -> StoreResult<Registration> {
    let mut tx = store.begin().await?;
    let mut predecessors = rescue::lock_sessions(&mut tx, &session.predecessors).await?;
    if let Some(refused) = session_end::refuse_predecessors(session, &predecessors) {
        return Ok(refused);
    }
    predecessors.retain(|predecessor| !predecessor.has_ended());
    let decision = rescue::end_now(store, &mut tx, predecessors, Cause::Declared, limit).await?;
    let session_id = write(&mut *tx, session).await?;
    tx.commit().await?;
    store.scan_cursors.lower(&decision.ready);
    Ok(Registration::New { session_id, taken_back: decision.ready.len() as u64 })
}

async fn write<'e>(executor: impl PgExecutor<'e>, session: &NewSession) -> StoreResult<Uuid> {
    let id = Uuid::new_v4();
    let tasks = serde_json::to_string(&session.tasks).map_err(|error| StoreError::Data(error.to_string()))?;
    sqlx::query(REGISTER)
        .bind(id)
        .bind(&session.worker_id)
        .bind(&session.host)
        .bind(session.pid)
        .bind(&session.version)
        .bind(tasks)
        .bind(session.slots as i32)
        .bind(session.lease_ms)
        .execute(executor)
        .await?;
    Ok(id)
}

/// Extends the leases of sessions. Rows are locked in the order of their ids before they are written, as rescue does. A
/// row that another transaction has locked is waited for: that transaction may be about to end the session.
const HEARTBEAT: &str = "
    WITH beats AS MATERIALIZED (
        SELECT s.id, t.draining, now_ms() AS now
        FROM unnest($1::uuid[], $2::boolean[]) AS t(id, draining)
        JOIN sessions s ON s.id = t.id
        WHERE s.ended_at IS NULL
        ORDER BY s.id
        FOR NO KEY UPDATE OF s
    )
    UPDATE sessions s SET heartbeat_at = beats.now, expires_at = beats.now + s.lease, draining = beats.draining
    FROM beats WHERE s.id = beats.id AND s.ended_at IS NULL
    RETURNING s.id, s.expires_at";

#[derive(FromRow)]
struct BeatRow {
    id: Uuid,
    expires_at: i64,
}

const HEARD: &str = "
    UPDATE listening SET until = clock.now
    FROM (SELECT until AS last, now_ms() AS now FROM listening FOR UPDATE) AS clock
    RETURNING clock.last, clock.now";

/// Extends leases after an outage. Rows are locked in the order of their ids, as by heartbeats.
const EXTEND: &str = "
    WITH live AS MATERIALIZED (
        SELECT id FROM sessions WHERE ended_at IS NULL AND expires_at > $1 ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE sessions s SET expires_at = greatest(s.expires_at, least(s.expires_at + $2, $3 + s.lease))
    FROM live WHERE s.id = live.id AND s.ended_at IS NULL";

pub(crate) async fn listen(store: &PostgresStore) -> StoreResult<i64> {
    let mut tx = store.begin_lazy().await?;
    let (until, now): (i64, i64) = sqlx::query_as(HEARD).fetch_one(&mut *tx).await?;
    let outage = outage::outage_ms(until, now);
    if let Some(outage) = outage {
        sqlx::query(EXTEND).bind(until).bind(outage).bind(now).execute(&mut *tx).await?;
    }
    tx.commit().await?;
    Ok(outage.unwrap_or_default())
}

const STOPS: &str = "SELECT session_id, claim_id, job_id, reason FROM stops WHERE session_id = ANY($1)";

pub(crate) async fn heartbeat(store: &PostgresStore, beats: &[Heartbeat]) -> StoreResult<Vec<Option<HeartbeatAnswer>>> {
    let ids: Vec<_> = beats.iter().map(|beat| beat.session_id).collect();
    let mut tx = store.begin_lazy().await?;
    let rows: Vec<BeatRow> = sqlx::query_as(HEARTBEAT)
        .bind(&ids)
        .bind(beats.iter().map(|beat| beat.draining).collect::<Vec<_>>())
        .fetch_all(&mut *tx)
        .await?;
    let stops: Vec<StopReadRow> = sqlx::query_as(STOPS).bind(&ids).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let mut stop: HashMap<Uuid, Vec<Stopped>> = HashMap::new();
    for row in stops {
        stop.entry(row.session_id).or_default().push(row.stopped());
    }
    let expires: HashMap<Uuid, i64> = rows.into_iter().map(|row| (row.id, row.expires_at)).collect();
    let alive = |id: &Uuid| {
        let expires_at_ms = *expires.get(id)?;
        Some(HeartbeatAnswer { expires_at_ms, stop: stop.get(id).cloned().unwrap_or_default() })
    };
    Ok(ids.iter().map(alive).collect())
}

pub(crate) async fn stops(store: &PostgresStore, session_id: Uuid) -> StoreResult<Vec<Stopped>> {
    let rows: Vec<StopReadRow> = sqlx::query_as(STOPS).bind(vec![session_id]).fetch_all(&store.pool).await?;
    Ok(rows.iter().map(StopReadRow::stopped).collect())
}

const WRITE_PROGRESS: &str = "
    INSERT INTO progress (id, run_no, fraction, message, at) VALUES ($1, $2, $3, $4, now_ms())
    ON CONFLICT (id) DO UPDATE SET run_no = excluded.run_no, fraction = excluded.fraction, message = excluded.message,
                                   at = excluded.at";

pub(crate) async fn report_progress(store: &PostgresStore, report: &ProgressReport) -> StoreResult<bool> {
    let mut tx = store.begin_lazy().await?;
    let claims = settle::lock_claims(&mut tx, vec![report.lease.claim_id]).await?;
    let held = claims
        .get(&report.lease.claim_id)
        .and_then(|claim| Some((claim, *claim.entries.iter().find(|entry| entry.job_id == report.lease.job_id)?)));
    let Some((_, entry)) = held.filter(|(claim, _)| claim.session_id == report.session_id) else {
        let held = held.map(|(claim, entry)| claim.as_prior(entry));
        settle::refuse_progress(&mut tx, report, held, store.clock.now_ms()).await?;
        tx.commit().await?;
        return Ok(false);
    };
    sqlx::query(WRITE_PROGRESS)
        .bind(entry.job_id)
        .bind(entry.run_no as i32)
        .bind(report.fraction)
        .bind(&report.message)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(true)
}

/// A page of up to $6 sessions and about $7 bytes, but at least one session: the tasks of one can be 100 KB.
const SESSIONS: &str = "
    SELECT s.id, s.worker_id, s.host, s.pid, s.version, s.tasks, s.slots, s.lease, s.started_at, s.heartbeat_at,
           s.expires_at, s.draining, s.ended_at, s.lost,
           (SELECT coalesce(sum(octet_length(c.ids)), 0)::bigint / 16 FROM claims c WHERE c.session_id = s.id) AS running
    FROM (
        SELECT s.*, row_number() OVER in_order AS n, sum(octet_length(s.tasks)) OVER in_order AS bytes
        FROM sessions s
        WHERE ($1::text IS NULL OR s.worker_id = $1) AND (s.ended_at IS NULL OR s.ended_at > $2)
          AND ($3::boolean IS NULL OR (s.ended_at IS NOT NULL, -s.started_at, s.id) > ($3, -$4::bigint, $5::uuid))
        WINDOW in_order AS (ORDER BY s.ended_at IS NOT NULL, s.started_at DESC, s.id)
        ORDER BY s.ended_at IS NOT NULL, s.started_at DESC, s.id
        LIMIT $6
    ) AS s
    WHERE s.n = 1 OR s.bytes <= $7
    ORDER BY s.n";

pub(crate) async fn sessions(store: &PostgresStore, query: &SessionQuery) -> StoreResult<Vec<SessionRecord>> {
    let now = store.now().await?;
    let rows: Vec<SessionRow> = sqlx::query_as(SESSIONS)
        .bind(&query.worker_id)
        .bind(now - 86_400_000)
        .bind(query.after.map(|it| it.ended))
        .bind(query.after.map(|it| it.started_at_ms))
        .bind(query.after.map(|it| it.session_id))
        .bind(i64::from(query.page_size))
        .bind(limits::REPLY_BYTES as i64)
        .fetch_all(&store.pool)
        .await?;
    rows.into_iter().map(|row| row.into_record(now)).collect()
}

const SESSION: &str = "
    SELECT s.id, s.worker_id, s.host, s.pid, s.version, s.tasks, s.slots, s.lease, s.started_at, s.heartbeat_at,
           s.expires_at, s.draining, s.ended_at, s.lost, s.held,
           (SELECT coalesce(sum(octet_length(c.ids)), 0)::bigint / 16 FROM claims c WHERE c.session_id = s.id) AS running
    FROM sessions s WHERE s.id = $1";

pub(crate) async fn session(store: &PostgresStore, session_id: Uuid) -> StoreResult<Option<SessionDetails>> {
    let now = store.now().await?;
    let mut connection = store.pool.acquire().await?;
    let row: Option<SessionRow> = sqlx::query_as(SESSION).bind(session_id).fetch_optional(&mut *connection).await?;
    let Some(mut row) = row else { return Ok(None) };
    let held = if let Some(held) = row.held.take() {
        held
    } else {
        let claims: Vec<HoldRow> = sqlx::query_as(rescue::HOLDS).bind([session_id]).fetch_all(&mut *connection).await?;
        session_end::held(&claims)
    };
    let held = &held[..held.len().min(16 * limits::HELD_SHOWN)];
    let jobs = read::states(&mut connection, &packed_claim::decode_ids(held).collect::<Vec<_>>()).await?;
    let session = row.into_record(now)?;
    let held = jobqueue_store::rows::session::held_jobs(held, session.slots, &jobs);
    Ok(Some(SessionDetails { session, held }))
}
