//! Sessions: registration, heartbeats, and the leases that a session has to stop.

pub(crate) mod end;
pub(crate) mod progress;
pub(crate) mod rescue;

use std::collections::HashMap;

use jobqueue_store::{
    error::{StoreError, StoreResult},
    rows::{job::StopReadRow, write::ReadyRow},
    sessions::{
        outage,
        session_end::{self, Cause},
    },
    types::{Heartbeat, HeartbeatAnswer, NewSession, Registration, Stopped},
};
use sqlx::{FromRow, PgExecutor};
use uuid::Uuid;

use crate::PostgresStore;

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
    let mut predecessors = end::lock_sessions(&mut tx, &session.predecessors).await?;
    if let Some(refused) = session_end::refuse_predecessors(session, &predecessors) {
        return Ok(refused);
    }
    predecessors.retain(|predecessor| !predecessor.has_ended());
    let decision = end::end_now(store, &mut tx, predecessors, Cause::Declared, limit).await?;
    let session_id = write(&mut *tx, session).await?;
    tx.commit().await?;
    store.scan_cursors.lower(decision.ready.iter().map(ReadyRow::key));
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
