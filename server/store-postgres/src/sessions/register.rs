//! Registration of sessions, and the end of their predecessors.

use jobqueue_store::{
    error::{StoreError, StoreResult},
    rows::write::ReadyRow,
    sessions::session_end::{self, Cause},
    types::{NewSession, Registration},
};
use sqlx::PgExecutor;
use uuid::Uuid;

use crate::{PostgresStore, sessions::end};

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
        Err(error) if error.concerns_single_rows() => take_over(store, session, 0).await,
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
