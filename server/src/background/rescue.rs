//! Rescue: takes back the jobs of lost sessions, and ends attempts past their timeout.

use jobqueue_store::{Store, StoreResult};
use metrics::counter;
use tracing::info;

use super::note_heard;
use crate::queue::Notifier;

/// Approximate number of jobs in one transaction.
const LIMIT: u32 = 1_000;

pub async fn run_once(store: &dyn Store, notifier: &Notifier) -> StoreResult<()> {
    // If this process was suspended, the time in which no server received heartbeats must be known before sessions are
    // judged.
    note_heard::run_once(store).await?;
    loop {
        let rescued = store.rescue(LIMIT).await?;
        if rescued.lost + rescued.timed_out + rescued.sessions > 0 {
            info!(
                sessions = rescued.sessions,
                jobs_lost = rescued.lost,
                attempts_timed_out = rescued.timed_out,
                "took jobs back"
            );
            counter!("jobqueue_rescued_total", "why" => "lost").increment(rescued.lost);
            counter!("jobqueue_rescued_total", "why" => "timed_out").increment(rescued.timed_out);
        }
        for worker_id in &rescued.worker_ids {
            notifier.wake(worker_id, LIMIT as usize);
        }
        for session_id in rescued.stopped {
            notifier.stop(session_id);
        }
        if !rescued.more {
            return Ok(());
        }
    }
}
