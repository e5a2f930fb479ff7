//! Rescue: ends attempts past their timeout and sessions whose lease ran out.
//!
//! A row that cannot be rescued does not hold up the others: a transaction that fails because of some row's data is
//! repeated claim by claim, and the rows that fail again go into quarantine.

use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    sessions::session_end::{self, Cause, LostRow, SessionEnd, SessionEndRow},
    settle::decision::{self, SettleDecision},
    types::Rescued,
};
use uuid::Uuid;

use crate::{
    SqliteStore, Tx, begin, id_list,
    sessions::end,
    settle::{self, write},
};

pub(crate) async fn rescue(store: &SqliteStore, limit: u32) -> StoreResult<Rescued> {
    let mut rescued = Rescued::default();
    let timed_out = time_out(store, limit, &mut rescued).await;
    let lost = end_lost(store, limit, &mut rescued).await;
    session_end::rescue_answer(rescued, timed_out.and(lost))
}

/// Claims with attempts past their timeout, by deadline, of about ?1 jobs.
const OVERDUE: &str = "
    SELECT id FROM (
        SELECT id, sum(jobs) OVER (ORDER BY deadline, id ROWS UNBOUNDED PRECEDING) - jobs AS jobs_before
        FROM (
            SELECT id, deadline, length(ids) / 16 AS jobs FROM claims
            WHERE deadline <= ?3 AND id NOT IN (SELECT unhex(value) FROM json_each(?2))
            ORDER BY deadline LIMIT ?1
        ) AS overdue
    ) AS counted
    WHERE jobs_before < ?1";

async fn time_out(store: &SqliteStore, limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let ids: Vec<Uuid> = sqlx::query_scalar(OVERDUE)
        .bind(i64::from(limit))
        .bind(id_list(&store.quarantine.left_out()))
        .bind(store.clock.now_ms())
        .fetch_all(&store.readers)
        .await?;
    let before = rescued.timed_out;
    match time_out_claims(store, &ids, rescued).await {
        Err(error) if error.concerns_single_rows() => {
            for id in &ids {
                match time_out_claims(store, &[*id], rescued).await {
                    Err(error) if error.concerns_single_rows() => store.quarantine.add("claim", *id, &error),
                    result => result?,
                }
            }
        }
        result => result?,
    }
    // A batch of claims is limited by all of their jobs, of which few may be late: another one may find more.
    rescued.more |= rescued.timed_out > before;
    Ok(())
}

async fn time_out_claims(store: &SqliteStore, ids: &[Uuid], rescued: &mut Rescued) -> StoreResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let claims = end::read_sound_claims(store, &mut tx, ids).await?;
    let items = decision::timed_out_items(&claims, now);
    write::keep_claims(&mut tx, &decision::outdated_deadlines(&claims, now)).await?;
    let decision = settle::end_attempts(&mut tx, &items, claims, now).await?;
    tx.commit().await?;
    rescued.timed_out += items.len() as u64;
    rescued.worker_ids.extend(decision.woken());
    rescued.stopped.extend(decision.stopped());
    Ok(())
}

/// Sessions whose lease ran out, and sessions that are gone and still have claims.
const LOST_SESSIONS: &str = "
    WITH left_out AS MATERIALIZED (SELECT unhex(value) AS id FROM json_each(?2))
    SELECT lost.id, (SELECT coalesce(sum(length(c.ids)), 0) / 16 FROM claims c WHERE c.session_id = lost.id) AS jobs
    FROM (
        SELECT s.id, s.expires_at AS since FROM sessions s WHERE s.ended_at IS NULL AND s.expires_at <= ?3
        UNION
        SELECT c.session_id, min(c.claimed_at) FROM claims c
        WHERE c.id NOT IN left_out AND NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = c.session_id AND s.ended_at IS NULL)
        GROUP BY c.session_id
    ) AS lost
    WHERE lost.id NOT IN left_out
    ORDER BY since LIMIT ?1";

