//! Polls for runnable jobs of all worker_ids with a parked poll here, in one statement: it finds jobs that no
//! notification told of, and jobs that have become due.

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
