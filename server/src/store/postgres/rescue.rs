//! Taking back what sessions lost and what runs too long; and what a session that ends otherwise still holds.
//!
//! Whatever cannot be rescued stands in nobody's way: a transaction that some row's data breaks is done again claim by
//! claim, without the broken ones.

use std::{collections::HashMap, time::Instant};

use jobqueue_shared::limits;
use uuid::Uuid;

use super::{PostgresStore, Tx, settle};
use crate::store::{
    error::StoreResult,
    leaving::{self, Cause, HoldRow, Leaving, LeavingRow, LostRow, is_of_some_rows},
    plan::{self, Claim, Plan},
    rows::ClaimRow,
    types::Rescued,
};

pub(super) async fn rescue(store: &PostgresStore, limit: u32) -> StoreResult<Rescued> {
    let mut rescued = Rescued::default();
    let timed_out = time_out(store, limit, &mut rescued).await;
    let lost = end_lost(store, limit, &mut rescued).await;
    leaving::rescued(rescued, timed_out.and(lost))
}

/// The first claims with attempts past their time, of about so many jobs.
const OVERDUE: &str = "
    SELECT id FROM (
        SELECT id, sum(jobs) OVER (ORDER BY deadline, id ROWS UNBOUNDED PRECEDING) - jobs AS jobs_before
        FROM (
            SELECT id, deadline, octet_length(ids) / 16 AS jobs FROM claims
            WHERE deadline <= now_ms() AND id <> ALL($2)
            ORDER BY deadline LIMIT $1
        ) AS overdue
    ) AS counted
    WHERE jobs_before < $1";

async fn time_out(store: &PostgresStore, limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let ids: Vec<Uuid> =
        sqlx::query_scalar(OVERDUE).bind(i64::from(limit)).bind(store.broken.left_out()).fetch_all(&store.pool).await?;
    let before = rescued.timed_out;
    match time_out_claims(store, &ids, rescued).await {
        Err(error) if is_of_some_rows(&error) => {
            for id in &ids {
                match time_out_claims(store, &[*id], rescued).await {
                    Err(error) if is_of_some_rows(&error) => store.broken.add("claim", *id, &error),
                    result => result?,
                }
            }
        }
        result => result?,
    }
    // A batch ends when it has jobs enough, however few of them are late.
    rescued.more |= rescued.timed_out > before;
    Ok(())
}

async fn time_out_claims(store: &PostgresStore, ids: &[Uuid], rescued: &mut Rescued) -> StoreResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    let claims = lock_free_claims(store, &mut tx, ids).await?;
    let now = now(&mut tx).await?;
    let items = plan::timed_out_items(&claims, now);
    settle::keep_claims(&mut tx, &plan::not_late(&claims, now)).await?;
    let plan = settle::end(&mut tx, &items, claims, now).await?;
    tx.commit().await?;
    store.floors.lower(&plan.ready);
    rescued.timed_out += items.len() as u64;
    rescued.worker_ids.extend(plan.woken());
    rescued.stopped.extend(plan.stopped());
    Ok(())
}

/// Sessions whose lease ran out; and, where `$3`, from the claims, sessions that are gone and yet hold something. For those
/// all claims are walked, the dead ones, too.
const LOST_SESSIONS: &str = "
    SELECT lost.id, (SELECT coalesce(sum(octet_length(c.ids)), 0)::bigint / 16 FROM claims c WHERE c.session_id = lost.id) AS jobs
    FROM (
        SELECT s.id, s.expires_at AS since FROM sessions s WHERE s.ended_at IS NULL AND s.expires_at <= now_ms()
        UNION
        SELECT c.session_id, min(c.claimed_at) FROM claims c
        WHERE $3 AND c.id <> ALL($2) AND NOT EXISTS (SELECT FROM sessions s WHERE s.id = c.session_id AND s.ended_at IS NULL)
        GROUP BY c.session_id
    ) AS lost
    WHERE lost.id <> ALL($2)
    ORDER BY since LIMIT $1";

