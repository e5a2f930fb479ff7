//! How many jobs run at once, and how many more are held ready.
//!
//! Between two short jobs a worker would wait for the server. It therefore holds, beside those that run, as many as it
//! is going to finish in the next moment. Of long jobs that is none: they are left to whoever is free.
//! Those that are held run in the order in which the server hands jobs out: by priority, then by when they may run.

use std::{
    collections::BTreeMap,
    pin::pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use jobqueue_shared::limits;
use tokio::{
    sync::{Notify, oneshot},
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
    free: Mutex<Free>,
    held: AtomicUsize,
    finished: AtomicU64,
    freed: Notify,
    pace: Mutex<Pace>,
}

/// Slots that are free, or else who waits for one.
struct Free {
    slots: usize,
    waiting: BTreeMap<Turn, oneshot::Sender<Slot>>,
    /// How many have waited.
    waited: u64,
}

/// Whose turn it is: priority, when the job may run, and who came first.
type Turn = (i32, Due, u64);
/// Seconds and nanoseconds.
pub(crate) type Due = (i64, i32);

/// Places for jobs that are asked for.
pub(crate) struct Room {
    places: usize,
    slots: Slots,
}

/// A job that is held, running or not.
pub(crate) struct Place {
    slots: Slots,
}

/// A job that runs, or may.
pub(crate) struct Slot {
    /// `None` once it has been passed on.
    slots: Option<Slots>,
}

impl Slots {
    pub(crate) fn new(count: usize) -> Self {
        Self(Arc::new(Inner {
            count,
            free: Mutex::new(Free { slots: count, waiting: BTreeMap::new(), waited: 0 }),
            held: AtomicUsize::new(0),
            finished: AtomicU64::new(0),
            freed: Notify::new(),
            pace: Mutex::new(Pace { at: Instant::now(), finished: 0, a_second: 0.0 }),
        }))
    }

    /// Waits until there is room for `least` jobs and more are worth a call.
    pub(crate) async fn room(&self, least: usize) -> Room {
        loop {
            let mut freed = pin!(self.0.freed.notified());
            // From before the look on.
            freed.as_mut().enable();
            if let Some(places) = self.free(least) {
                self.0.held.fetch_add(places, Ordering::AcqRel);
                return Room { places, slots: self.clone() };
            }
            freed.await;
        }
    }

    fn free(&self, least: usize) -> Option<usize> {
        let finished = self.0.finished.load(Ordering::Relaxed);
        let ahead = self.0.pace.lock().unwrap_or_else(PoisonError::into_inner).ahead(Instant::now(), finished);
        let most = (self.0.count + ahead).min(limits::JOBS_PER_SESSION as usize);
        let free = most.saturating_sub(self.0.held.load(Ordering::Acquire));
        (free >= (ahead / 2).max(least)).then(|| free.min(limits::JOBS_PER_ACQUIRE as usize))
    }

    /// A slot for a job of that priority that may run since then: one that is free, or a place in the queue.
    pub(crate) fn slot(&self, priority: i32, due: Due) -> Result<Slot, oneshot::Receiver<Slot>> {
        let mut free = self.0.free();
        if let Some(slots) = free.slots.checked_sub(1) {
            free.slots = slots;
            return Ok(Slot { slots: Some(self.clone()) });
        }
        let (sender, receiver) = oneshot::channel();
        free.waited += 1;
        let turn = (priority, due, free.waited);
        free.waiting.insert(turn, sender);
        Err(receiver)
    }
}

impl Room {
    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// One of them.
    pub(crate) fn one(&mut self) -> Option<Place> {
        self.places = self.places.checked_sub(1)?;
        Some(Place { slots: self.slots.clone() })
    }
}

impl Inner {
    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, places: usize) {
        self.held.fetch_sub(places, Ordering::AcqRel);
        // All who wait: what is too little for one may be enough for another.
        self.freed.notify_waiters();
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.slots.0.leave(self.places);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slots.0.leave(1);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let Some(slots) = self.slots.take() else { return };
        slots.0.finished.fetch_add(1, Ordering::Relaxed);
        loop {
            let mut free = slots.0.free();
            let Some((_, next)) = free.waiting.pop_first() else {
                free.slots += 1;
                return;
            };
            drop(free);
            match next.send(Slot { slots: Some(slots.clone()) }) {
                Ok(()) => return,
                // Who waited has given up. Dropped as a slot it would be passed on twice.
                Err(mut slot) => slot.slots = None,
            }
        }
    }
}

