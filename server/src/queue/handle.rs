//! The queue: the handle that calls are made on, and the tasks that it starts.

use std::sync::Arc;

use jobqueue_store::{Heartbeat, HeartbeatAnswer, SettleAnswer, Settlement, Store, Unit, UnitAnswer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    acquire::batcher::AcquireBatcher,
    context::Context,
    group_commit::Batcher,
    operate::operations::runner::Runner,
    sessions::{cache::SessionCache, heartbeat_group},
    settle::group as settle_group,
    submit::group as submit_group,
};

/// The queue. Calls may come from any number of tasks.
pub struct Queue {
    pub(crate) context: Arc<Context>,
    pub(super) submits: Batcher<Unit, UnitAnswer>,
    /// Submits with more than [`submit_group::LARGE`] bytes of payload, apart from the others so that those do not wait
    /// for large groups.
    pub(super) large_submits: Batcher<Unit, UnitAnswer>,
    pub(super) settles: Batcher<Settlement, SettleAnswer>,
    pub(super) beats: Batcher<Heartbeat, Option<HeartbeatAnswer>>,
    pub(super) sessions: SessionCache,
    pub(super) acquires: AcquireBatcher,
    pub(crate) operations: Runner,
    pub(super) payload_bytes: usize,
    pub(super) draining: CancellationToken,
}

/// Options of a queue.
#[derive(Clone, Debug)]
pub struct Options {
    /// Maximum size of a payload, in bytes.
    pub payload_bytes: usize,
    /// Maximum number of concurrent transactions that acquire jobs.
    pub acquires: usize,
    /// Cancelled when the server stops accepting work: long polls end without jobs.
    pub draining: CancellationToken,
    /// Cancelled when no further calls can come: group commits write what waits, and end.
    pub closing: CancellationToken,
}

impl Queue {
    /// Makes a queue whose tasks run on `tracker`.
    pub fn new(store: Arc<dyn Store>, options: Options, tracker: &TaskTracker) -> Self {
        let context = Arc::new(Context::new(store));
        let Options { payload_bytes, acquires, draining, closing } = options;
        if let Some(notifications) = context.store.notifications() {
            tracker.spawn(Arc::clone(&context.notifier).hear(notifications, closing.clone()));
            tracker.spawn(Arc::clone(&context.notifier).announce(Arc::clone(&context.store), closing.clone()));
        }
        let [submits, large_submits] = [(); 2].map(|()| {
            let for_submits = Arc::clone(&context);
            Batcher::spawn(submit_group::LIMITS, tracker, closing.clone(), move |units| {
                let context = Arc::clone(&for_submits);
                async move { submit_group::flush(&context, units).await }
            })
        });
        let for_settles = Arc::clone(&context);
        let settles = Batcher::spawn(settle_group::LIMITS, tracker, closing.clone(), move |items| {
            let context = Arc::clone(&for_settles);
            async move { settle_group::flush(&context, items).await }
        });
        let for_acquires = Arc::clone(&context);
        let acquires = AcquireBatcher::new(acquires, tracker, move |requests| {
            let context = Arc::clone(&for_acquires);
            async move { context.store.acquire_all(&requests).await }
        });
        let for_beats = Arc::clone(&context);
        let beats = Batcher::spawn(heartbeat_group::LIMITS, tracker, closing, move |beats| {
            let context = Arc::clone(&for_beats);
            async move { heartbeat_group::flush(&context, beats).await }
        });
        let operations = Runner::new(Arc::clone(&context), tracker, draining.clone());
        Self {
            context,
            submits,
            large_submits,
            settles,
            beats,
            sessions: SessionCache::default(),
            acquires,
            operations,
            payload_bytes,
            draining,
        }
    }
}