async fn end_lost(store: &PostgresStore, limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let (with_claims, began) = (store.orphans.is_due(), Instant::now());
    let lost: Vec<LostRow> = sqlx::query_as(LOST_SESSIONS)
        .bind(i64::from(limit))
        .bind(store.broken.left_out())
        .bind(with_claims)
        .fetch_all(&store.pool)
        .await?;
    if with_claims {
        store.orphans.looked(began, !lost.is_empty());
    }
    rescued.more |= lost.len() >= limit as usize;
    for ids in leaving::batches(lost, limit as usize) {
        if rescued.lost >= u64::from(limit) {
            rescued.more = true;
            break;
        }
        match end_sessions(store, &ids, limit, rescued).await {
            Err(error) if is_of_some_rows(&error) => {
                for id in ids {
                    match end_piecemeal(store, id, rescued).await {
                        Err(error) if is_of_some_rows(&error) => store.broken.add("session", id, &error),
                        result => result?,
                    }
                }
            }
            result => result?,
        }
    }
    Ok(())
}

/// A session with more jobs than the limit ends at once; the rest of its claims follow in the next batches.
async fn end_sessions(store: &PostgresStore, ids: &[Uuid], limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    let leaving = lock_lost(&mut tx, ids).await?;
    let ended = mark_ended(&mut tx, &leaving).await?;
    let (claims, more) = leaving::next_claims(&leaving, limit as usize, &store.broken.left_out());
    let plan = take_back(store, &mut tx, &leaving, &claims).await?;
    tx.commit().await?;
    store.floors.lower(&plan.ready);
    rescued.sessions += ended;
    rescued.more |= more;
    count(rescued, &plan);
    Ok(())
}

