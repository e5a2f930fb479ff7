//! Sessions: registration, heartbeats, and the leases that a session has to stop.

pub(crate) mod end;
pub(crate) mod progress;
pub(crate) mod rescue;

use std::collections::HashMap;

use jobqueue_store::{
    error::{StoreError, StoreResult},
    rows::job::StopReadRow,
    sessions::{
        outage,
        session_end::{self, Cause},
    },
    types::{Heartbeat, HeartbeatAnswer, NewSession, Registration, Stopped},
};
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::{SqliteStore, begin, id_list};

const REGISTER: &str = "
    INSERT INTO sessions (id, worker_id, host, pid, version, tasks, slots, lease, started_at, heartbeat_at, expires_at,
                          draining, ended_at, lost)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?9, ?9 + ?8, false, NULL, false)";

pub(crate) async fn register(store: &SqliteStore, session: &NewSession) -> StoreResult<Registration> {
    if session.predecessors.is_empty() {
        let mut writer = store.writer().await?;
        let mut tx = begin(&mut writer).await?;
        let session_id = write(&mut tx, session, store.clock.now_ms()).await?;
        tx.commit().await?;
        return Ok(Registration::New { session_id, taken_back: 0 });
    }
    match take_over(store, session, session_end::TAKEN_BACK_AT_ONCE).await {
        // The predecessors end in any case; rescue takes back those of their claims that are sound.
        Err(error) if session_end::concerns_single_rows(&error) => take_over(store, session, 0).await,
        result => result,
    }
}

async fn take_over(store: &SqliteStore, session: &NewSession, limit: usize) -> StoreResult<Registration> {
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let mut predecessors = end::read_sessions(&mut tx, &session.predecessors, now).await?;
    if let Some(refused) = session_end::refuse_predecessors(session, &predecessors) {
        return Ok(refused);
    }
    predecessors.retain(|predecessor| !predecessor.has_ended());
    let decision = end::end_now(store, &mut tx, predecessors, Cause::Declared, limit, now).await?;
    let session_id = write(&mut tx, session, now).await?;
    tx.commit().await?;
    Ok(Registration::New { session_id, taken_back: decision.ready.len() as u64 })
}

async fn write(connection: &mut SqliteConnection, session: &NewSession, now: i64) -> StoreResult<Uuid> {
    let id = Uuid::new_v4();
    let tasks = serde_json::to_string(&session.tasks).map_err(|error| StoreError::Data(error.to_string()))?;
    sqlx::query(REGISTER)
        .bind(id)
        .bind(&session.worker_id)
        .bind(&session.host)
        .bind(session.pid)
        .bind(&session.version)
        .bind(tasks)
        .bind(i64::from(session.slots))
        .bind(session.lease_ms)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(id)
}

const HEARTBEAT: &str = "
    UPDATE sessions SET heartbeat_at = ?3, expires_at = ?3 + lease, draining = ?2
    WHERE id = ?1 AND ended_at IS NULL
    RETURNING expires_at";

/// Time up to which sessions were heard, and the time that the file has for it.
#[derive(Clone, Copy)]
pub(crate) struct Listening {
    until: i64,
    stored: i64,
}

/// Minimum time in milliseconds between two writes of that time to the file, since each commit waits for the disk.
/// After a restart an outage can look longer by this; the extension of leases for it is bounded by a lease.
const NOTE_EVERY_MS: i64 = 5_000;

const EXTEND: &str = "
    UPDATE sessions SET expires_at = max(expires_at, min(expires_at + ?2, ?3 + lease))
    WHERE ended_at IS NULL AND expires_at > ?1";

const ANY_SESSION: &str = "SELECT EXISTS (SELECT 1 FROM sessions WHERE ended_at IS NULL)";

pub(crate) async fn listen(store: &SqliteStore) -> StoreResult<i64> {
    let noted = *store.listening.lock();
    let known = if let Some(known) = noted {
        known
    } else {
        let until = sqlx::query_scalar("SELECT until FROM listening").fetch_one(&store.readers).await?;
        Listening { until, stored: until }
    };
    let now = store.clock.now_ms();
    let outage = outage::outage_ms(known.until, now);
    let mut stored = known.stored;
    // The first note of a process is always stored: a session that registers right after it may need it after a crash.
    // Later ones matter only while there are sessions.
    let due = outage.is_some() || now - known.stored >= NOTE_EVERY_MS;
    if noted.is_none() || due && sqlx::query_scalar(ANY_SESSION).fetch_one(&store.readers).await? {
        let mut writer = store.writer().await?;
        let mut tx = begin(&mut writer).await?;
        if let Some(outage) = outage {
            sqlx::query(EXTEND).bind(known.until).bind(outage).bind(now).execute(&mut *tx).await?;
        }
        sqlx::query("UPDATE listening SET until = ?1").bind(now).execute(&mut *tx).await?;
        tx.commit().await?;
        stored = now;
    }
    *store.listening.lock() = Some(Listening { until: now, stored });
    Ok(outage.unwrap_or_default())
}

/// Moves the time of the last note by a jump of the clock.
pub(crate) fn shift_listening(store: &SqliteStore, jump_ms: i64) {
    if let Some(known) = store.listening.lock().as_mut() {
        known.until += jump_ms;
    }
}

const STOPS: &str = "
    SELECT session_id, claim_id, job_id, reason FROM stops
    WHERE session_id IN (SELECT unhex(value) FROM json_each(?1))";

pub(crate) async fn heartbeat(store: &SqliteStore, beats: &[Heartbeat]) -> StoreResult<Vec<Option<HeartbeatAnswer>>> {
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let mut expires: HashMap<Uuid, i64> = HashMap::new();
    for beat in beats {
        let expires_at: Option<i64> = sqlx::query_scalar(HEARTBEAT)
            .bind(beat.session_id)
            .bind(beat.draining)
            .bind(now)
            .fetch_optional(&mut *tx)
            .await?;
        expires.extend(expires_at.map(|at| (beat.session_id, at)));
    }
    let ids: Vec<_> = beats.iter().map(|beat| beat.session_id).collect();
    let stops: Vec<StopReadRow> = sqlx::query_as(STOPS).bind(id_list(&ids)).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let mut stop: HashMap<Uuid, Vec<Stopped>> = HashMap::new();
    for row in stops {
        stop.entry(row.session_id).or_default().push(row.stopped());
    }
    let alive = |id: &Uuid| {
        let expires_at_ms = *expires.get(id)?;
        Some(HeartbeatAnswer { expires_at_ms, stop: stop.get(id).cloned().unwrap_or_default() })
    };
    Ok(ids.iter().map(alive).collect())
}

pub(crate) async fn stops(store: &SqliteStore, session_id: Uuid) -> StoreResult<Vec<Stopped>> {
    let rows: Vec<StopReadRow> = sqlx::query_as(STOPS).bind(id_list(&[session_id])).fetch_all(&store.readers).await?;
    Ok(rows.iter().map(StopReadRow::stopped).collect())
}