/// How many jobs a worker finishes a second, lately.
struct Pace {
    at: Instant,
    finished: u64,
    a_second: f64,
}

impl Pace {
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
        let mut room = slots.room(1).await;
        assert_eq!(room.places(), 5);
        assert!(slots.room(1).now_or_never().is_none(), "they are asked for already");
        let mut places: Vec<_> = std::iter::from_fn(|| room.one()).collect();
        assert_eq!((places.len(), room.places()), (5, 0));
        drop(room);
        {
            let next = slots.room(1);
            tokio::pin!(next);
            assert!((&mut next).now_or_never().is_none());
            places.truncate(3);
            assert_eq!(next.await.places(), 2);
        }
        drop(places);
        assert_eq!(slots.room(1).await.places(), 5);
    }

    #[tokio::test]
    async fn who_needs_little_is_not_kept_waiting_by_who_needs_much() {
        let slots = Slots::new(1);
        let held = slots.room(1).await.one();
        let (mut much, mut little) = (pin!(slots.room(100)), pin!(slots.room(1)));
        assert!((&mut much).now_or_never().is_none() && (&mut little).now_or_never().is_none());
        drop(held);
        assert_eq!((&mut little).now_or_never().map(|room| room.places()), Some(1));
        assert!((&mut much).now_or_never().is_none());
    }

    #[tokio::test]
    async fn no_more_run_than_there_are_slots_and_the_best_of_those_that_wait_is_next() {
        let slots = Slots::new(2);
        let mut running: Vec<_> = (0..2).map(|_| slots.slot(5, (0, 0)).ok().unwrap()).collect();
        let wait = |priority, due| slots.slot(priority, due).err().unwrap();
        let (late, urgent, gone, early) = (wait(5, (9, 0)), wait(0, (9, 9)), wait(5, (1, 0)), wait(5, (8, 0)));
        drop(gone);
        for (name, mut next) in [("urgent", urgent), ("early", early), ("late", late)] {
            assert!(next.try_recv().is_err(), "{name}");
            running.pop();
            running.push(next.try_recv().expect(name));
        }
        drop(running);
        let _all = [slots.slot(5, (0, 0)).ok().unwrap(), slots.slot(5, (0, 0)).ok().unwrap()];
        assert!(slots.slot(5, (0, 0)).is_err());
    }

    #[tokio::test]
    async fn a_slot_that_reaches_nobody_is_free_again() {
        let slots = Slots::new(1);
        let slot = slots.slot(5, (0, 0)).ok().unwrap();
        let waiting = slots.slot(5, (0, 0)).err().unwrap();
        drop(slot);
        // It has been sent, and is dropped with the channel.
        drop(waiting);
        assert!(slots.slot(5, (0, 0)).is_ok());
    }

    #[test]
    fn short_jobs_are_held_ready_and_long_ones_are_not() {
        let begun = Instant::now();
        let after = |finished: u64, ms: u64| {
            let mut pace = Pace { at: begun, finished: 0, a_second: 0.0 };
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
            let (mut now, mut finished) = (Instant::now(), 0);
            let mut pace = Pace { at: now, finished, a_second: 0.0 };
            for (ms, more) in steps {
                now += Duration::from_millis(ms);
                finished += more;
                prop_assert!(pace.ahead(now, finished) <= limits::JOBS_PER_ACQUIRE as usize);
                prop_assert!(pace.a_second.is_finite() && pace.a_second >= 0.0);
            }
        }
    }
}
