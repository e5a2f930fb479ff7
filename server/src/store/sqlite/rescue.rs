//! Taking back what sessions lost and what runs too long; and what a session that says goodbye still holds.

use uuid::Uuid;

use super::{SqliteStore, Tx, begin, settle};
use crate::store::{
    error::StoreResult,
    plan::{self, Item, LostSession, Plan},
    types::Rescued,
};

pub(super) async fn rescue(store: &SqliteStore, limit: u32) -> StoreResult<Rescued> {
    let mut rescued = Rescued::default();
    time_out(store, limit, &mut rescued).await?;
    let lost = lost_sessions(store, limit).await?;
    rescued.more |= lost.len() >= limit as usize;
    let mut failure = None;
    for session_id in lost {
        if rescued.lost >= u64::from(limit) {
            rescued.more = true;
            break;
        }
        // A session a transaction: one that cannot be rescued does not keep the others.
        if let Err(error) = end_lost(store, session_id, &mut rescued).await {
            tracing::error!(%session_id, %error, "a lost session was not rescued");
            failure = Some(error);
        }
    }
    rescued.worker_ids.sort_unstable();
    rescued.worker_ids.dedup();
    match failure {
        Some(error) if rescued.sessions == 0 => Err(error),
        _ => Ok(rescued),
    }
}

const OVERDUE: &str = "SELECT id FROM claims WHERE deadline <= ?1 ORDER BY deadline LIMIT ?2";

async fn time_out(store: &SqliteStore, limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let ids: Vec<Uuid> = sqlx::query_scalar(OVERDUE).bind(now).bind(i64::from(limit)).fetch_all(&mut *tx).await?;
    if ids.is_empty() {
        return Ok(());
    }
    rescued.more |= ids.len() >= limit as usize;
    let claims = settle::read_claims(&mut tx, &ids).await?;
    let items = plan::timed_out_items(&claims, now);
    let plan = settle::end(&mut tx, &items, claims, now).await?;
    tx.commit().await?;
    rescued.timed_out += items.len() as u64;
    rescued.worker_ids.extend(plan.woken());
    rescued.stopped.extend(plan.stopped());
    Ok(())
}

/// Sessions whose lease ran out; and, from the claims, sessions that are gone and yet hold something.
const LOST_SESSIONS: &str = "
    SELECT id FROM (
        SELECT s.id, s.expires_at AS since FROM sessions s WHERE s.ended_at IS NULL AND s.expires_at <= ?1
        UNION
        SELECT c.session_id, min(c.claimed_at) FROM claims c
        WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = c.session_id AND s.ended_at IS NULL)
        GROUP BY c.session_id
    ) AS lost
    ORDER BY since LIMIT ?2";

async fn lost_sessions(store: &SqliteStore, limit: u32) -> StoreResult<Vec<Uuid>> {
    Ok(sqlx::query_scalar(LOST_SESSIONS)
        .bind(store.clock.now_ms())
        .bind(i64::from(limit))
        .fetch_all(&store.readers)
        .await?)
}

const READ_SESSION: &str = "
    SELECT worker_id, host, slots, lease, ended_at IS NOT NULL AS ended, expires_at <= ?2 AS expired
    FROM sessions WHERE id = ?1";

const MARK_ENDED: &str = "UPDATE sessions SET ended_at = ?3, lost = ?2 WHERE id = ?1 AND ended_at IS NULL";

async fn read_session(tx: &mut Tx<'_>, session_id: Uuid, now: i64) -> StoreResult<Option<LostSession>> {
    Ok(sqlx::query_as(READ_SESSION).bind(session_id).bind(now).fetch_optional(&mut **tx).await?)
}

async fn end_lost(store: &SqliteStore, session_id: Uuid, rescued: &mut Rescued) -> StoreResult<()> {
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let session = read_session(&mut tx, session_id, now).await?;
    if session.as_ref().is_some_and(|session| !session.ended && !session.expired) {
        return Ok(());
    }
    let (slots, text) = plan::loss(session_id, session.as_ref());
    sqlx::query(MARK_ENDED).bind(session_id).bind(true).bind(now).execute(&mut *tx).await?;
    let plan = take_back(&mut tx, session_id, now, |claims| plan::lost_items(claims, slots, &text)).await?;
    tx.commit().await?;
    rescued.sessions += 1;
    rescued.lost += plan.answers.len() as u64;
    rescued.worker_ids.extend(plan.woken());
    Ok(())
}

pub(super) async fn end_session(store: &SqliteStore, session_id: Uuid) -> StoreResult<Option<String>> {
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let Some(session) = read_session(&mut tx, session_id, now).await?.filter(|session| !session.ended) else {
        return Ok(None);
    };
    sqlx::query(MARK_ENDED).bind(session_id).bind(false).bind(now).execute(&mut *tx).await?;
    take_back(&mut tx, session_id, now, plan::released_items).await?;
    tx.commit().await?;
    Ok(Some(session.worker_id))
}

type Claims = std::collections::HashMap<Uuid, plan::Claim>;

async fn take_back(
    tx: &mut Tx<'_>,
    session_id: Uuid,
    now: i64,
    items: impl FnOnce(&Claims) -> Vec<Item>,
) -> StoreResult<Plan> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM claims WHERE session_id = ?1").bind(session_id).fetch_all(&mut **tx).await?;
    let claims = settle::read_claims(tx, &ids).await?;
    let items = items(&claims);
    let plan = settle::end(tx, &items, claims, now).await?;
    sqlx::query("DELETE FROM stops WHERE session_id = ?1").bind(session_id).execute(&mut **tx).await?;
    Ok(plan)
}
