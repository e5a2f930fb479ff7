//! Rules of the queue: the layer between the API and the store.
//!
//! `submit`, `acquire`, `settle`, `sessions`, `jobs`, `timeline`, `explain`, `pause` and `metrics` implement the calls;
//! `validate` checks their fields. `group_commit` writes concurrent calls in few commits, and `acquire_batcher` batches
//! concurrent acquires; `parked_polls` hands new jobs to waiting acquires; `notify` tells waiting acquires of runnable
//! jobs and of leases to stop; `page` encodes page tokens.

mod acquire;
mod acquire_batcher;
mod clock;
pub mod error;
mod explain;
mod group_commit;
mod jobs;
mod metrics;
mod new_job;
mod notify;
mod page;
mod parked_polls;
mod pause;
mod sessions;
mod settle;
mod submit;
mod tasks;
mod timeline;
mod validate;

use std::sync::Arc;

use jobqueue_shared::limits;
use jobqueue_store::{Heartbeat, HeartbeatAnswer, SettleAnswer, Settlement, Store, Unit, UnitAnswer};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    acquire::AcquireResult,
    clock::DisplayClock,
    error::{Error, Result},
    explain::Explanation,
    jobs::JobPage,
    metrics::{Counts, sum},
    notify::Notifier,
    sessions::Registered,
    settle::{Outcome, SettleVerdict},
    timeline::Event,
};
use self::{
    acquire_batcher::AcquireBatcher,
    group_commit::{BatchLimits, Batcher, Weight},
    parked_polls::ParkedPolls,
    sessions::Sessions,
};
use crate::meters::Meters;

const MIB: usize = 1024 * 1024;

/// Limits of a group of submits, and of the submits that wait for one.
const SUBMITS: BatchLimits = BatchLimits {
    group: Weight { count: 2_000, bytes: 8 * MIB },
    waiting: Weight { count: 8_192, bytes: 64 * MIB },
    second: limits::BATCH_JOBS,
};
/// Payload bytes of a call above which it goes to `large_submits`.
const LARGE: usize = 64 * 1024;
const SETTLES: BatchLimits = BatchLimits {
    group: Weight { count: 4_000, bytes: 8 * MIB },
    waiting: Weight { count: 4_096, bytes: 128 * MIB },
    second: usize::MAX,
};
const BEATS: BatchLimits = BatchLimits {
    group: Weight { count: 2_000, bytes: MIB },
    waiting: Weight { count: 8_192, bytes: MIB },
    second: usize::MAX,
};

/// State that calls and group commits share.
pub struct Context {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) notifier: Arc<Notifier>,
    parked_polls: Arc<ParkedPolls>,
    pub(crate) clock: Arc<DisplayClock>,
    pub(crate) meters: Meters,
}

/// The queue. Calls may come from any number of tasks.
pub struct Queue {
    pub(crate) context: Arc<Context>,
    submits: Batcher<Unit, UnitAnswer>,
    /// Submits with more than [`LARGE`] bytes of payload, apart from the others so that those do not wait for large
    /// groups.
    large_submits: Batcher<Unit, UnitAnswer>,
    settles: Batcher<Settlement, SettleAnswer>,
    beats: Batcher<Heartbeat, Option<HeartbeatAnswer>>,
    sessions: Sessions,
    acquires: AcquireBatcher,
    payload_bytes: usize,
    draining: CancellationToken,
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
        let context = Arc::new(Context {
            notifier: Notifier::new(store.notifications().is_some()),
            parked_polls: Arc::default(),
            store,
            clock: Arc::default(),
            meters: Meters::new(),
        });
        let Options { payload_bytes, acquires, draining, closing } = options;
        if let Some(notifications) = context.store.notifications() {
            tracker.spawn(Arc::clone(&context.notifier).hear(notifications, closing.clone()));
            tracker.spawn(Arc::clone(&context.notifier).announce(Arc::clone(&context.store), closing.clone()));
        }
        let [submits, large_submits] = [(); 2].map(|()| {
            let for_submits = Arc::clone(&context);
            Batcher::spawn(SUBMITS, tracker, closing.clone(), move |units| {
                let context = Arc::clone(&for_submits);
                async move { submit::flush(&context, units).await }
            })
        });
        let for_settles = Arc::clone(&context);
        let settles = Batcher::spawn(SETTLES, tracker, closing.clone(), move |items| {
            let context = Arc::clone(&for_settles);
            async move { settle::flush(&context, items).await }
        });
        let for_acquires = Arc::clone(&context);
        let acquires = AcquireBatcher::new(acquires, tracker, move |requests| {
            let context = Arc::clone(&for_acquires);
            async move { context.store.acquire_all(&requests).await }
        });
        let for_beats = Arc::clone(&context);
        let beats = Batcher::spawn(BEATS, tracker, closing, move |beats| {
            let context = Arc::clone(&for_beats);
            async move { sessions::flush(&context, beats).await }
        });
        Self {
            context,
            submits,
            large_submits,
            settles,
            beats,
            sessions: Sessions::default(),
            acquires,
            payload_bytes,
            draining,
        }
    }
}
