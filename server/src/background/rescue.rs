//! Takes back what lost sessions held, and attempts past their timeout.

use metrics::counter;
use tracing::info;

use super::listen;
use crate::{
    queue::Wakes,
    store::{Store, StoreResult},
};

/// Jobs in one transaction, about.
const LIMIT: u32 = 1_000;

pub async fn run_once(store: &dyn Store, wakes: &Wakes) -> StoreResult<()> {
    // After a pause of this process nobody is judged by the time in which nobody was heard.
    listen::run_once(store).await?;
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
            wakes.wake(worker_id, LIMIT as usize);
        }
        for session_id in rescued.stopped {
            wakes.stop(session_id);
        }
        if !rescued.more {
            return Ok(());
        }
    }
}
