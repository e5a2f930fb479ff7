//! Settling of the outcomes that concurrent calls report.

use std::collections::HashSet;

use jobqueue_shared::state::State;
use jobqueue_store::{SettleAnswer, Settlement, StoreResult, settle_group};
use tracing::warn;

use crate::queue::{
    context::Context,
    group_commit::limits::{BatchLimits, MIB, Weight},
};

/// Limits of a group of settlements, and of the settlements that wait for one.
pub(crate) const LIMITS: BatchLimits = BatchLimits {
    group: Weight { count: 4_000, bytes: 8 * MIB },
    waiting: Weight { count: 4_096, bytes: 128 * MIB },
    second_group_from: usize::MAX,
};

/// Settles a group. Each lease is passed to the store once a call: of two settlements of one lease, the second is
/// passed when the first has been decided.
pub(crate) async fn flush(context: &Context, items: Vec<Settlement>) -> StoreResult<Vec<SettleAnswer>> {
    let mut seen = HashSet::with_capacity(items.len());
    let answers = if items.iter().all(|it| seen.insert(it.lease)) {
        settle_group(&*context.store, &items).await?
    } else {
        let mut answers = Vec::with_capacity(items.len());
        let mut rest = &items[..];
        while !rest.is_empty() {
            seen.clear();
            let unique = rest.iter().take_while(|it| seen.insert(it.lease)).count();
            answers.extend(settle_group(&*context.store, &rest[..unique]).await?);
            rest = &rest[unique..];
        }
        answers
    };
    let ended = |answer: &SettleAnswer| matches!(answer, SettleAnswer::Accepted(state) if *state != State::Pending);
    context.finished.tell(items.iter().zip(&answers).filter(|it| ended(it.1)).map(|it| it.0.lease.job_id));
    for (item, answer) in items.iter().zip(&answers) {
        context.meters.settled(item.ending, *answer);
        if *answer == SettleAnswer::Stale {
            warn!(
                session_id = %item.session_id.unwrap_or_default(), job_id = %item.lease.job_id,
                "an outcome for a lease that is no longer valid was refused"
            );
        }
    }
    Ok(answers)
}
