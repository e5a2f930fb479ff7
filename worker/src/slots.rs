//! How many jobs run at once, and how many more are held ready.
//!
//! Between two short jobs a worker would wait for the server. It therefore holds, beside those that run, as many as it
//! is going to finish in the next moment. Of long jobs that is none: they are left to whoever is free.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jobqueue_shared::limits;
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

/// Jobs held ready are those that are finished in this time, at the present pace.
const AHEAD: Duration = Duration::from_millis(50);
/// What happened this long ago counts half for the pace.
const HALF_LIFE: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(crate) struct Slots(Arc<Inner>);

struct Inner {
    count: usize,
    running: Arc<Semaphore>,
    held: AtomicUsize,
    finished: AtomicU64,
    freed: Notify,
}

/// A job that is held, running or not.
pub(crate) struct Place {
    slots: Slots,
}

/// A job that runs.
pub(crate) struct Slot {
    _running: OwnedSemaphorePermit,
    slots: Slots,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Inner {
            count,
            running: Arc::new(Semaphore::new(count)),
            held: AtomicUsize::new(0),
            finished: AtomicU64::new(0),
            freed: Notify::new(),
        }))
    }

    /// Waits until more jobs are worth a call, and says how many. For one caller at a time, who keeps the pace.
    pub(crate) async fn room(&self, pace: &mut Pace) -> usize {
        loop {
            let freed = self.0.freed.notified();
            let ahead = pace.ahead(Instant::now(), self.0.finished.load(Ordering::Relaxed));
            let most = (self.0.count + ahead).min(limits::JOBS_PER_SESSION as usize);
            let free = most.saturating_sub(self.0.held.load(Ordering::Acquire));
            if free >= (ahead / 2).max(1) {
                return free.min(limits::JOBS_PER_ACQUIRE as usize);
            }
            freed.await;
        }
    }

    pub(crate) fn hold(&self) -> Place {
        self.0.held.fetch_add(1, Ordering::AcqRel);
        Place { slots: self.clone() }
    }

    /// A slot, when one is free now.
    pub(crate) fn try_take(&self) -> Option<Slot> {
        Arc::clone(&self.0.running).try_acquire_owned().ok().map(|running| self.slot(running))
    }

    /// The next slot that nobody else waits for.
    pub(crate) async fn take(&self) -> Slot {
        match Arc::clone(&self.0.running).acquire_owned().await {
            Ok(running) => self.slot(running),
            // Nobody closes the semaphore.
            Err(_) => std::future::pending().await,
        }
    }

    fn slot(&self, running: OwnedSemaphorePermit) -> Slot {
        Slot { _running: running, slots: self.clone() }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slots.0.held.fetch_sub(1, Ordering::AcqRel);
        self.slots.0.freed.notify_one();
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.slots.0.finished.fetch_add(1, Ordering::Relaxed);
    }
}

/// How many jobs a worker finishes a second, lately.
pub(crate) struct Pace {
    at: Instant,
    finished: u64,
    a_second: f64,
}

impl Pace {
    pub(crate) fn new(slots: &Slots) -> Self {
        Self { at: Instant::now(), finished: slots.0.finished.load(Ordering::Relaxed), a_second: 0.0 }
    }

    /// How many jobs to hold ready, when so many are finished in all.
    fn ahead(&mut self, now: Instant, finished: u64) -> usize {
        let time = now.saturating_duration_since(self.at).as_secs_f64();
        if time >= 0.001 {
            let weight = 1.0 - 0.5_f64.powf(time / HALF_LIFE.as_secs_f64());
            self.a_second += weight * (finished.saturating_sub(self.finished) as f64 / time - self.a_second);
            (self.at, self.finished) = (now, finished);
        }
        ((self.a_second * AHEAD.as_secs_f64()).round() as usize).min(limits::JOBS_PER_ACQUIRE as usize)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    #[tokio::test]
    async fn without_a_pace_a_worker_asks_for_as_many_as_are_free() {
        let slots = Slots::new(5);
        let mut pace = Pace::new(&slots);
        assert_eq!(slots.room(&mut pace).await, 5);
        let mut places: Vec<_> = (0..5).map(|_| slots.hold()).collect();
        {
            let room = slots.room(&mut pace);
            tokio::pin!(room);
            assert!((&mut room).now_or_never().is_none());
            places.truncate(3);
            assert_eq!(room.await, 2);
        }
        drop(places);
        assert_eq!(slots.room(&mut pace).await, 5);
    }

    #[tokio::test]
    async fn no_more_run_than_there_are_slots() {
        let slots = Slots::new(2);
        let (first, _second) = (slots.take().await, slots.try_take().unwrap());
        assert!(slots.try_take().is_none());
        drop(first);
        assert!(slots.try_take().is_some());
    }

    #[test]
    fn short_jobs_are_held_ready_and_long_ones_are_not() {
        let slots = Slots::new(10);
        let begun = Instant::now();
        let after = |finished: u64, ms: u64| {
            let mut pace = Pace { at: begun, ..Pace::new(&slots) };
            pace.ahead(begun + Duration::from_millis(ms), finished)
        };
        assert_eq!(after(1, 1_000), 0);
        assert_eq!(after(1_000, 1_000), 50);
        assert_eq!(after(10_000_000, 1_000), limits::JOBS_PER_ACQUIRE as usize);
        // A pace that is over is soon forgotten.
        let mut pace = Pace { at: begun, finished: 0, a_second: 10_000.0 };
        assert_eq!(pace.ahead(begun + Duration::from_secs(1), 0), 0);
    }

    proptest! {
        #[test]
        fn what_is_held_ready_is_bounded_whatever_the_clock_says(
            steps in prop::collection::vec((0_u64..3_000, 0_u64..100_000), 1..50),
        ) {
            let slots = Slots::new(1);
            let (mut pace, mut now, mut finished) = (Pace::new(&slots), Instant::now(), 0);
            for (ms, more) in steps {
                now += Duration::from_millis(ms);
                finished += more;
                prop_assert!(pace.ahead(now, finished) <= limits::JOBS_PER_ACQUIRE as usize);
                prop_assert!(pace.a_second.is_finite() && pace.a_second >= 0.0);
            }
        }
    }
}
