//! Progress reports of running attempts.

use jobqueue_store::{
    error::StoreResult,
    settle::{claim::Prior, decision},
    types::ProgressReport,
};

use crate::{
    SqliteStore, Tx, begin,
    settle::{self, write},
};

const WRITE_PROGRESS: &str = "
    INSERT INTO progress (id, run_no, fraction, message, at) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT (id) DO UPDATE SET run_no = excluded.run_no, fraction = excluded.fraction, message = excluded.message,
                                   at = excluded.at";

pub(crate) async fn report_progress(store: &SqliteStore, report: &ProgressReport) -> StoreResult<bool> {
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    let claims = settle::read_claims(&mut tx, &[report.lease.claim_id]).await?;
    let held = claims
        .get(&report.lease.claim_id)
        .and_then(|claim| Some((claim, *claim.entries.iter().find(|entry| entry.job_id == report.lease.job_id)?)));
    let Some((_, entry)) = held.filter(|(claim, _)| claim.session_id == report.session_id) else {
        let held = held.map(|(claim, entry)| claim.as_prior(entry));
        refuse_progress(&mut tx, report, held, store.clock.now_ms()).await?;
        tx.commit().await?;
        return Ok(false);
    };
    sqlx::query(WRITE_PROGRESS)
        .bind(entry.job_id)
        .bind(i64::from(entry.run_no))
        .bind(report.fraction)
        .bind(&report.message)
        .bind(store.clock.now_ms())
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(true)
}

/// Records that a progress report was refused, because its lease is `held` by another session or has ended.
async fn refuse_progress(tx: &mut Tx, report: &ProgressReport, held: Option<Prior>, now: i64) -> StoreResult<()> {
    let prior = match held {
        Some(prior) => Some(prior),
        None => settle::read_priors(tx, vec![report.lease]).await?.remove(&report.lease),
    };
    // A lease that never was, or whose job is gone, has no history to write to.
    let refusal = prior.map(|prior| decision::refusal("progress", report.lease, report.session_id, prior, now));
    write::write_attempts(tx, refusal.as_slice()).await
}
