//! Slots of a worker, each for one running job; the permits handed out for them, which `permits` counts; and the queue
//! of the prefetched jobs that wait for a slot.
//!
//! The queue has the order in which the server leases jobs: by priority, then by the time from which they may run.

use std::{collections::BTreeMap, pin::pin, sync::Arc};

use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

use crate::run::{pace::Pace, permits::Permits};

/// Slots of a worker, and the queue of jobs `J` that wait for one. Clones share both.
pub(crate) struct Slots<J>(Arc<Inner<J>>);

struct Inner<J> {
    /// Number of slots.
    count: usize,
    state: Mutex<State<J>>,
    /// Notified when there are as many permits as a caller of `reserve` wants.
    permits_returned: Notify,
    /// Notified when a job is queued and none was before.
    job_queued: Notify,
}

struct State<J> {
    /// Number of free slots.
    free: usize,
    /// Jobs that wait for a slot, each with the time until which it waits.
    queue: BTreeMap<Position, (Instant, J)>,
    /// Number of jobs that have been queued so far, which orders equal ones.
    queued: u64,
    /// Number of jobs that have ended so far.
    finished: u64,
    pace: Pace,
    permits: Permits,
}

/// Position in the queue: priority, time from which the job may run, and arrival.
type Position = (i32, RunAt, u64);
/// Time in seconds and nanoseconds since 1970.
pub(crate) type RunAt = (i64, i32);

/// Job that needs a slot.
pub(crate) trait QueuedJob {
    /// Priority, and the time from which the job may run.
    fn order(&self) -> (i32, RunAt);
    /// Time until which the job waits for a slot.
    fn waits_until(&self) -> Instant;
}

/// Permits for the jobs that an acquire call asks for. Those that are not taken are given back when this is dropped.
pub(crate) struct Reservation<J> {
    jobs: usize,
    slots: Slots<J>,
}

/// Permit of a job that the worker holds: the job runs, waits for a slot, or has an outcome that is not sent yet.
pub(crate) struct Permit<J>(Slots<J>);

/// Slot of a running job.
pub(crate) struct Slot<J> {
    slots: Slots<J>,
    is_free: bool,
}

