//! Finds the worker_ids with a runnable job among those for which a poll is parked on this server, and wakes a poll of
//! each. This covers jobs that no notification announced, and jobs that have become due. One statement serves all
//! worker_ids.

use jobqueue_store::StoreResult;

use crate::queue::Queue;

pub async fn run_once(queue: &Queue) -> StoreResult<()> {
    let worker_ids = queue.waited_for();
    if worker_ids.is_empty() {
        return Ok(());
    }
    for worker_id in queue.context.store.runnable(&worker_ids).await? {
        // One poll is enough: if it gets as many jobs as it asked for, it wakes the next.
        queue.context.notifier.wake_here(&worker_id, 1);
    }
    Ok(())
}