/// One claim a transaction, so that only the broken ones stay.
async fn end_piecemeal(store: &PostgresStore, id: Uuid, rescued: &mut Rescued) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    let leaving = lock_lost(&mut tx, &[id]).await?;
    rescued.sessions += mark_ended(&mut tx, &leaving).await?;
    tx.commit().await?;
    let (claims, _) = leaving::next_claims(&leaving, limits::JOBS_PER_SESSION as usize, &store.broken.left_out());
    for claim_id in claims {
        let taken = async {
            let mut tx = store.begin().await?;
            let plan = take_back(store, &mut tx, &leaving, &[claim_id]).await?;
            tx.commit().await?;
            Ok(plan)
        };
        match taken.await {
            Ok(plan) => {
                store.floors.lower(&plan.ready);
                count(rescued, &plan);
            }
            Err(error) if is_of_some_rows(&error) => store.broken.add("claim", claim_id, &error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn count(rescued: &mut Rescued, plan: &Plan) {
    rescued.lost += plan.answers.len() as u64;
    rescued.worker_ids.extend(plan.woken());
}

/// FOR UPDATE waits for acquires of the session (FOR KEY SHARE) to end, so that what they commit is seen below.
const LOCK_SESSIONS: &str = "
    SELECT id, worker_id, host, slots, lease, expires_at, ended_at, lost, held, expires_at <= now_ms() AS expired
    FROM sessions WHERE id = ANY($1) ORDER BY id FOR UPDATE";

/// The same without those that an acquire or another server's rescue has locked: the next turn looks at them again.
const LOCK_FREE_SESSIONS: &str = "
    SELECT id, worker_id, host, slots, lease, expires_at, ended_at, lost, held, expires_at <= now_ms() AS expired
    FROM sessions WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";

/// Of these sessions those that are gone, now that nobody can keep them alive.
async fn lock_lost(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<Vec<Leaving>> {
    let mut sessions: Vec<LeavingRow> = sqlx::query_as(LOCK_FREE_SESSIONS).bind(ids).fetch_all(&mut **tx).await?;
    let missing = if sessions.len() < ids.len() { missing(tx, ids).await? } else { Vec::new() };
    sessions.retain(LeavingRow::is_gone);
    with_claims(tx, sessions, missing, Cause::Silent).await
}

async fn missing(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<Vec<Uuid>> {
    Ok(sqlx::query_scalar(
        "SELECT id FROM unnest($1::uuid[]) AS asked(id) WHERE NOT EXISTS (SELECT FROM sessions s WHERE s.id = asked.id)",
    )
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?)
}

pub(super) const HOLDS: &str = "
    SELECT session_id, id, ids FROM claims WHERE session_id = ANY($1) ORDER BY session_id, claimed_at, acquire_no, chunk";

async fn with_claims(
    tx: &mut Tx,
    sessions: Vec<LeavingRow>,
    missing: Vec<Uuid>,
    cause: Cause,
) -> StoreResult<Vec<Leaving>> {
    let ids: Vec<_> = sessions.iter().map(|session| session.id).chain(missing.iter().copied()).collect();
    let holds: Vec<HoldRow> = sqlx::query_as(HOLDS).bind(ids).fetch_all(&mut **tx).await?;
    Ok(leaving::leaving(sessions, missing, holds, cause))
}

const MARK_ENDED: &str = "
    UPDATE sessions s SET ended_at = now_ms(), lost = t.lost, held = t.held
    FROM unnest($1::uuid[], $2::boolean[], $3::bytea[]) AS t(id, lost, held)
    WHERE s.id = t.id AND s.ended_at IS NULL";

/// How many ended now.
async fn mark_ended(tx: &mut Tx, leaving: &[Leaving]) -> StoreResult<u64> {
    let ending: Vec<_> = leaving.iter().filter_map(|it| Some((it.id, it.is_lost(), it.ends_holding()?))).collect();
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

/// Of these claims those that nobody is settling; the next turn has the others.
async fn lock_free_claims(store: &PostgresStore, tx: &mut Tx, ids: &[Uuid]) -> StoreResult<HashMap<Uuid, Claim>> {
    let rows: Vec<ClaimRow> =
        sqlx::query_as(settle::locked_claims!("FOR UPDATE SKIP LOCKED")).bind(ids).fetch_all(&mut **tx).await?;
    let sound = ClaimRow::sound(rows, |id, error| store.broken.add("claim", id, error));
    Ok(sound.map(|claim| (claim.id, claim)).collect())
}

async fn take_back(store: &PostgresStore, tx: &mut Tx, leaving: &[Leaving], claims: &[Uuid]) -> StoreResult<Plan> {
    if claims.is_empty() {
        return Ok(Plan::default());
    }
    let claims = lock_free_claims(store, tx, claims).await?;
    let items: Vec<_> = leaving.iter().flat_map(|session| session.items(&claims)).collect();
    let now = now(tx).await?;
    settle::end(tx, &items, claims, now).await
}

async fn now(tx: &mut Tx) -> StoreResult<i64> {
    Ok(sqlx::query_scalar("SELECT now_ms()").fetch_one(&mut **tx).await?)
}

pub(super) async fn lock_sessions(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<Vec<LeavingRow>> {
    Ok(sqlx::query_as(LOCK_SESSIONS).bind(ids).fetch_all(&mut **tx).await?)
}

/// Ends locked sessions within the caller's transaction, and takes back up to `limit` jobs of what they hold. What is
/// more follows by rescue.
pub(super) async fn end_now(
    store: &PostgresStore,
    tx: &mut Tx,
    sessions: Vec<LeavingRow>,
    cause: Cause,
    limit: usize,
) -> StoreResult<Plan> {
    let leaving = with_claims(tx, sessions, Vec::new(), cause).await?;
    mark_ended(tx, &leaving).await?;
    let (claims, _) = leaving::next_claims(&leaving, limit, &store.broken.left_out());
    take_back(store, tx, &leaving, &claims).await
}

pub(super) async fn end_session(store: &PostgresStore, session_id: Uuid) -> StoreResult<Option<String>> {
    match try_end_session(store, session_id, leaving::AT_ONCE).await {
        // It ends all the same; rescue finds the claims that can be taken back.
        Err(error) if is_of_some_rows(&error) => try_end_session(store, session_id, 0).await,
        result => result,
    }
}

async fn try_end_session(store: &PostgresStore, session_id: Uuid, limit: usize) -> StoreResult<Option<String>> {
    let mut tx = store.begin().await?;
    let mut sessions = lock_sessions(&mut tx, &[session_id]).await?;
    sessions.retain(|session| !session.has_ended());
    let Some(worker_id) = sessions.first().map(|session| session.worker_id.clone()) else { return Ok(None) };
    let plan = end_now(store, &mut tx, sessions, Cause::Goodbye, limit).await?;
    tx.commit().await?;
    store.floors.lower(&plan.ready);
    Ok(Some(worker_id))
}
