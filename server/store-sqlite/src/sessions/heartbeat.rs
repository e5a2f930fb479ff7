//! Heartbeats, and the leases that a session has to stop.

use std::collections::HashMap;

use jobqueue_store::{
    error::StoreResult,
    rows::job::StopReadRow,
    types::{Heartbeat, HeartbeatAnswer, Stopped},
};
use uuid::Uuid;

use crate::{SqliteStore, Tx, id_list};

const HEARTBEAT: &str = "
    UPDATE sessions SET heartbeat_at = ?3, expires_at = ?3 + lease, draining = ?2
    WHERE id = ?1 AND ended_at IS NULL
    RETURNING expires_at";

pub(crate) const EXTEND: &str = "
    UPDATE sessions SET expires_at = max(expires_at, min(expires_at + ?2, ?3 + lease))
    WHERE ended_at IS NULL AND expires_at > ?1";

const STOPS: &str = "
    SELECT session_id, claim_id, job_id, reason FROM stops
    WHERE session_id IN (SELECT unhex(value) FROM json_each(?1))";

pub(crate) async fn heartbeat(store: &SqliteStore, beats: &[Heartbeat]) -> StoreResult<Vec<Option<HeartbeatAnswer>>> {
    let mut share = store.share().await?;
    let heard = hear(share.connection()?, beats, store.clock.now_ms()).await;
    let (expires, stops) = share.finish(heard).await?;
    let mut stop: HashMap<Uuid, Vec<Stopped>> = HashMap::new();
    for row in stops {
        stop.entry(row.session_id).or_default().push(row.stopped());
    }
    let alive = |id: &Uuid| {
        let expires_at_ms = *expires.get(id)?;
        Some(HeartbeatAnswer { expires_at_ms, stop: stop.get(id).cloned().unwrap_or_default() })
    };
    Ok(beats.iter().map(|beat| alive(&beat.session_id)).collect())
}

async fn hear(tx: &mut Tx, beats: &[Heartbeat], now: i64) -> StoreResult<(HashMap<Uuid, i64>, Vec<StopReadRow>)> {
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
    let stops = sqlx::query_as(STOPS).bind(id_list(&ids)).fetch_all(&mut *tx).await?;
    Ok((expires, stops))
}

pub(crate) async fn stops(store: &SqliteStore, session_id: Uuid) -> StoreResult<Vec<Stopped>> {
    let rows: Vec<StopReadRow> = sqlx::query_as(STOPS).bind(id_list(&[session_id])).fetch_all(&store.readers).await?;
    Ok(rows.iter().map(StopReadRow::stopped).collect())
}
