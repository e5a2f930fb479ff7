//! Rescue: ends attempts past their timeout and sessions whose lease ran out.
//!
//! A row that cannot be rescued does not hold up the others: a transaction that fails because of some row's data is
//! repeated claim by claim, and the rows that fail again go into quarantine.

use async_trait::async_trait;
use jobqueue_shared::limits;
use uuid::Uuid;

use crate::{
    error::StoreResult,
    quarantine::Quarantine,
    sessions::session_end::{self, LostRow, SessionEnd},
    types::Rescued,
};

/// A driver's transactions for rescue. Each adds what it has committed to `rescued`.
#[async_trait]
pub trait RescueSteps: Sync {
    fn quarantine(&self) -> &Quarantine;

    /// Reads claims with attempts past their timeout, of about `limit` jobs.
    async fn overdue_claims(&self, limit: u32) -> StoreResult<Vec<Uuid>>;

    /// Ends the attempts of these claims that are past their timeout.
    async fn time_out(&self, claim_ids: &[Uuid], rescued: &mut Rescued) -> StoreResult<()>;

    /// Reads up to `limit` sessions whose lease ran out, or that are gone and still have claims.
    async fn lost_sessions(&self, limit: u32) -> StoreResult<Vec<LostRow>>;

    /// Ends sessions in one transaction. A session with more jobs than the limit ends at once; the rest of its claims
    /// follow in the next batches.
    async fn end_sessions(&self, ids: &[Uuid], limit: u32, rescued: &mut Rescued) -> StoreResult<()>;

    /// Ends a session without taking back its claims.
    async fn mark_ended(&self, id: Uuid, rescued: &mut Rescued) -> StoreResult<Vec<SessionEnd>>;

    /// Takes back one claim of sessions that have ended.
    async fn take_back(&self, ends: &[SessionEnd], claim_id: Uuid, rescued: &mut Rescued) -> StoreResult<()>;
}

/// Rescues about `limit` jobs.
pub async fn rescue(store: &impl RescueSteps, limit: u32) -> StoreResult<Rescued> {
    let mut rescued = Rescued::default();
    let timed_out = time_out(store, limit, &mut rescued).await;
    let lost = end_lost(store, limit, &mut rescued).await;
    session_end::rescue_answer(rescued, timed_out.and(lost))
}

async fn time_out(store: &impl RescueSteps, limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let ids = store.overdue_claims(limit).await?;
    let before = rescued.timed_out;
    match store.time_out(&ids, rescued).await {
        Err(error) if error.concerns_single_rows() => {
            for id in ids {
                match store.time_out(&[id], rescued).await {
                    Err(error) if error.concerns_single_rows() => store.quarantine().add("claim", id, &error),
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

async fn end_lost(store: &impl RescueSteps, limit: u32, rescued: &mut Rescued) -> StoreResult<()> {
    let lost = store.lost_sessions(limit).await?;
    rescued.more |= lost.len() >= limit as usize;
    for ids in session_end::batches(lost, limit as usize) {
        if rescued.lost >= u64::from(limit) {
            rescued.more = true;
            break;
        }
        match store.end_sessions(&ids, limit, rescued).await {
            Err(error) if error.concerns_single_rows() => {
                for id in ids {
                    match end_claim_by_claim(store, id, rescued).await {
                        Err(error) if error.concerns_single_rows() => store.quarantine().add("session", id, &error),
                        result => result?,
                    }
                }
            }
            result => result?,
        }
    }
    Ok(())
}

/// Ends a session, and takes back its claims in one transaction each, so that only the damaged ones are left.
async fn end_claim_by_claim(store: &impl RescueSteps, id: Uuid, rescued: &mut Rescued) -> StoreResult<()> {
    let ends = store.mark_ended(id, rescued).await?;
    let left_out = store.quarantine().left_out();
    let (claims, _) = session_end::next_claims(&ends, limits::JOBS_PER_SESSION as usize, &left_out);
    for claim_id in claims {
        match store.take_back(&ends, claim_id, rescued).await {
            Err(error) if error.concerns_single_rows() => store.quarantine().add("claim", claim_id, &error),
            result => result?,
        }
    }
    Ok(())
}
