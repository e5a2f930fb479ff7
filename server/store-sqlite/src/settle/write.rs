//! Rows that a transaction writes when attempts end.

use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    rows::{
        packed_claim,
        write::{AttemptRow, CancelledRow, DeadRow, DoneRow, ReadyRow, ResultRow, StopRow},
    },
    settle::{claim::Claim, decision::SettleDecision},
    types::AttemptOutcome,
};
use sqlx::QueryBuilder;
use uuid::Uuid;

use crate::{Tx, batches, deltas, error_groups::fold, id_list};

pub(crate) async fn write(tx: &mut Tx, decision: &SettleDecision, now: i64) -> StoreResult<()> {
    close_claims(tx, &decision.closed).await?;
    keep_claims(tx, &decision.kept).await?;
    write_done(tx, &decision.done).await?;
    write_ready(tx, &decision.ready).await?;
    write_dead_letters(tx, &decision.dead).await?;
    write_cancelled(tx, &decision.cancelled).await?;
    write_attempts(tx, &decision.attempts).await?;
    write_results(tx, &decision.results).await?;
    write_stops(tx, &decision.stops).await?;
    deltas::write_deltas(tx, &decision.deltas, now).await?;
    fold::write(tx, &decision.errors, now).await
}

async fn close_claims(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<()> {
    if !ids.is_empty() {
        sqlx::query("DELETE FROM claims WHERE id IN (SELECT unhex(value) FROM json_each(?1))")
            .bind(id_list(ids))
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

pub(crate) async fn keep_claims(tx: &mut Tx, claims: &[Claim]) -> StoreResult<()> {
    for claim in claims {
        sqlx::query("UPDATE claims SET deadline = ?2, ids = ?3, entries = ?4 WHERE id = ?1")
            .bind(claim.id)
            .bind(claim.deadline())
            .bind(claim.ids())
            .bind(packed_claim::encode_entries(&claim.entries))
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

async fn write_done(tx: &mut Tx, rows: &[DoneRow]) -> StoreResult<()> {
    for rows in batches(rows) {
        let mut query = QueryBuilder::new(
            "INSERT INTO done (worker_id, first_id, claim_id, session_id, claimed_at, finished_at, ids, runs) ",
        );
        query.push_values(rows, |mut out, row| {
            out.push_bind(row.worker_id.as_str())
                .push_bind(row.first_id)
                .push_bind(row.claim_id)
                .push_bind(row.session_id)
                .push_bind(row.claimed_at)
                .push_bind(row.finished_at)
                .push_bind(row.ids.as_slice())
                .push_bind(row.runs.as_deref());
        });
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}

pub(crate) async fn write_ready(tx: &mut Tx, rows: &[ReadyRow]) -> StoreResult<()> {
    for rows in batches(rows) {
        let mut query = QueryBuilder::new(
            "INSERT INTO ready (worker_id, id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, waits_for_handler, \
             for_task, inline_job) ",
        );
        query.push_values(rows, |mut out, row| {
            out.push_bind(row.worker_id.as_str())
                .push_bind(row.id)
                .push_bind(row.priority)
                .push_bind(row.run_at)
                .push_bind(row.run_no)
                .push_bind(row.attempts_used)
                .push_bind(row.payload_bytes)
                .push_bind(row.enqueued_at)
                .push_bind(row.waits_for_handler)
                .push_bind(row.for_task.as_deref())
                .push_bind(row.inline_job.as_deref());
        });
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}

const WRITE_DEAD_LETTER: &str = "
    INSERT INTO dead_letters (id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout,
                              idempotency_key, run_no, attempts_used, reason, error, fingerprint, session_id, started_at, failed_at)
    SELECT id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout,
           idempotency_key, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9
    FROM jobs WHERE id = ?1";

async fn write_dead_letters(tx: &mut Tx, rows: &[DeadRow]) -> StoreResult<()> {
    for row in rows {
        sqlx::query(WRITE_DEAD_LETTER)
            .bind(row.id)
            .bind(row.run_no)
            .bind(row.attempts_used)
            .bind(row.reason)
            .bind(row.error.as_str())
            .bind(row.fingerprint)
            .bind(row.session_id)
            .bind(row.started_at)
            .bind(row.failed_at)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

pub(crate) async fn write_cancelled(tx: &mut Tx, rows: &[CancelledRow]) -> StoreResult<()> {
    for rows in batches(rows) {
        let mut query = QueryBuilder::new(
            "INSERT INTO cancelled (id, worker_id, run_no, attempts_used, cancelled_at, note, session_id, started_at) ",
        );
        query.push_values(rows, |mut out, row| {
            out.push_bind(row.id)
                .push_bind(row.worker_id.as_str())
                .push_bind(row.run_no)
                .push_bind(row.attempts_used)
                .push_bind(row.cancelled_at)
                .push_bind(row.note.as_str())
                .push_bind(row.session_id)
                .push_bind(row.started_at);
        });
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}

/// Deletes older rows for a missing handler: one row stands for all hand-outs to workers without a handler.
const FORGET_NO_HANDLER: &str = "
    DELETE FROM attempts WHERE job_id IN (SELECT unhex(value) FROM json_each(?1)) AND outcome = ?2";

/// Records an attempt. A refusal is recorded once for each lease; a row that is there already stays.
const WRITE_ATTEMPT: &str = "
    INSERT INTO attempts (job_id, run_no, outcome, claim_id, session_id, host, started_at, ended_at, error, fingerprint)
    SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10
    WHERE EXISTS (SELECT 1 FROM jobs WHERE jobs.id = ?1)
    ON CONFLICT DO NOTHING";

const FORGET_OLD_ATTEMPTS: &str = "
    DELETE FROM attempts WHERE job_id = ?1 AND run_no <= (
        SELECT n.run_no FROM attempts n WHERE n.job_id = ?1 ORDER BY n.run_no DESC, n.outcome LIMIT 1 OFFSET ?2)";

pub(crate) async fn write_attempts(tx: &mut Tx, rows: &[AttemptRow]) -> StoreResult<()> {
    let no_handler = AttemptOutcome::NoHandler as i16;
    let waiting: Vec<_> = rows.iter().filter(|row| row.outcome == no_handler).map(|row| row.job_id).collect();
    if !waiting.is_empty() {
        sqlx::query(FORGET_NO_HANDLER).bind(id_list(&waiting)).bind(no_handler).execute(&mut *tx).await?;
    }
    for row in rows {
        sqlx::query(WRITE_ATTEMPT)
            .bind(row.job_id)
            .bind(row.run_no)
            .bind(row.outcome)
            .bind(row.claim_id)
            .bind(row.session_id)
            .bind(row.host.as_str())
            .bind(row.started_at)
            .bind(row.ended_at)
            .bind(row.error.as_str())
            .bind(row.fingerprint)
            .execute(&mut *tx)
            .await?;
        if row.run_no as u32 > limits::ATTEMPTS_KEPT {
            let kept = i64::from(limits::ATTEMPTS_KEPT);
            sqlx::query(FORGET_OLD_ATTEMPTS).bind(row.job_id).bind(kept).execute(&mut *tx).await?;
        }
    }
    Ok(())
}

/// Inserts results; a row that is there already is replaced.
async fn write_results(tx: &mut Tx, rows: &[ResultRow]) -> StoreResult<()> {
    for rows in batches(rows) {
        let mut query = QueryBuilder::new("INSERT OR REPLACE INTO results (id, result, note) ");
        query.push_values(rows, |mut out, row| {
            out.push_bind(row.id).push_bind(row.result.as_deref()).push_bind(row.note.as_str());
        });
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}

async fn write_stops(tx: &mut Tx, rows: &[StopRow]) -> StoreResult<()> {
    for rows in batches(rows) {
        let mut query = QueryBuilder::new("INSERT OR IGNORE INTO stops (session_id, claim_id, job_id, reason) ");
        query.push_values(rows, |mut out, row| {
            out.push_bind(row.session_id).push_bind(row.claim_id).push_bind(row.job_id).push_bind(row.reason);
        });
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}
