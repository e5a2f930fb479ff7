//! Settle: ends attempts. Finds and locks their claims, lets [`decision`] decide, and writes the decision.

pub(crate) mod write;

use std::collections::HashMap;

use jobqueue_shared::lease::LeaseId;
use jobqueue_store::{
    error::StoreResult,
    rows::{
        job::{ClaimRow, PriorRow, RetryRow},
        packed_claim,
        write::ReadyRow,
    },
    settle::{
        claim::{Claim, Prior, RetryColumns},
        decision::{self, SettleDecision},
    },
    types::{AttemptOutcome, SettleAnswer, Settlement},
};
use uuid::Uuid;

use crate::{PostgresStore, Tx, acquire::handlers, id_range};

pub(crate) async fn settle(store: &PostgresStore, settlements: &[Settlement]) -> StoreResult<Vec<SettleAnswer>> {
    let mut tx = store.begin().await?;
    let claims = lock_claims(&mut tx, decision::claim_ids(settlements)).await?;
    let decision = end_attempts(&mut tx, settlements, claims, store.clock.now_ms()).await?;
    tx.commit().await?;
    store.scan_cursors.lower(decision.ready.iter().map(ReadyRow::key));
    Ok(decision.answers)
}

/// Query that reads claims in the order of their ids. Each is looked up by its key: claims come and go so fast that
/// PostgreSQL may take the table for empty, and reading a whole index, with its dead entries, for as cheap.
macro_rules! locked_claims {
    ($lock:literal) => {
        concat!(
            "
    SELECT c.id, c.worker_id, c.session_id, s.host, c.claimed_at, c.ids, c.entries
    FROM (SELECT unnest($1::uuid[]) AS id ORDER BY 1) AS asked
    CROSS JOIN LATERAL (SELECT * FROM claims WHERE claims.id = asked.id ",
            $lock,
            ") AS c
    LEFT JOIN LATERAL (SELECT host FROM sessions WHERE sessions.id = c.session_id OFFSET 0) AS s ON true"
        )
    };
}
pub(crate) use locked_claims;

/// Locks claims in the order of their ids, as everywhere, so that two transactions never wait for each other crosswise.
pub(crate) async fn lock_claims(tx: &mut Tx, ids: Vec<Uuid>) -> StoreResult<HashMap<Uuid, Claim>> {
    let rows: Vec<ClaimRow> = sqlx::query_as(locked_claims!("FOR UPDATE")).bind(ids).fetch_all(&mut **tx).await?;
    Ok(ClaimRow::sound_or_logged(rows).map(|claim| (claim.id, claim)).collect())
}

/// Ends attempts of locked claims: decides and writes. The caller commits.
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
    SELECT id, task, priority, octet_length(payload) AS payload_bytes, max_retries, retry
    FROM jobs WHERE id = ANY($1) AND id BETWEEN $2 AND $3";

async fn read_retry_columns(tx: &mut Tx, ids: Vec<Uuid>) -> StoreResult<HashMap<Uuid, RetryColumns>> {
    if ids.is_empty() {
        return Ok(HashMap::new());
    }
    let (first, last) = id_range(&ids);
    let rows: Vec<RetryRow> =
        sqlx::query_as(READ_RETRY_COLUMNS).bind(ids).bind(first).bind(last).fetch_all(&mut **tx).await?;
    Ok(rows.into_iter().map(|row| (row.id, row.into_columns())).collect())
}

const READ_PRIORS: &str = "
    SELECT a.claim_id, a.job_id, a.session_id, a.run_no, a.outcome, a.ended_at,
           EXISTS (SELECT FROM dead_letters f WHERE f.id = a.job_id AND f.run_no = a.run_no) AS died,
           NULL::bytea AS ids, NULL::bytea AS runs
    FROM unnest($1::uuid[], $2::uuid[]) AS asked(claim_id, job_id)
    JOIN attempts a ON a.job_id = asked.job_id AND a.claim_id = asked.claim_id AND a.outcome <> $4
    UNION ALL
    SELECT d.claim_id, asked.job_id, d.session_id, 0, NULL, d.finished_at, false, d.ids, d.runs
    FROM unnest($1::uuid[], $2::uuid[], $3::uuid[]) AS asked(claim_id, job_id, earliest)
    CROSS JOIN LATERAL (SELECT worker_id FROM jobs WHERE jobs.id = asked.job_id LIMIT 1) AS j
    JOIN done d ON d.worker_id = j.worker_id AND d.first_id BETWEEN asked.earliest AND asked.job_id
        AND d.claim_id = asked.claim_id AND position(uuid_send(asked.job_id) IN d.ids) % 16 = 1";

pub(crate) async fn read_priors(tx: &mut Tx, leases: Vec<LeaseId>) -> StoreResult<HashMap<LeaseId, Prior>> {
    if leases.is_empty() {
        return Ok(HashMap::new());
    }
    let rows: Vec<PriorRow> = sqlx::query_as(READ_PRIORS)
        .bind(leases.iter().map(|lease| lease.claim_id).collect::<Vec<_>>())
        .bind(leases.iter().map(|lease| lease.job_id).collect::<Vec<_>>())
        .bind(leases.iter().map(|lease| packed_claim::earliest_first_id(lease.job_id)).collect::<Vec<_>>())
        .bind(AttemptOutcome::Refused as i16)
        .fetch_all(&mut **tx)
        .await?;
    Ok(rows.into_iter().map(PriorRow::into_prior).collect())
}