impl<J> Clone for Slots<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J> Slots<J> {
    pub(crate) fn new(count: usize) -> Self {
        let state = State {
            free: count,
            queue: BTreeMap::new(),
            queued: 0,
            finished: 0,
            pace: Pace::new(Instant::now()),
            permits: Permits::new(count),
        };
        Self(Arc::new(Inner {
            count,
            state: Mutex::new(state),
            permits_returned: Notify::new(),
            job_queued: Notify::new(),
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.0.state.lock()
    }

    /// Waits for permits for `least` jobs or more, and for enough to be worth a call.
    pub(crate) async fn reserve(&self, least: usize) -> Reservation<J> {
        loop {
            let mut returned = pin!(self.0.permits_returned.notified());
            // Registered before the state is checked, so that no notification is lost.
            returned.as_mut().enable();
            if let Some(jobs) = self.state().take_permits(self.0.count, least) {
                return Reservation { jobs, slots: self.clone() };
            }
            returned.await;
        }
    }

    /// Gives each job a slot, or queues it. Returns the jobs that have a slot, in the order in which they came.
    pub(crate) fn start_or_queue(&self, jobs: Vec<J>) -> Vec<(Slot<J>, J)>
    where
        J: QueuedJob,
    {
        let mut started = Vec::new();
        let mut state = self.state();
        let queue_was_empty = state.queue.is_empty();
        state.advance_pace(self.0.count);
        for job in jobs {
            if let Some(free) = state.free.checked_sub(1) {
                state.free = free;
                started.push((Slot { slots: self.clone(), is_free: false }, job));
            } else {
                state.queued += 1;
                let (priority, run_at) = job.order();
                let position = (priority, run_at, state.queued);
                state.queue.insert(position, (job.waits_until(), job));
            }
        }
        if queue_was_empty && !state.queue.is_empty() {
            self.0.job_queued.notify_one();
        }
        started
    }

    /// Waits until a job is in the queue.
    pub(crate) async fn wait_for_queued_job(&self) {
        while self.state().queue.is_empty() {
            self.0.job_queued.notified().await;
        }
    }

    /// Removes the queued jobs for which `is_over` is true. It is called with the time until which the job waits.
    pub(crate) fn remove_queued(&self, is_over: impl Fn(Instant, &J) -> bool) -> Vec<J> {
        self.state().queue.extract_if(.., |_, (until, job)| is_over(*until, job)).map(|(_, (_, job))| job).collect()
    }

    fn give_back(&self, permits: usize) {
        if self.state().permits.give_back(permits) {
            // Every caller is notified: too few permits for one may be enough for another.
            self.0.permits_returned.notify_waiters();
        }
    }
}

impl<J> State<J> {
    /// Adds the time until now to the pace. Called before each change of whether the worker is busy.
    fn advance_pace(&mut self, slots: usize) {
        self.pace.advance(Instant::now(), (self.free < slots).then_some(self.finished));
    }

    fn free_slot(&mut self, slots: usize) {
        self.advance_pace(slots);
        self.free += 1;
    }

    fn take_permits(&mut self, slots: usize, least: usize) -> Option<usize> {
        self.advance_pace(slots);
        self.permits.take(least, self.pace.prefetch())
    }
}

impl<J> Reservation<J> {
    /// Number of jobs to ask for.
    pub(crate) fn jobs(&self) -> usize {
        self.jobs
    }

    /// Records how many of the jobs came, which bounds how many are prefetched next.
    pub(crate) fn record_answer(&self, came: usize) {
        self.slots.state().permits.record_answer(self.jobs, came);
    }

    /// Takes one permit; `None` when all are taken.
    pub(crate) fn take_permit(&mut self) -> Option<Permit<J>> {
        self.jobs = self.jobs.checked_sub(1)?;
        Some(Permit(self.slots.clone()))
    }
}

impl<J> Drop for Reservation<J> {
    fn drop(&mut self) {
        self.slots.give_back(self.jobs);
    }
}

impl<J> Drop for Permit<J> {
    fn drop(&mut self) {
        self.0.give_back(1);
    }
}

impl<J> Slot<J> {
    /// Ends the job of this slot, and returns the next queued job. If there is none, the slot becomes free.
    pub(crate) fn next_job(&mut self) -> Option<J> {
        let mut state = self.slots.state();
        state.finished += 1;
        let next = state.queue.pop_first().map(|(_, (_, job))| job);
        if next.is_none() {
            state.free_slot(self.slots.0.count);
            self.is_free = true;
        }
        next
    }
}

impl<J> Drop for Slot<J> {
    fn drop(&mut self) {
        if !self.is_free {
            self.slots.state().free_slot(self.slots.0.count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::FutureExt as _;

    use super::*;

    struct Job(&'static str, i32, RunAt);

    impl QueuedJob for Job {
        fn order(&self) -> (i32, RunAt) {
            (self.1, self.2)
        }

        fn waits_until(&self) -> Instant {
            Instant::now() + Duration::from_secs(1)
        }
    }

    fn any_job() -> Job {
        Job("any", 5, (0, 0))
    }

    #[tokio::test]
    async fn without_a_pace_a_worker_asks_for_as_many_as_are_free() {
        let slots = Slots::<Job>::new(5);
        let mut reservation = slots.reserve(1).await;
        assert_eq!(reservation.jobs(), 5);
        assert!(slots.reserve(1).now_or_never().is_none(), "they are asked for already");
        let mut permits: Vec<_> = std::iter::from_fn(|| reservation.take_permit()).collect();
        assert_eq!((permits.len(), reservation.jobs()), (5, 0));
        drop(reservation);
        {
            let next = slots.reserve(1);
            tokio::pin!(next);
            assert!((&mut next).now_or_never().is_none());
            permits.truncate(3);
            assert_eq!(next.await.jobs(), 2);
        }
        drop(permits);
        assert_eq!(slots.reserve(1).await.jobs(), 5);
    }

    #[tokio::test]
    async fn a_call_for_few_jobs_does_not_wait_for_a_call_for_many() {
        let slots = Slots::<Job>::new(1);
        let held = slots.reserve(1).await.take_permit();
        let (mut many, mut few) = (pin!(slots.reserve(100)), pin!(slots.reserve(1)));
        assert!((&mut many).now_or_never().is_none() && (&mut few).now_or_never().is_none());
        drop(held);
        assert_eq!((&mut few).now_or_never().map(|reservation| reservation.jobs()), Some(1));
        assert!((&mut many).now_or_never().is_none());
    }

    #[tokio::test]
    async fn no_call_is_woken_before_there_are_permits_enough() {
        let slots = Slots::<Job>::new(200);
        let mut reservation = slots.reserve(1).await;
        let mut permits: Vec<_> = std::iter::from_fn(|| reservation.take_permit()).collect();
        let mut many = pin!(slots.reserve(100));
        assert!((&mut many).now_or_never().is_none());
        permits.truncate(101);
        assert_eq!(slots.state().permits.wake_at(), Some(100));
        permits.truncate(100);
        assert_eq!(slots.state().permits.wake_at(), None);
        assert_eq!(many.await.jobs(), 100);
    }

    #[test]
    fn no_more_run_than_there_are_slots_and_the_first_of_the_queue_is_next() {
        let slots = Slots::new(2);
        let mut running = slots.start_or_queue(vec![any_job(), any_job()]);
        assert_eq!(running.len(), 2);
        let jobs = vec![Job("late", 5, (9, 0)), Job("urgent", 0, (9, 9)), Job("early", 5, (8, 0))];
        assert_eq!(slots.start_or_queue(jobs).len(), 0, "they wait");
        let (slot, _) = running.first_mut().unwrap();
        for name in ["urgent", "early", "late"] {
            assert_eq!(slot.next_job().map(|job| job.0), Some(name));
        }
        assert!(slot.next_job().is_none());
        drop(running);
        assert_eq!(slots.start_or_queue(vec![any_job(), any_job(), any_job()]).len(), 2);
    }

    #[tokio::test]
    async fn a_job_that_has_waited_too_long_is_given_up_and_only_it() {
        let slots = Slots::new(1);
        assert!(slots.wait_for_queued_job().now_or_never().is_none());
        let _running = slots.start_or_queue(vec![any_job()]);
        assert!(slots.wait_for_queued_job().now_or_never().is_none());
        slots.start_or_queue(vec![Job("a", 5, (0, 0)), Job("b", 5, (0, 0))]);
        slots.wait_for_queued_job().await;
        assert!(slots.remove_queued(|until, _| until <= Instant::now()).is_empty());
        let given_up = slots.remove_queued(|_, job| job.0 == "a");
        assert_eq!(given_up.iter().map(|job| job.0).collect::<Vec<_>>(), ["a"]);
        assert_eq!(slots.remove_queued(|_, _| true).len(), 1);
    }

    /// One slot with jobs of 50 µs each, which come as soon as they are asked for.
    #[tokio::test(start_paused = true)]
    async fn one_slot_prefetches_more_and_more_while_all_comes_that_it_asks_for() {
        let slots = Slots::new(1);
        let mut asked = Vec::new();
        for came in [usize::MAX; 5].into_iter().chain([6, 1, 0]) {
            let mut reservation = slots.reserve(1).await;
            asked.push(reservation.jobs());
            let came = came.min(reservation.jobs());
            reservation.record_answer(came);
            let permits: Vec<_> = std::iter::from_fn(|| reservation.take_permit()).take(came).collect();
            drop(reservation);
            for (mut slot, _) in slots.start_or_queue((0..came).map(|_| any_job()).collect()) {
                loop {
                    tokio::time::advance(Duration::from_micros(50)).await;
                    if slot.next_job().is_none() {
                        break;
                    }
                }
            }
            drop(permits);
            // The server is busy with other workers.
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(asked[..5], [1, 5, 21, 85, 341]);
        // The pace is 20,000 jobs per second of work, half of which is forgotten in half a second without work.
        assert!((700..1_000).contains(&asked[5]), "{asked:?}");
        assert_eq!(asked[6..], [4, 1]);
    }
}
