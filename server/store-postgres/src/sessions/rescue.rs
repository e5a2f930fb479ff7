//! Rescue: ends attempts past their timeout and sessions whose lease ran out.
//!
//! A row that cannot be rescued does not hold up the others: a transaction that fails because of some row's data is
//! repeated claim by claim, and the rows that fail again go into quarantine.

use std::time::Instant;

use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    rows::write::ReadyRow,
    sessions::session_end::{self, Cause, LostRow, SessionEnd, SessionEndRow},
    settle::decision::{self, SettleDecision},
    types::Rescued,
};
use uuid::Uuid;

use crate::{
    PostgresStore, Tx,
    sessions::end,
    settle::{self, write},
};

pub(crate) async fn rescue(store: &PostgresStore, limit: u32) -> StoreResult<Rescued> {
    let mut rescued = Rescued::default();
    let timed_out = time_out(store, limit, &mut rescued).await;
    let lost = end_lost(store, limit, &mut rescued).await;
    session_end::rescue_answer(rescued, timed_out.and(lost))
}

/// Claims with attempts past their timeout, by deadline, of about $1 jobs.
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
    let ids: Vec<Uuid> = sqlx::query_scalar(OVERDUE)
        .bind(i64::from(limit))
        .bind(store.quarantine.left_out())
        .fetch_all(&store.pool)
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

async fn time_out_claims(store: &PostgresStore, ids: &[Uuid], rescued: &mut Rescued) -> StoreResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let mut tx = store.begin().await?;
    let claims = end::lock_free_claims(store, &mut tx, ids).await?;
    let now = end::database_now(&mut tx).await?;
    let items = decision::timed_out_items(&claims, now);
    write::keep_claims(&mut tx, &decision::outdated_deadlines(&claims, now)).await?;
    let decision = settle::end_attempts(&mut tx, &items, claims, now).await?;
    tx.commit().await?;
    store.scan_cursors.lower(decision.ready.iter().map(ReadyRow::key));
    rescued.timed_out += items.len() as u64;
    rescued.worker_ids.extend(decision.woken());
    rescued.stopped.extend(decision.stopped());
    Ok(())
}

/// Sessions whose lease ran out, and, if `$3`, sessions that are gone and still have claims. For the latter all claims
/// are walked, including dead rows.
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
    let (with_claims, began) = (store.orphan_scan_duty.is_due(), Instant::now());
    let lost: Vec<LostRow> = sqlx::query_as(LOST_SESSIONS)
        .bind(i64::from(limit))
        .bind(store.quarantine.left_out())
        .bind(with_claims)
        .fetch_all(&store.pool)
        .await?;
    if with_claims {
        store.orphan_scan_duty.record(began, !lost.is_empty());
    }
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
async fn end_sessions(store: &PostgresStore, ids: &[Uuid], limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    let ends = lock_lost(&mut tx, ids).await?;
    let ended = end::mark_ended(&mut tx, &ends).await?;
    let (claims, more) = session_end::next_claims(&ends, limit as usize, &store.quarantine.left_out());
    let decision = end::take_back(store, &mut tx, &ends, &claims).await?;
    tx.commit().await?;
    store.scan_cursors.lower(decision.ready.iter().map(ReadyRow::key));
    rescued.sessions += ended;
    rescued.more |= more;
    count(rescued, &decision);
    Ok(())
}

/// Ends a session, and takes back its claims in one transaction each, so that only the damaged ones are left.
async fn end_piecemeal(store: &PostgresStore, id: Uuid, rescued: &mut Rescued) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    let ends = lock_lost(&mut tx, &[id]).await?;
    rescued.sessions += end::mark_ended(&mut tx, &ends).await?;
    tx.commit().await?;
    let (claims, _) = session_end::next_claims(&ends, limits::JOBS_PER_SESSION as usize, &store.quarantine.left_out());
    for claim_id in claims {
        let taken: StoreResult<_> = async {
            let mut tx = store.begin().await?;
            let decision = end::take_back(store, &mut tx, &ends, &[claim_id]).await?;
            tx.commit().await?;
            Ok(decision)
        }
        .await;
        match taken {
            Ok(decision) => {
                store.scan_cursors.lower(decision.ready.iter().map(ReadyRow::key));
                count(rescued, &decision);
            }
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

/// Locks sessions, without those that an acquire or another server's rescue has locked: the next turn tries these
/// again.
const LOCK_FREE_SESSIONS: &str = "
    SELECT id, worker_id, host, slots, lease, expires_at, ended_at, lost, held, expires_at <= now_ms() AS expired
    FROM sessions WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";

/// Locks sessions, and returns those that are gone: nothing can keep them alive any more.
async fn lock_lost(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<Vec<SessionEnd>> {
    let mut sessions: Vec<SessionEndRow> = sqlx::query_as(LOCK_FREE_SESSIONS).bind(ids).fetch_all(&mut **tx).await?;
    let missing = if sessions.len() < ids.len() { missing(tx, ids).await? } else { Vec::new() };
    sessions.retain(SessionEndRow::is_gone);
    end::with_claims(tx, sessions, missing, Cause::Silent).await
}

async fn missing(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<Vec<Uuid>> {
    Ok(sqlx::query_scalar(
        "SELECT id FROM unnest($1::uuid[]) AS asked(id) WHERE NOT EXISTS (SELECT FROM sessions s WHERE s.id = asked.id)",
    )
    .bind(ids)
    .fetch_all(&mut **tx)
    .await?)
}
