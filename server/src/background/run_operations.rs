//! Claims operations that no runner has: those that a server left behind, or gave back when it stopped.

use jobqueue_store::StoreResult;

use crate::queue::Queue;

pub async fn run_once(queue: &Queue) -> StoreResult<()> {
    queue.operations.run_once().await
}
