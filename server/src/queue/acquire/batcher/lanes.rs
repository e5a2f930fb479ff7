//! Lanes of the acquire batcher: which waiting acquires start a transaction now, and which go together.

use std::{
    collections::{HashSet, VecDeque},
    mem,
    time::Duration,
};

use jobqueue_store::{Acquire, Acquired};
use tokio::sync::oneshot;

use crate::queue::error::Result;

/// While fewer transactions are under way, an acquire starts one of its own at once; otherwise it waits to be batched. An
/// acquire whose worker_id is in a transaction under way never waits: it could not join that one, and one busy worker
/// needs three.
pub(super) const LANES_BEFORE_BATCHING: usize = 2;
/// A transaction that takes longer does not count towards [`LANES_BEFORE_BATCHING`] any more: it waits for a lock or a
/// slow database, and other acquires must not wait with it.
pub(super) const LANE_TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum number of acquires in a batch: each of them waits for all.
pub(super) const MAX_REQUESTS: usize = 32;
/// Maximum number of jobs that a batch asks for. The first acquire of a batch is not limited by it.
pub(super) const MAX_JOBS: u32 = 2_000;

/// Result of one acquire.
pub(super) type Answer = Result<Acquired>;

/// Acquires that wait, and the transactions under way.
#[derive(Default)]
pub(super) struct Lanes {
    pub waiting: VecDeque<Waiting>,
    /// Number of transactions under way or about to start.
    pub open: usize,
    /// Number of those that have not exceeded [`LANE_TIMEOUT`].
    pub on_time: usize,
    /// The worker_ids of all transactions under way; one may be there more than once.
    pub served: Vec<String>,
}

/// An acquire that waits for a transaction.
pub(super) struct Waiting {
    pub request: Acquire,
    pub reply: oneshot::Sender<Answer>,
}

impl Lanes {
    /// Counts one more transaction if the oldest waiting acquire may start now; false if it has to wait for a batch.
    pub(super) fn open_lane(&mut self, max_lanes: usize) -> bool {
        let Some(first) = self.waiting.front() else { return false };
        let served = || first.request.worker_id.as_ref().is_some_and(|worker_id| self.served.contains(worker_id));
        let may_open = self.open < max_lanes && (self.on_time < LANES_BEFORE_BATCHING || served());
        self.open += usize::from(may_open);
        self.on_time += usize::from(may_open);
        may_open
    }

    /// Takes the next batch: the oldest waiting acquire, and later ones of other worker_ids that fit. An acquire whose
    /// worker_id is not known yet goes alone.
    pub(super) fn group(&mut self) -> Vec<Waiting> {
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
        let Some(first) = self.waiting.pop_front() else { return Vec::new() };
        let Some(worker_id) = first.request.worker_id.clone() else { return vec![first] };
        let (mut jobs, mut worker_ids) = (first.request.max_jobs, HashSet::from([worker_id]));
        let (mut group, mut others) = (vec![first], VecDeque::new());
        for waiting in mem::take(&mut self.waiting) {
            let request = &waiting.request;
            let fits = group.len() < MAX_REQUESTS && jobs.saturating_add(request.max_jobs) <= MAX_JOBS;
            let name = request.worker_id.as_ref().filter(|name| fits && !worker_ids.contains(*name)).cloned();
            match name {
                Some(name) => {
                    jobs += request.max_jobs;
                    worker_ids.insert(name);
                    group.push(waiting);
                }
                None => others.push_back(waiting),
            }
        }
        self.waiting = others;
        self.served.extend(worker_ids);
        group
    }

    /// Stops counting a transaction towards [`LANES_BEFORE_BATCHING`], because it has exceeded [`LANE_TIMEOUT`].
    pub(super) fn late(&mut self) {
        self.on_time -= 1;
    }

    /// Stops counting a transaction, which served these worker_ids. `late` has been called for it if it `is_late`.
    pub(super) fn close_lane(&mut self, worker_ids: &[String], is_late: bool) {
        self.open -= 1;
        self.on_time -= usize::from(!is_late);
        for worker_id in worker_ids {
            if let Some(at) = self.served.iter().position(|served| served == worker_id) {
                self.served.swap_remove(at);
            }
        }
    }
}
