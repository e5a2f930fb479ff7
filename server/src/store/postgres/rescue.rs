//! Taking back what sessions lost and what runs too long; and what a session that says goodbye still holds.

use uuid::Uuid;

use super::{PostgresStore, Tx, settle};
use crate::store::{
    error::StoreResult,
    plan::{self, Item, LostSession, Plan},
    types::Rescued,
};

pub(super) async fn rescue(store: &PostgresStore, limit: u32) -> StoreResult<Rescued> {
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

/// What another server is rescuing right now is skipped.
const LOCK_OVERDUE: &str = "
    SELECT id FROM claims WHERE deadline <= now_ms() ORDER BY deadline LIMIT $1 FOR UPDATE SKIP LOCKED";

async fn time_out(store: &PostgresStore, limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    let ids: Vec<Uuid> = sqlx::query_scalar(LOCK_OVERDUE).bind(i64::from(limit)).fetch_all(&mut *tx).await?;
    if ids.is_empty() {
        return Ok(());
    }
    rescued.more |= ids.len() >= limit as usize;
    let now: i64 = sqlx::query_scalar("SELECT now_ms()").fetch_one(&mut *tx).await?;
    let claims = settle::lock_claims(&mut tx, ids).await?;
    let items = plan::timed_out_items(&claims, now);
    let plan = settle::end(&mut tx, &items, claims, now).await?;
    tx.commit().await?;
    store.floors.lower(&plan.ready);
    rescued.timed_out += items.len() as u64;
    rescued.worker_ids.extend(plan.woken());
    rescued.stopped.extend(plan.stopped());
    Ok(())
}

/// Sessions whose lease ran out; and, from the claims, sessions that are gone and yet hold something.
const LOST_SESSIONS: &str = "
    SELECT id FROM (
        SELECT s.id, s.expires_at AS since FROM sessions s WHERE s.ended_at IS NULL AND s.expires_at <= now_ms()
        UNION
        SELECT c.session_id, min(c.claimed_at) FROM claims c
        WHERE NOT EXISTS (SELECT FROM sessions s WHERE s.id = c.session_id AND s.ended_at IS NULL)
        GROUP BY c.session_id
    ) AS lost
    ORDER BY since LIMIT $1";

async fn lost_sessions(store: &PostgresStore, limit: u32) -> StoreResult<Vec<Uuid>> {
    Ok(sqlx::query_scalar(LOST_SESSIONS).bind(i64::from(limit)).fetch_all(&store.pool).await?)
}

/// FOR UPDATE waits for acquires of the session (FOR KEY SHARE), so that what they commit is seen below.
const LOCK_SESSION: &str = "
    SELECT worker_id, host, slots, lease, ended_at IS NOT NULL AS ended, expires_at <= now_ms() AS expired
    FROM sessions WHERE id = $1 FOR UPDATE";

const MARK_ENDED: &str = "UPDATE sessions SET ended_at = now_ms(), lost = $2 WHERE id = $1 AND ended_at IS NULL";

async fn lock_session(tx: &mut Tx, session_id: Uuid) -> StoreResult<Option<LostSession>> {
    Ok(sqlx::query_as(LOCK_SESSION).bind(session_id).fetch_optional(&mut **tx).await?)
}

async fn end_lost(store: &PostgresStore, session_id: Uuid, rescued: &mut Rescued) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    let session = lock_session(&mut tx, session_id).await?;
    if session.as_ref().is_some_and(|session| !session.ended && !session.expired) {
        return Ok(());
    }
    let (slots, text) = plan::loss(session_id, session.as_ref());
    sqlx::query(MARK_ENDED).bind(session_id).bind(true).execute(&mut *tx).await?;
    let plan = take_back(&mut tx, session_id, |claims| plan::lost_items(claims, slots, &text)).await?;
    tx.commit().await?;
    store.floors.lower(&plan.ready);
    rescued.sessions += 1;
    rescued.lost += plan.answers.len() as u64;
    rescued.worker_ids.extend(plan.woken());
    Ok(())
}

pub(super) async fn end_session(store: &PostgresStore, session_id: Uuid) -> StoreResult<Option<String>> {
    let mut tx = store.begin().await?;
    let Some(session) = lock_session(&mut tx, session_id).await?.filter(|session| !session.ended) else {
        return Ok(None);
    };
    sqlx::query(MARK_ENDED).bind(session_id).bind(false).execute(&mut *tx).await?;
    let plan = take_back(&mut tx, session_id, plan::released_items).await?;
    tx.commit().await?;
    store.floors.lower(&plan.ready);
    Ok(Some(session.worker_id))
}

type Claims = std::collections::HashMap<Uuid, plan::Claim>;

async fn take_back(tx: &mut Tx, session_id: Uuid, items: impl FnOnce(&Claims) -> Vec<Item>) -> StoreResult<Plan> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar("SELECT id FROM claims WHERE session_id = $1").bind(session_id).fetch_all(&mut **tx).await?;
    let now: i64 = sqlx::query_scalar("SELECT now_ms()").fetch_one(&mut **tx).await?;
    let claims = settle::lock_claims(tx, ids).await?;
    let items = items(&claims);
    let plan = settle::end(tx, &items, claims, now).await?;
    sqlx::query("DELETE FROM stops WHERE session_id = $1").bind(session_id).execute(&mut **tx).await?;
    Ok(plan)
}