async fn end_lost(store: &SqliteStore, limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let lost: Vec<LostRow> = sqlx::query_as(LOST_SESSIONS)
        .bind(i64::from(limit))
        .bind(id_list(&store.quarantine.left_out()))
        .bind(store.clock.now_ms())
        .fetch_all(&store.readers)
        .await?;
    rescued.more |= lost.len() >= limit as usize;
    for ids in session_end::batches(lost, limit as usize) {
        if rescued.lost >= u64::from(limit) {
            rescued.more = true;
            break;
        }
        match end_sessions(store, &ids, limit, rescued).await {
            Err(error) if error.concerns_single_rows() => {
                for id in ids {
                    match end_piecemeal(store, id, rescued).await {
                        Err(error) if error.concerns_single_rows() => store.quarantine.add("session", id, &error),
                        result => result?,
                    }
                }
            }
            result => result?,
        }
    }
    Ok(())
}

/// Ends sessions in one transaction. A session with more jobs than the limit ends at once; the rest of its claims
/// follow in the next batches.
async fn end_sessions(store: &SqliteStore, ids: &[Uuid], limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let ends = read_lost(&mut tx, ids, now).await?;
    let ended = end::mark_ended(&mut tx, &ends, now).await?;
    let (claims, more) = session_end::next_claims(&ends, limit as usize, &store.quarantine.left_out());
    let decision = end::take_back(store, &mut tx, &ends, &claims, now).await?;
    tx.commit().await?;
    rescued.sessions += ended;
    rescued.more |= more;
    count(rescued, &decision);
    Ok(())
}

/// Ends a session, and takes back its claims in one transaction each, so that only the damaged ones are left.
async fn end_piecemeal(store: &SqliteStore, id: Uuid, rescued: &mut Rescued) -> StoreResult<()> {
    let ends = {
        let mut writer = store.writer().await?;
        let now = store.clock.now_ms();
        let mut tx = begin(&mut writer).await?;
        let ends = read_lost(&mut tx, &[id], now).await?;
        rescued.sessions += end::mark_ended(&mut tx, &ends, now).await?;
        tx.commit().await?;
        ends
    };
    let (claims, _) = session_end::next_claims(&ends, limits::JOBS_PER_SESSION as usize, &store.quarantine.left_out());
    for claim_id in claims {
        let taken: StoreResult<_> = async {
            let mut writer = store.writer().await?;
            let now = store.clock.now_ms();
            let mut tx = begin(&mut writer).await?;
            let decision = end::take_back(store, &mut tx, &ends, &[claim_id], now).await?;
            tx.commit().await?;
            Ok(decision)
        }
        .await;
        match taken {
            Ok(decision) => count(rescued, &decision),
            Err(error) if error.concerns_single_rows() => store.quarantine.add("claim", claim_id, &error),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn count(rescued: &mut Rescued, decision: &SettleDecision) {
    rescued.lost += decision.answers.len() as u64;
    rescued.worker_ids.extend(decision.woken());
}

/// Reads sessions, and returns those that are gone: nothing can keep them alive any more.
async fn read_lost(tx: &mut Tx<'_>, ids: &[Uuid], now: i64) -> StoreResult<Vec<SessionEnd>> {
    let mut sessions = end::read_sessions(tx, ids, now).await?;
    let missing = if sessions.len() < ids.len() { missing(tx, ids).await? } else { Vec::new() };
    sessions.retain(SessionEndRow::is_gone);
    end::with_claims(tx, sessions, missing, Cause::Silent).await
}

async fn missing(tx: &mut Tx<'_>, ids: &[Uuid]) -> StoreResult<Vec<Uuid>> {
    Ok(sqlx::query_scalar(
        "SELECT unhex(value) AS id FROM json_each(?1) WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = unhex(value))",
    )
    .bind(id_list(ids))
    .fetch_all(&mut **tx)
    .await?)
}
