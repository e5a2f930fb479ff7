//! The end of sessions: their jobs are taken back.

use std::collections::HashMap;

use jobqueue_store::{
    error::StoreResult,
    rows::job::ClaimRow,
    sessions::session_end::{self, Cause, HeldClaimRow, SessionEnd, SessionEndRow},
    settle::{claim::Claim, decision::SettleDecision},
};
use uuid::Uuid;

use crate::{SqliteStore, Tx, begin, id_list, settle};

const READ_SESSIONS: &str = "
    SELECT id, worker_id, host, slots, lease, expires_at, ended_at, lost, held, expires_at <= ?2 AS expired
    FROM sessions WHERE id IN (SELECT unhex(value) FROM json_each(?1)) ORDER BY id";

pub(crate) const CLAIMS_OF_SESSIONS: &str = "
    SELECT session_id, id, ids FROM claims WHERE session_id IN (SELECT unhex(value) FROM json_each(?1))
    ORDER BY session_id, claimed_at, acquire_no, chunk";

pub(crate) async fn with_claims(
    tx: &mut Tx,
    sessions: Vec<SessionEndRow>,
    missing: Vec<Uuid>,
    cause: Cause,
) -> StoreResult<Vec<SessionEnd>> {
    let ids: Vec<_> = sessions.iter().map(|session| session.id).chain(missing.iter().copied()).collect();
    let holds: Vec<HeldClaimRow> = sqlx::query_as(CLAIMS_OF_SESSIONS).bind(id_list(&ids)).fetch_all(&mut *tx).await?;
    Ok(session_end::join_claims(sessions, missing, holds, cause))
}

const MARK_ENDED: &str = "UPDATE sessions SET ended_at = ?4, lost = ?2, held = ?3 WHERE id = ?1 AND ended_at IS NULL";

/// Marks sessions as ended; returns how many had not ended before.
pub(crate) async fn mark_ended(tx: &mut Tx, ends: &[SessionEnd], now: i64) -> StoreResult<u64> {
    let mut ids = Vec::new();
    for session in ends {
        let Some(held) = session.ends_holding() else { continue };
        sqlx::query(MARK_ENDED).bind(session.id).bind(session.is_lost()).bind(held).bind(now).execute(&mut *tx).await?;
        ids.push(session.id);
    }
    if !ids.is_empty() {
        sqlx::query("DELETE FROM stops WHERE session_id IN (SELECT unhex(value) FROM json_each(?1))")
            .bind(id_list(&ids))
            .execute(&mut *tx)
            .await?;
    }
    Ok(ids.len() as u64)
}

pub(crate) async fn read_sound_claims(
    store: &SqliteStore,
    tx: &mut Tx,
    ids: &[Uuid],
) -> StoreResult<HashMap<Uuid, Claim>> {
    let rows: Vec<ClaimRow> = sqlx::query_as(settle::READ_CLAIMS).bind(id_list(ids)).fetch_all(&mut *tx).await?;
    let claims = ClaimRow::decodable(rows, |id, error| store.quarantine.add("claim", id, error));
    Ok(claims.map(|claim| (claim.id, claim)).collect())
}

pub(crate) async fn take_back(
    store: &SqliteStore,
    tx: &mut Tx,
    ends: &[SessionEnd],
    claims: &[Uuid],
    now: i64,
) -> StoreResult<SettleDecision> {
    if claims.is_empty() {
        return Ok(SettleDecision::default());
    }
    let claims = read_sound_claims(store, tx, claims).await?;
    let items: Vec<_> = ends.iter().flat_map(|session| session.items(&claims)).collect();
    settle::end_attempts(tx, &items, claims, now).await
}

pub(crate) async fn read_sessions(tx: &mut Tx, ids: &[Uuid], now: i64) -> StoreResult<Vec<SessionEndRow>> {
    Ok(sqlx::query_as(READ_SESSIONS).bind(id_list(ids)).bind(now).fetch_all(&mut *tx).await?)
}

/// Ends sessions within the caller's transaction, and takes back up to `limit` of their jobs. Rescue takes back the
/// rest.
pub(crate) async fn end_now(
    store: &SqliteStore,
    tx: &mut Tx,
    sessions: Vec<SessionEndRow>,
    cause: Cause,
    limit: usize,
    now: i64,
) -> StoreResult<SettleDecision> {
    let ends = with_claims(tx, sessions, Vec::new(), cause).await?;
    mark_ended(tx, &ends, now).await?;
    let (claims, _) = session_end::next_claims(&ends, limit, &store.quarantine.left_out());
    take_back(store, tx, &ends, &claims, now).await
}

pub(crate) async fn end_session(store: &SqliteStore, session_id: Uuid) -> StoreResult<Option<String>> {
    match try_end_session(store, session_id, session_end::TAKEN_BACK_AT_ONCE).await {
        // The session ends in any case; rescue takes back those of its claims that are sound.
        Err(error) if error.concerns_single_rows() => try_end_session(store, session_id, 0).await,
        result => result,
    }
}

async fn try_end_session(store: &SqliteStore, session_id: Uuid, limit: usize) -> StoreResult<Option<String>> {
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let mut sessions = read_sessions(&mut tx, &[session_id], now).await?;
    sessions.retain(|session| !session.has_ended());
    let Some(worker_id) = sessions.first().map(|session| session.worker_id.clone()) else { return Ok(None) };
    end_now(store, &mut tx, sessions, Cause::Goodbye, limit, now).await?;
    tx.commit().await?;
    Ok(Some(worker_id))
}
