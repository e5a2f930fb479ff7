//! Calls that wait for jobs to finish, told by the settlements and cancels of this server.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

/// Jobs that calls wait for.
#[derive(Default)]
pub(crate) struct FinishedJobs {
    awaited: Mutex<HashMap<Uuid, watch::Sender<()>>>,
    /// Number of awaited jobs: settlements need no lock while nobody waits.
    count: AtomicUsize,
}

/// Wait of one call, which ends when this is dropped.
pub(crate) struct Wait {
    jobs: Arc<FinishedJobs>,
    job_id: Uuid,
    told: watch::Receiver<()>,
}

impl FinishedJobs {
    /// Waits for a job from now on: nothing that is told after this returns is missed.
    pub(crate) fn wait(self: &Arc<Self>, job_id: Uuid) -> Wait {
        let mut awaited = self.awaited.lock();
        let told = awaited.entry(job_id).or_insert_with(|| watch::Sender::new(())).subscribe();
        self.count.store(awaited.len(), Ordering::SeqCst);
        Wait { jobs: Arc::clone(self), job_id, told }
    }

    /// Tells the calls that wait for these jobs.
    pub(crate) fn tell(&self, finished: impl IntoIterator<Item = Uuid>) {
        if self.count.load(Ordering::SeqCst) == 0 {
            return;
        }
        let awaited = self.awaited.lock();
        for sender in finished.into_iter().filter_map(|job_id| awaited.get(&job_id)) {
            sender.send_replace(());
        }
    }
}

impl Wait {
    /// Waits until the job has been told of since the last call.
    pub(crate) async fn told(&mut self) {
        // The sender lives as long as this wait.
        let _ = self.told.changed().await;
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut awaited = self.jobs.awaited.lock();
        if let Entry::Occupied(entry) = awaited.entry(self.job_id)
            && entry.get().receiver_count() == 1
        {
            entry.remove();
        }
        self.jobs.count.store(awaited.len(), Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn every_call_that_waits_for_a_job_is_told_and_no_other() {
        let jobs = Arc::new(FinishedJobs::default());
        let [one, other] = [1, 2].map(Uuid::from_u128);
        let (mut first, mut second, mut third) = (jobs.wait(one), jobs.wait(one), jobs.wait(other));
        jobs.tell([one, Uuid::nil()]);
        assert!(first.told().now_or_never().is_some() && second.told().now_or_never().is_some());
        assert!(first.told().now_or_never().is_none() && third.told().now_or_never().is_none());
        drop(first);
        jobs.tell([one]);
        assert!(second.told().now_or_never().is_some());
        drop((second, third));
        assert!(jobs.awaited.lock().is_empty() && jobs.count.load(Ordering::SeqCst) == 0);
        jobs.tell([one]);
    }
}
