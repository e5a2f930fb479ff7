//! Looks for jobs of the worker_ids that somebody waits for here, all in one statement: what nobody told this server of,
//! and what has become due.

use crate::{
    queue::Wakes,
    store::{Store, StoreResult},
};

pub async fn run_once(store: &dyn Store, wakes: &Wakes) -> StoreResult<()> {
    let worker_ids = wakes.waited_for();
    if worker_ids.is_empty() {
        return Ok(());
    }
    for worker_id in store.runnable(&worker_ids).await? {
        // Who finds more than it may take wakes the next.
        wakes.wake_here(&worker_id, 1);
    }
    Ok(())
}
