//! The rules of the queue, between the API and the store.
//!
//! `submit`, `acquire`, `settle`, `sessions`, `jobs`, `timeline`, `explain`, `pause` and `metrics` are the calls;
//! `validate` checks their fields; `grouper` turns concurrent writes into few commits, `looks` concurrent looks for jobs;
//! `wake` tells who waits that
//! there is work or something to stop; `page` names the places where pages end.

mod acquire;
mod clock;
pub mod error;
mod explain;
mod grouper;
mod jobs;
mod looks;
mod metrics;
mod new_job;
mod page;
mod pause;
mod sessions;
mod settle;
mod submit;
mod tasks;
mod timeline;
mod validate;
mod waiting;
mod wake;

use std::{ops::Deref, sync::Arc};

use jobqueue_shared::limits;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::{
    acquire::Handed,
    clock::Clock,
    error::{Error, Result},
    explain::Explanation,
    jobs::JobPage,
    metrics::{Counts, sum},
    sessions::Registered,
    settle::{Outcome, Verdict},
    timeline::Event,
    wake::Wakes,
};
use self::{
    grouper::{Caps, Grouper, Weight},
    looks::Looks,
    sessions::Sessions,
    waiting::Waiting,
};
use crate::{
    meters::Meters,
    store::{Alive, Beat, SettleAnswer, Settlement, Store, Unit, UnitAnswer},
};

const MIB: usize = 1024 * 1024;

/// Jobs a commit takes at most, and what may wait for one.
const SUBMITS: Caps = Caps {
    group: Weight { count: 2_000, bytes: 8 * MIB },
    waiting: Weight { count: 8_192, bytes: 64 * MIB },
    second: limits::BATCH_JOBS,
};
/// Bytes of payload in a call.
const LARGE: usize = 64 * 1024;
const SETTLES: Caps = Caps {
    group: Weight { count: 4_000, bytes: 8 * MIB },
    waiting: Weight { count: 4_096, bytes: 128 * MIB },
    second: usize::MAX,
};
const BEATS: Caps = Caps {
    group: Weight { count: 2_000, bytes: MIB },
    waiting: Weight { count: 8_192, bytes: MIB },
    second: usize::MAX,
};

/// What the calls and the groups both work with.
pub struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) wakes: Arc<Wakes>,
    waiting: Arc<Waiting>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) meters: Meters,
}

/// The queue. Cheap to call from any number of tasks.
pub struct Queue {
    shared: Arc<Shared>,
    submits: Grouper<Unit, UnitAnswer>,
    /// Those with more than [`LARGE`] bytes: however many they are, the others do not wait for them.
    large_submits: Grouper<Unit, UnitAnswer>,
    settles: Grouper<Settlement, SettleAnswer>,
    beats: Grouper<Beat, Option<Alive>>,
    sessions: Sessions,
    looks: Looks,
    payload_bytes: usize,
    draining: CancellationToken,
}

/// How a queue is set up.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest payload accepted, in bytes.
    pub payload_bytes: usize,
    /// Transactions at once that look for jobs.
    pub acquires: usize,
    /// Cancelled when the server takes nothing new: long polls end empty.
    pub draining: CancellationToken,
    /// Cancelled when nothing more can come: the groups write what waits and end.
    pub closing: CancellationToken,
}

impl Queue {
    /// Its tasks run on `tracker`.
    pub fn new(store: Arc<dyn Store>, options: Options, tracker: &TaskTracker) -> Self {
        let shared = Arc::new(Shared {
            wakes: Wakes::new(store.wakes().is_some()),
            waiting: Arc::default(),
            store,
            clock: Arc::default(),
            meters: Meters::new(),
        });
        let Options { payload_bytes, acquires, draining, closing } = options;
        if let Some(wakes) = shared.store.wakes() {
            tracker.spawn(Arc::clone(&shared.wakes).hear(wakes, closing.clone()));
            tracker.spawn(Arc::clone(&shared.wakes).announce(Arc::clone(&shared.store), closing.clone()));
        }
        let [submits, large_submits] = [(); 2].map(|()| {
            let for_submits = Arc::clone(&shared);
            Grouper::spawn(SUBMITS, tracker, closing.clone(), move |units| {
                let shared = Arc::clone(&for_submits);
                async move { submit::flush(&shared, units).await }
            })
        });
        let for_settles = Arc::clone(&shared);
        let settles = Grouper::spawn(SETTLES, tracker, closing.clone(), move |items| {
            let shared = Arc::clone(&for_settles);
            async move { settle::flush(&shared, items).await }
        });
        let for_looks = Arc::clone(&shared);
        let looks = Looks::new(acquires, tracker, move |requests| {
            let shared = Arc::clone(&for_looks);
            async move { shared.store.acquire_all(&requests).await }
        });
        let for_beats = Arc::clone(&shared);
        let beats = Grouper::spawn(BEATS, tracker, closing, move |beats| {
            let shared = Arc::clone(&for_beats);
            async move { sessions::flush(&shared, beats).await }
        });
        Self {
            shared,
            submits,
            large_submits,
            settles,
            beats,
            sessions: Sessions::default(),
            looks,
            payload_bytes,
            draining,
        }
    }
}

impl Deref for Queue {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}
