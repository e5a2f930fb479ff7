//! Permits of a worker: they bound the jobs that it holds, including prefetched ones.
//!
//! Between two short jobs a worker would wait for the server. It therefore prefetches as many jobs as it finishes in
//! the next 50 ms ([`Pace::prefetch`](crate::run::pace::Pace::prefetch)). With long jobs that is none: they are left to
//! workers that are free. Jobs that come one by one are not prefetched either, because a worker asks for more than it
//! can run only while the server gives it everything that it asks for.

use jobqueue_shared::limits;

use crate::run::pace::PREFETCH_MAX;

/// Permits of a worker. A job has one from the call that asks for it until its outcome is sent.
pub(crate) struct Permits {
    /// Number of jobs that run at once.
    slots: usize,
    taken: usize,
    /// Number of taken permits at which those that wait for permits are notified.
    wake_at: Option<usize>,
    /// Maximum number of prefetched jobs: four times the last answer when all jobs came that were asked for, otherwise
    /// half of that answer.
    prefetch_limit: usize,
}

impl Permits {
    pub(crate) fn new(slots: usize) -> Self {
        Self { slots, taken: 0, wake_at: None, prefetch_limit: 0 }
    }

    /// Takes permits for an acquire call by a worker whose pace asks for `prefetch` jobs: at least `least`, and enough
    /// to be worth a call. `None` when too few are left; the caller is then to be notified when there are enough.
    pub(crate) fn take(&mut self, least: usize, prefetch: usize) -> Option<usize> {
        let prefetch = prefetch.min(self.prefetch_limit);
        let most = (self.slots + prefetch).min(limits::JOBS_PER_SESSION as usize);
        let left = most.saturating_sub(self.taken);
        let least = (prefetch / 2).min(limits::JOBS_PER_ACQUIRE as usize).max(least);
        if left >= least {
            let permits = left.min(limits::JOBS_PER_ACQUIRE as usize);
            self.taken += permits;
            return Some(permits);
        }
        if let Some(few) = most.checked_sub(least) {
            self.wake_at = self.wake_at.max(Some(few));
        }
        None
    }

    /// Gives permits back. True when those that wait for permits are to be notified.
    pub(crate) fn give_back(&mut self, permits: usize) -> bool {
        self.taken -= permits;
        self.wake_at.take_if(|few| self.taken <= *few).is_some()
    }

    /// Records that `came` jobs came of the `asked` that were asked for, which bounds how many are prefetched next.
    pub(crate) fn record_answer(&mut self, asked: usize, came: usize) {
        self.prefetch_limit = if came >= asked {
            (4 * self.prefetch_limit.max(came)).min(PREFETCH_MAX)
        } else {
            self.prefetch_limit.min(came / 2)
        };
    }

    #[cfg(test)]
    pub(crate) fn wake_at(&self) -> Option<usize> {
        self.wake_at
    }
}
