//! Rescue: the transactions that end attempts past their timeout and sessions whose lease ran out.

use async_trait::async_trait;
use jobqueue_store::{
    error::StoreResult,
    quarantine::Quarantine,
    sessions::{
        rescue::RescueSteps,
        session_end::{self, Cause, LostRow, SessionEnd, SessionEndRow},
    },
    settle::decision::{self, SettleDecision},
    types::Rescued,
};
use uuid::Uuid;

use crate::{
    SqliteStore, Tx, begin, id_list,
    sessions::end,
    settle::{self, write},
};

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

#[async_trait]
impl RescueSteps for SqliteStore {
    fn quarantine(&self) -> &Quarantine {
        &self.quarantine
    }

    async fn overdue_claims(&self, limit: u32) -> StoreResult<Vec<Uuid>> {
        Ok(sqlx::query_scalar(OVERDUE)
            .bind(i64::from(limit))
            .bind(id_list(&self.quarantine.left_out()))
            .bind(self.clock.now_ms())
            .fetch_all(&self.readers)
            .await?)
    }

    async fn time_out(&self, claim_ids: &[Uuid], rescued: &mut Rescued) -> StoreResult<()> {
        if claim_ids.is_empty() {
            return Ok(());
        }
        let mut writer = self.writer().await?;
        let now = self.clock.now_ms();
        let mut tx = begin(&mut writer).await?;
        let claims = end::read_sound_claims(self, &mut tx, claim_ids).await?;
        let items = decision::timed_out_items(&claims, now);
        write::keep_claims(&mut tx, &decision::outdated_deadlines(&claims, now)).await?;
        let decision = settle::end_attempts(&mut tx, &items, claims, now).await?;
        tx.commit().await?;
        rescued.timed_out += items.len() as u64;
        rescued.worker_ids.extend(decision.woken());
        rescued.stopped.extend(decision.stopped());
        Ok(())
    }

    async fn lost_sessions(&self, limit: u32) -> StoreResult<Vec<LostRow>> {
        Ok(sqlx::query_as(LOST_SESSIONS)
            .bind(i64::from(limit))
            .bind(id_list(&self.quarantine.left_out()))
            .bind(self.clock.now_ms())
            .fetch_all(&self.readers)
            .await?)
    }

    async fn end_sessions(&self, ids: &[Uuid], limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
        let mut writer = self.writer().await?;
        let now = self.clock.now_ms();
        let mut tx = begin(&mut writer).await?;
        let ends = read_lost(&mut tx, ids, now).await?;
        let ended = end::mark_ended(&mut tx, &ends, now).await?;
        let (claims, more) = session_end::next_claims(&ends, limit as usize, &self.quarantine.left_out());
        let decision = end::take_back(self, &mut tx, &ends, &claims, now).await?;
        tx.commit().await?;
        rescued.sessions += ended;
        rescued.more |= more;
        count(rescued, &decision);
        Ok(())
    }

    async fn mark_ended(&self, id: Uuid, rescued: &mut Rescued) -> StoreResult<Vec<SessionEnd>> {
        let mut writer = self.writer().await?;
        let now = self.clock.now_ms();
        let mut tx = begin(&mut writer).await?;
        let ends = read_lost(&mut tx, &[id], now).await?;
        let ended = end::mark_ended(&mut tx, &ends, now).await?;
        tx.commit().await?;
        rescued.sessions += ended;
        Ok(ends)
    }

    async fn take_back(&self, ends: &[SessionEnd], claim_id: Uuid, rescued: &mut Rescued) -> StoreResult<()> {
        let mut writer = self.writer().await?;
        let now = self.clock.now_ms();
        let mut tx = begin(&mut writer).await?;
        let decision = end::take_back(self, &mut tx, ends, &[claim_id], now).await?;
        tx.commit().await?;
        count(rescued, &decision);
        Ok(())
    }
}

fn count(rescued: &mut Rescued, decision: &SettleDecision) {
    rescued.lost += decision.answers.len() as u64;
    rescued.worker_ids.extend(decision.woken());
}

/// Reads sessions, and returns those that are gone: nothing can keep them alive any more.
async fn read_lost(tx: &mut Tx, ids: &[Uuid], now: i64) -> StoreResult<Vec<SessionEnd>> {
    let mut sessions = end::read_sessions(tx, ids, now).await?;
    let missing = if sessions.len() < ids.len() { missing(tx, ids).await? } else { Vec::new() };
    sessions.retain(SessionEndRow::is_gone);
    end::with_claims(tx, sessions, missing, Cause::Silent).await
}

async fn missing(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<Vec<Uuid>> {
    Ok(sqlx::query_scalar(
        "SELECT unhex(value) AS id FROM json_each(?1) WHERE NOT EXISTS (SELECT 1 FROM sessions s WHERE s.id = unhex(value))",
    )
    .bind(id_list(ids))
    .fetch_all(&mut *tx)
    .await?)
}
