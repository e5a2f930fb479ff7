//! Settle: ends attempts. Finds their claims, lets [`decision`] decide, and writes the decision.

pub(crate) mod write;

use std::collections::HashMap;

use jobqueue_shared::lease::LeaseId;
use jobqueue_store::{
    error::StoreResult,
    rows::{
        job::{ClaimRow, PriorRow, RetryRow},
        packed_claim,
    },
    settle::{
        claim::{Claim, Prior, RetryColumns},
        decision::{self, SettleDecision},
    },
    types::{AttemptOutcome, SettleAnswer, Settlement},
};
use uuid::Uuid;

use crate::{SqliteStore, Tx, acquire::handlers, id_list, pair_list};

pub(crate) async fn settle(store: &SqliteStore, settlements: &[Settlement]) -> StoreResult<Vec<SettleAnswer>> {
    let mut share = store.share().await?;
    let settled = settle_in(share.connection()?, settlements, store.clock.now_ms()).await;
    share.finish(settled).await
}

async fn settle_in(tx: &mut Tx, settlements: &[Settlement], now: i64) -> StoreResult<Vec<SettleAnswer>> {
    let claims = read_claims(tx, &decision::claim_ids(settlements)).await?;
    Ok(end_attempts(tx, settlements, claims, now).await?.answers)
}

pub(crate) const READ_CLAIMS: &str = "
    SELECT c.id, c.worker_id, c.session_id, s.host, c.claimed_at, c.ids, c.entries
    FROM claims c LEFT JOIN sessions s ON s.id = c.session_id
    WHERE c.id IN (SELECT unhex(value) FROM json_each(?1))";

pub(crate) async fn read_claims(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<HashMap<Uuid, Claim>> {
    let rows: Vec<ClaimRow> = sqlx::query_as(READ_CLAIMS).bind(id_list(ids)).fetch_all(&mut *tx).await?;
    Ok(ClaimRow::sound_or_logged(rows).map(|claim| (claim.id, claim)).collect())
}

/// Ends attempts of claims: decides and writes. The caller commits.
pub(crate) async fn end_attempts(
    tx: &mut Tx,
    settlements: &[Settlement],
    claims: HashMap<Uuid, Claim>,
    now: i64,
) -> StoreResult<SettleDecision> {
    let priors = read_priors(tx, decision::not_open(settlements, &claims)).await?;
    let mut columns = read_retry_columns(tx, decision::needs_retry_columns(settlements)).await?;
    handlers::read_foreign_tasks(tx, &decision::without_handler(settlements, &claims), &mut columns).await?;
    let decision = decision::decide(settlements, claims, &columns, &priors, now, rand::random::<f64>);
    write::write(tx, &decision, now).await?;
    Ok(decision)
}

const READ_RETRY_COLUMNS: &str = "
    SELECT id, task, priority, length(payload) AS payload_bytes, max_retries, retry
    FROM jobs WHERE id IN (SELECT unhex(value) FROM json_each(?1))";

async fn read_retry_columns(tx: &mut Tx, ids: Vec<Uuid>) -> StoreResult<HashMap<Uuid, RetryColumns>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<RetryRow> = sqlx::query_as(READ_RETRY_COLUMNS).bind(id_list(&ids)).fetch_all(&mut *tx).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.into_columns())).collect())
}

const READ_PRIORS: &str = "
    WITH asked AS MATERIALIZED (
        SELECT unhex(substr(value, 1, 32)) AS claim_id, unhex(substr(value, 33, 32)) AS job_id,
               unhex(substr(value, 65, 32)) AS earliest
        FROM json_each(?1)
    )
    SELECT a.claim_id, a.job_id, a.session_id, a.run_no, a.outcome, a.ended_at,
           EXISTS (SELECT 1 FROM dead_letters f WHERE f.id = a.job_id AND f.run_no = a.run_no) AS died,
           NULL AS ids, NULL AS runs
    FROM asked JOIN attempts a ON a.job_id = asked.job_id AND a.claim_id = asked.claim_id AND a.outcome <> ?2
    UNION ALL
    SELECT d.claim_id, asked.job_id, d.session_id, 0, NULL, d.finished_at, false, d.ids, d.runs
    FROM asked
    JOIN jobs j ON j.id = asked.job_id
    JOIN done d ON d.worker_id = j.worker_id AND d.first_id BETWEEN asked.earliest AND asked.job_id
        AND d.claim_id = asked.claim_id AND instr(d.ids, asked.job_id) % 16 = 1";

pub(crate) async fn read_priors(tx: &mut Tx, leases: Vec<LeaseId>) -> StoreResult<HashMap<LeaseId, Prior>> {
    if leases.is_empty() {
        return Ok(HashMap::new());
    }
    let asked = pair_list(
        leases.iter().map(|lease| [lease.claim_id, lease.job_id, packed_claim::earliest_first_id(lease.job_id)]),
    );
    let rows: Vec<PriorRow> =
        sqlx::query_as(READ_PRIORS).bind(asked).bind(AttemptOutcome::Refused as i16).fetch_all(&mut *tx).await?;
    Ok(rows.into_iter().map(PriorRow::into_prior).collect())
}
