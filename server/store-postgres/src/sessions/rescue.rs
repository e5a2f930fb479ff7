//! Rescue: the transactions that end attempts past their timeout and sessions whose lease ran out.

use std::time::{Duration, Instant};

use async_trait::async_trait;
use jobqueue_store::{
    error::StoreResult,
    quarantine::Quarantine,
    rows::write::ReadyRow,
    sessions::{
        rescue::RescueSteps,
        session_end::{self, Cause, LostRow, SessionEnd, SessionEndRow},
    },
    settle::decision::{self, SettleDecision},
    types::Rescued,
};
use uuid::Uuid;

use crate::{
    PostgresStore, Tx,
    duty_cycle::Bounds,
    sessions::end,
    settle::{self, write},
};

/// Searches for claims of sessions that are gone: at each rescue while they are short, and at most 1/20 of the time.
pub(crate) const ORPHAN_SCANS: Bounds = Bounds { pause: Duration::ZERO, short: Duration::from_millis(100), factor: 20 };

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

#[async_trait]
impl RescueSteps for PostgresStore {
    fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    async fn overdue_claims(&self, limit: u32) -> StoreResult<Vec<Uuid>> {
        Ok(sqlx::query_scalar(OVERDUE)
            .bind(i64::from(limit))
            .bind(self.quarantine.left_out())
            .fetch_all(&self.pool)
            .await?)
    }

    async fn time_out(&self, claim_ids: &[Uuid], rescued: &mut Rescued) -> StoreResult<()> {
        if claim_ids.is_empty() {
            return Ok(());
        }
        let mut tx = self.begin().await?;
        let claims = end::lock_free_claims(self, &mut tx, claim_ids).await?;
        let now = end::database_now(&mut tx).await?;
        let items = decision::timed_out_items(&claims, now);
        write::keep_claims(&mut tx, &decision::outdated_deadlines(&claims, now)).await?;
        let decision = settle::end_attempts(&mut tx, &items, claims, now).await?;
        tx.commit().await?;
        self.scan_cursors.lower(decision.ready.iter().map(ReadyRow::key));
        rescued.timed_out += items.len() as u64;
        rescued.worker_ids.extend(decision.woken());
        rescued.stopped.extend(decision.stopped());
        Ok(())
    }

    async fn lost_sessions(&self, limit: u32) -> StoreResult<Vec<LostRow>> {
        let began = Instant::now();
        let with_claims = self.orphan_scans.lock().is_due(began);
        let lost: Vec<LostRow> = sqlx::query_as(LOST_SESSIONS)
            .bind(i64::from(limit))
            .bind(self.quarantine.left_out())
            .bind(with_claims)
            .fetch_all(&self.pool)
            .await?;
        if with_claims {
            let mut orphan_scans = self.orphan_scans.lock();
            orphan_scans.record(began, Instant::now());
            if !lost.is_empty() {
                orphan_scans.reset();
            }
        }
        Ok(lost)
    }

    async fn end_sessions(&self, ids: &[Uuid], limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        let ends = lock_lost(&mut tx, ids).await?;
        let ended = end::mark_ended(&mut tx, &ends).await?;
        let (claims, more) = session_end::next_claims(&ends, limit as usize, &self.quarantine.left_out());
        let decision = end::take_back(self, &mut tx, &ends, &claims).await?;
        tx.commit().await?;
        self.scan_cursors.lower(decision.ready.iter().map(ReadyRow::key));
        rescued.sessions += ended;
        rescued.more |= more;
        count(rescued, &decision);
        Ok(())
    }

    async fn mark_ended(&self, id: Uuid, rescued: &mut Rescued) -> StoreResult<Vec<SessionEnd>> {
        let mut tx = self.begin().await?;
        let ends = lock_lost(&mut tx, &[id]).await?;
        let ended = end::mark_ended(&mut tx, &ends).await?;
        tx.commit().await?;
        rescued.sessions += ended;
        Ok(ends)
    }

    async fn take_back(&self, ends: &[SessionEnd], claim_id: Uuid, rescued: &mut Rescued) -> StoreResult<()> {
        let mut tx = self.begin().await?;
        let decision = end::take_back(self, &mut tx, ends, &[claim_id]).await?;
        tx.commit().await?;
        self.scan_cursors.lower(decision.ready.iter().map(ReadyRow::key));
        count(rescued, &decision);
        Ok(())
    }
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
