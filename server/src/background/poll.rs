//! Looks for jobs of the worker_ids that somebody waits for here, all in one statement: what nobody told this server of,
//! and what has become due.

use crate::{queue::Queue, store::StoreResult};

pub async fn run_once(queue: &Queue) -> StoreResult<()> {
    let worker_ids = queue.waited_for();
    if worker_ids.is_empty() {
        return Ok(());
    }
    for worker_id in queue.store.runnable(&worker_ids).await? {
        // Who finds more than it may take wakes the next.
        queue.wakes.wake_here(&worker_id, 1);
    }
    Ok(())
}
