//! Storing of the units of concurrent submits: one transaction, which also hands jobs to parked polls.

use std::collections::{HashMap, HashSet};

use jobqueue_shared::limits;
use jobqueue_store::{Inserted, Start, StoreResult, Unit, UnitAnswer};
use uuid::Uuid;

use crate::queue::{
    acquire::notify::Notifier,
    context::Context,
    group_commit::limits::{BatchLimits, MIB, Weight},
};

/// Limits of a group of submits, and of the submits that wait for one.
pub(crate) const LIMITS: BatchLimits = BatchLimits {
    group: Weight { count: 2_000, bytes: 8 * MIB },
    waiting: Weight { count: 8_192, bytes: 64 * MIB },
    second_group_from: limits::BATCH_JOBS,
};
/// Payload bytes of a call above which it goes to `large_submits`.
pub(crate) const LARGE: usize = 64 * 1024;
/// Maximum delay, in milliseconds, of a job whose submit notifies parked polls; they then wait for its due time. Jobs with
/// a longer delay are found by polling.
const SOON_MS: i64 = 2_000;

/// Notifies parked polls of the jobs that a group stored, except for those that were handed off directly.
fn wake_for(notifier: &Notifier, now_ms: i64, units: &[Unit], answers: &[UnitAnswer], handed: &HashSet<Uuid>) {
    let mut soon: HashMap<&str, usize> = HashMap::new();
    for (unit, answer) in units.iter().zip(answers) {
        let UnitAnswer::Stored(stored) = answer else { continue };
        for (job, stored) in unit.jobs.iter().zip(stored) {
            let delay_ms = match job.start {
                Start::Now => 0,
                Start::After { delay_ms } => delay_ms,
                Start::At { run_at_ms } => run_at_ms - now_ms,
            };
            if !stored.deduplicated && delay_ms <= SOON_MS && !handed.contains(&stored.id) {
                *soon.entry(&job.worker_id).or_default() += 1;
            }
        }
    }
    for (worker_id, jobs) in soon {
        notifier.wake(worker_id, jobs);
    }
}

/// Counts the new and the deduplicated jobs of a group.
fn tally(answers: &[UnitAnswer]) -> (u64, u64) {
    let mut tally = (0, 0);
    for answer in answers {
        if let UnitAnswer::Stored(stored) = answer {
            for it in stored {
                *(if it.deduplicated { &mut tally.1 } else { &mut tally.0 }) += 1;
            }
        }
    }
    tally
}

/// Inserts a group of units, hands jobs to parked polls, and notifies polls of the other jobs.
pub(crate) async fn flush(context: &Context, units: Vec<Unit>) -> StoreResult<Vec<UnitAnswer>> {
    let pending = context.parked_polls.hand_off(&units);
    let (offers, calls): (Vec<_>, Vec<_>) = pending.into_iter().map(|it| (it.hand_off, it.handed)).unzip();
    let Inserted { answers, handed } = context.store.insert(&units, &offers).await?;
    let ids: HashSet<_> = handed.iter().flatten().map(|leased| leased.lease.job_id).collect();
    for ((call, offer), jobs) in calls.into_iter().zip(&offers).zip(handed) {
        if !jobs.is_empty() && call.send(jobs).is_err() {
            // The poll has ended. If its worker has repeated it with the same acquire_no, that one finds the jobs when
            // it acquires.
            context.notifier.wake_here(&offer.worker_id, usize::MAX);
        }
    }
    wake_for(&context.notifier, context.clock.now_ms(), &units, &answers, &ids);
    let (new, deduplicated) = tally(&answers);
    context.meters.submitted.increment(new);
    context.meters.deduplicated.increment(deduplicated);
    Ok(answers)
}
