//! The end of sessions: their jobs are taken back.

use std::collections::HashMap;

use jobqueue_store::{
    error::StoreResult,
    rows::{job::ClaimRow, write::ReadyRow},
    sessions::session_end::{self, Cause, HeldClaimRow, SessionEnd, SessionEndRow},
    settle::{claim::Claim, decision::SettleDecision},
};
use uuid::Uuid;

use crate::{PostgresStore, Tx, settle};

/// Locks sessions. FOR UPDATE waits for their acquires (FOR KEY SHARE) to end, so that later statements see what these
/// commit.
const LOCK_SESSIONS: &str = "
    SELECT id, worker_id, host, slots, lease, expires_at, ended_at, lost, held, expires_at <= now_ms() AS expired
    FROM sessions WHERE id = ANY($1) ORDER BY id FOR UPDATE";

pub(crate) const CLAIMS_OF_SESSIONS: &str = "
    SELECT session_id, id, ids FROM claims WHERE session_id = ANY($1) ORDER BY session_id, claimed_at, acquire_no, chunk";

pub(crate) async fn with_claims(
    tx: &mut Tx,
    sessions: Vec<SessionEndRow>,
    missing: Vec<Uuid>,
    cause: Cause,
) -> StoreResult<Vec<SessionEnd>> {
    let ids: Vec<_> = sessions.iter().map(|session| session.id).chain(missing.iter().copied()).collect();
    let holds: Vec<HeldClaimRow> = sqlx::query_as(CLAIMS_OF_SESSIONS).bind(ids).fetch_all(&mut **tx).await?;
    Ok(session_end::join_claims(sessions, missing, holds, cause))
}

const MARK_ENDED: &str = "
    UPDATE sessions s SET ended_at = now_ms(), lost = t.lost, held = t.held
    FROM unnest($1::uuid[], $2::boolean[], $3::bytea[]) AS t(id, lost, held)
    WHERE s.id = t.id AND s.ended_at IS NULL";

/// Marks sessions as ended; returns how many had not ended before.
pub(crate) async fn mark_ended(tx: &mut Tx, ends: &[SessionEnd]) -> StoreResult<u64> {
    let ending: Vec<_> = ends.iter().filter_map(|it| Some((it.id, it.is_lost(), it.ends_holding()?))).collect();
    if ending.is_empty() {
        return Ok(0);
    }
    let ids: Vec<_> = ending.iter().map(|(id, ..)| *id).collect();
    let ended = sqlx::query(MARK_ENDED)
        .bind(&ids)
        .bind(ending.iter().map(|(_, lost, _)| *lost).collect::<Vec<_>>())
        .bind(ending.iter().map(|(.., held)| held.as_slice()).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    sqlx::query("DELETE FROM stops WHERE session_id = ANY($1)").bind(&ids).execute(&mut **tx).await?;
    Ok(ended.rows_affected())
}

/// Locks the claims that nobody is settling; the next turn tries the others again.
pub(crate) async fn lock_free_claims(
    store: &PostgresStore,
    tx: &mut Tx,
    ids: &[Uuid],
) -> StoreResult<HashMap<Uuid, Claim>> {
    let rows: Vec<ClaimRow> =
        sqlx::query_as(settle::locked_claims!("FOR UPDATE SKIP LOCKED")).bind(ids).fetch_all(&mut **tx).await?;
    let claims = ClaimRow::decodable(rows, |id, error| store.quarantine.add("claim", id, error));
    Ok(claims.map(|claim| (claim.id, claim)).collect())
}

pub(crate) async fn take_back(
    store: &PostgresStore,
    tx: &mut Tx,
    ends: &[SessionEnd],
    claims: &[Uuid],
) -> StoreResult<SettleDecision> {
    if claims.is_empty() {
        return Ok(SettleDecision::default());
    }
    let claims = lock_free_claims(store, tx, claims).await?;
    let items: Vec<_> = ends.iter().flat_map(|session| session.items(&claims)).collect();
    let now = database_now(tx).await?;
    settle::end_attempts(tx, &items, claims, now).await
}

pub(crate) async fn database_now(tx: &mut Tx) -> StoreResult<i64> {
    Ok(sqlx::query_scalar("SELECT now_ms()").fetch_one(&mut **tx).await?)
}

pub(crate) async fn lock_sessions(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<Vec<SessionEndRow>> {
    Ok(sqlx::query_as(LOCK_SESSIONS).bind(ids).fetch_all(&mut **tx).await?)
}

/// Ends locked sessions within the caller's transaction, and takes back up to `limit` of their jobs. Rescue takes back
/// the rest.
pub(crate) async fn end_now(
    store: &PostgresStore,
    tx: &mut Tx,
    sessions: Vec<SessionEndRow>,
    cause: Cause,
    limit: usize,
) -> StoreResult<SettleDecision> {
    let ends = with_claims(tx, sessions, Vec::new(), cause).await?;
    mark_ended(tx, &ends).await?;
    let (claims, _) = session_end::next_claims(&ends, limit, &store.quarantine.left_out());
    take_back(store, tx, &ends, &claims).await
}

pub(crate) async fn end_session(store: &PostgresStore, session_id: Uuid) -> StoreResult<Option<String>> {
    match try_end_session(store, session_id, session_end::TAKEN_BACK_AT_ONCE).await {
        // The session ends in any case; rescue takes back those of its claims that are sound.
        Err(error) if error.concerns_single_rows() => try_end_session(store, session_id, 0).await,
        result => result,
    }
}

async fn try_end_session(store: &PostgresStore, session_id: Uuid, limit: usize) -> StoreResult<Option<String>> {
    let mut tx = store.begin().await?;
    let mut sessions = lock_sessions(&mut tx, &[session_id]).await?;
    sessions.retain(|session| !session.has_ended());
    let Some(worker_id) = sessions.first().map(|session| session.worker_id.clone()) else { return Ok(None) };
    let decision = end_now(store, &mut tx, sessions, Cause::Goodbye, limit).await?;
    tx.commit().await?;
    store.scan_cursors.lower(decision.ready.iter().map(ReadyRow::key));
    Ok(Some(worker_id))
}
