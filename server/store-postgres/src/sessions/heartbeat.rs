//! Heartbeats, and the leases that a session has to stop.

use std::collections::HashMap;

use jobqueue_store::{
    error::StoreResult,
    rows::job::StopReadRow,
    types::{Heartbeat, HeartbeatAnswer, Stopped},
};
use sqlx::FromRow;
use uuid::Uuid;

use crate::PostgresStore;

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

/// Extends leases after an outage. Rows are locked in the order of their ids, as by heartbeats.
pub(crate) const EXTEND: &str = "
    WITH live AS MATERIALIZED (
        SELECT id FROM sessions WHERE ended_at IS NULL AND expires_at > $1 ORDER BY id FOR NO KEY UPDATE
    )
    UPDATE sessions s SET expires_at = greatest(s.expires_at, least(s.expires_at + $2, $3 + s.lease))
    FROM live WHERE s.id = live.id AND s.ended_at IS NULL";

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
