//! Registration of sessions, and the end of their predecessors.

use jobqueue_store::{
    error::{StoreError, StoreResult},
    sessions::session_end::{self, Cause},
    types::{NewSession, Registration},
};
use sqlx::SqliteConnection;
use uuid::Uuid;

use crate::{SqliteStore, begin, sessions::end};

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
        Err(error) if error.concerns_single_rows() => take_over(store, session, 0).await,
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
