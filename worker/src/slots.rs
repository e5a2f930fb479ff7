//! Slots of a worker: the number of jobs that run at once, and of those that are prefetched.
//!
//! Between two short jobs a worker would wait for the server. It therefore holds, beside the running jobs, as many as
//! it finishes in the next 50 ms (`AHEAD`). With long jobs that is none: they are left to workers that are free. Jobs
//! that come one by one are not prefetched either, because a worker asks for more than it can run only while the server
//! gives it everything that it asks for. Prefetched jobs run in the order in which the server leases jobs: by priority,
//! then by the time from which they may run.

use std::{collections::BTreeMap, pin::pin, sync::Arc, time::Duration};

use jobqueue_shared::limits;
use parking_lot::{Mutex, MutexGuard};
use tokio::{sync::Notify, time::Instant};

/// Prefetched work: as many jobs as a busy worker finishes in this time at its pace.
const AHEAD: Duration = Duration::from_millis(50);
/// Maximum number of prefetched jobs: three calls under way and a batch at hand.
const AHEAD_MOST: usize = 4 * limits::JOBS_PER_ACQUIRE as usize;
/// Time of work after which earlier work counts half for the pace.
const HALF_LIFE: Duration = Duration::from_millis(20);
/// Idle time after which half of the pace is forgotten. It is longer than [`HALF_LIFE`], because one of many workers
/// may wait longer for its jobs than it works on them.
const HALF_LIFE_IDLE: Duration = Duration::from_millis(500);

/// Slots of a worker, and the queue of jobs `J` that wait for one.
pub(crate) struct Slots<J>(Arc<Inner<J>>);

struct Inner<J> {
    count: usize,
    state: Mutex<State<J>>,
    /// Notified when there is room for as many jobs as a caller wants.
    room: Notify,
    /// Notified when a job waits and none did before.
    waits: Notify,
}

struct State<J> {
    free: usize,
    waiting: BTreeMap<Turn, (Instant, J)>,
    /// Number of jobs that have been queued so far, which orders equal ones.
    waited: u64,
    held: usize,
    /// Number of held jobs at which callers of `room` are notified.
    wanted: Option<usize>,
    finished: u64,
    pace: Pace,
    /// Maximum number of prefetched jobs: four times the last answer when all jobs came that were asked for, otherwise
    /// half of that answer.
    hoped: usize,
}

/// Order of queued jobs: priority, time from which the job may run, and arrival.
type Turn = (i32, Due, u64);
/// Time in seconds and nanoseconds.
pub(crate) type Due = (i64, i32);

/// Job that needs a slot.
pub(crate) trait Queued {
    /// Priority, and the time from which the job may run.
    fn turn(&self) -> (i32, Due);
    /// Time until which the job waits for a slot.
    fn until(&self) -> Instant;
}

/// Permits for jobs that are being asked for.
pub(crate) struct Room<J> {
    places: usize,
    slots: Slots<J>,
}

/// Permit of a job that the worker holds: the job runs, waits for a slot, or has an outcome that is not sent yet.
pub(crate) struct Place<J>(Slots<J>);

/// Slot of a running job.
pub(crate) struct Slot<J> {
    slots: Slots<J>,
    free: bool,
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
            waiting: BTreeMap::new(),
            waited: 0,
            held: 0,
            wanted: None,
            finished: 0,
            pace: Pace::new(Instant::now()),
            hoped: 0,
        };
        Self(Arc::new(Inner { count, state: Mutex::new(state), room: Notify::new(), waits: Notify::new() }))
    }

    fn state(&self) -> MutexGuard<'_, State<J>> {
        self.0.state.lock()
    }

    /// Waits until there is room for `least` jobs, and for enough to be worth a call.
    pub(crate) async fn room(&self, least: usize) -> Room<J> {
        loop {
            let mut room = pin!(self.0.room.notified());
            // Registered before the state is checked, so that no notification is lost.
            room.as_mut().enable();
            if let Some(places) = self.state().room(self.0.count, least) {
                return Room { places, slots: self.clone() };
            }
            room.await;
        }
    }

    /// Gives each job a slot, or queues it. Jobs with a slot run in the order in which they come.
    pub(crate) fn take(&self, jobs: Vec<J>) -> Vec<(Slot<J>, J)>
    where
        J: Queued,
    {
        let mut run = Vec::new();
        let mut state = self.state();
        let none_waited = state.waiting.is_empty();
        state.pass(self.0.count);
        for job in jobs {
            if let Some(free) = state.free.checked_sub(1) {
                state.free = free;
                run.push((Slot { slots: self.clone(), free: false }, job));
            } else {
                state.waited += 1;
                let (priority, due) = job.turn();
                let turn = (priority, due, state.waited);
                state.waiting.insert(turn, (job.until(), job));
            }
        }
        if none_waited && !state.waiting.is_empty() {
            self.0.waits.notify_one();
        }
        run
    }

    /// Waits until a job is queued for a slot.
    pub(crate) async fn waits(&self) {
        while self.state().waiting.is_empty() {
            self.0.waits.notified().await;
        }
    }

    /// Removes the queued jobs for which `is_over` is true. It is called with the time until which the job waits.
    pub(crate) fn give_up(&self, is_over: impl Fn(Instant, &J) -> bool) -> Vec<J> {
        self.state().waiting.extract_if(.., |_, (until, job)| is_over(*until, job)).map(|(_, (_, job))| job).collect()
    }
}

impl<J> State<J> {
    /// Adds the time until now to the pace. Called before each change of whether the worker is busy.
    fn pass(&mut self, count: usize) {
        self.pace.pass(Instant::now(), (self.free < count).then_some(self.finished));
    }

    /// Frees a slot.
    fn end(&mut self, count: usize) {
        self.pass(count);
        self.free += 1;
    }

    fn room(&mut self, count: usize, least: usize) -> Option<usize> {
        self.pass(count);
        let ahead = self.pace.ahead().min(self.hoped);
        let most = (count + ahead).min(limits::JOBS_PER_SESSION as usize);
        let free = most.saturating_sub(self.held);
        let least = (ahead / 2).min(limits::JOBS_PER_ACQUIRE as usize).max(least);
        if free >= least {
            let places = free.min(limits::JOBS_PER_ACQUIRE as usize);
            self.held += places;
            return Some(places);
        }
        if let Some(few) = most.checked_sub(least) {
            self.wanted = self.wanted.max(Some(few));
        }
        None
    }
}

impl<J> Room<J> {
    pub(crate) fn places(&self) -> usize {
        self.places
    }

    /// Records how many of the requested jobs came, which bounds how many are prefetched next.
    pub(crate) fn answered(&self, came: usize) {
        let mut state = self.slots.state();
        state.hoped =
            if came >= self.places { (4 * state.hoped.max(came)).min(AHEAD_MOST) } else { state.hoped.min(came / 2) };
    }

    /// Takes one permit; `None` when all are taken.
    pub(crate) fn one(&mut self) -> Option<Place<J>> {
        self.places = self.places.checked_sub(1)?;
        Some(Place(self.slots.clone()))
    }
}

impl<J> Slots<J> {
    fn leave(&self, places: usize) {
        let mut state = self.state();
        state.held -= places;
        if state.wanted.is_some_and(|few| state.held <= few) {
            state.wanted = None;
            drop(state);
            // Every caller is notified: too little room for one may be enough for another.
            self.0.room.notify_waiters();
        }
    }
}

impl<J> Drop for Room<J> {
    fn drop(&mut self) {
        self.slots.leave(self.places);
    }
}

impl<J> Drop for Place<J> {
    fn drop(&mut self) {
        self.0.leave(1);
    }
}

impl<J> Slot<J> {
    /// Ends the job of this slot, and returns the next queued job. If there is none, the slot becomes free.
    pub(crate) fn next(&mut self) -> Option<J> {
        let mut state = self.slots.state();
        state.finished += 1;
        let next = state.waiting.pop_first().map(|(_, (_, job))| job);
        if next.is_none() {
            state.end(self.slots.0.count);
            self.free = true;
        }
        next
    }
}

impl<J> Drop for Slot<J> {
    fn drop(&mut self) {
        if !self.free {
            self.slots.state().end(self.slots.0.count);
        }
    }
}

/// Pace of a worker: jobs finished per second of work, as a mean in which recent work counts most.
struct Pace {
    at: Instant,
    finished: u64,
    sum: f64,
    weight: f64,
}

impl Pace {
    fn new(at: Instant) -> Self {
        Self { at, finished: 0, sum: 0.0, weight: 0.0 }
    }

    /// Adds the time until `now`: the worker was busy and has finished `finished` jobs in all, or was idle (`None`).
    fn pass(&mut self, now: Instant, finished: Option<u64>) {
        let time = now.saturating_duration_since(self.at).as_secs_f64();
        if time == 0.0 {
            return;
        }
        let left = |half_life: Duration| 0.5_f64.powf(time / half_life.as_secs_f64());
        if let Some(finished) = finished {
            let rate = finished.saturating_sub(self.finished) as f64 / time;
            let left = left(HALF_LIFE);
            self.sum = self.sum * left + rate * (1.0 - left);
            self.weight = self.weight * left + 1.0 - left;
            self.finished = finished;
        } else {
            self.sum *= left(HALF_LIFE_IDLE);
        }
        self.at = now;
    }

    /// Number of jobs to prefetch.
    fn ahead(&self) -> usize {
        let a_second = if self.weight > 0.0 { self.sum / self.weight } else { 0.0 };
        ((a_second * AHEAD.as_secs_f64()).round() as usize).min(AHEAD_MOST)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use proptest::prelude::*;

    use super::*;

    struct Job(&'static str, i32, Due);

    impl Queued for Job {
        fn turn(&self) -> (i32, Due) {
            (self.1, self.2)
        }

        fn until(&self) -> Instant {
            Instant::now() + Duration::from_secs(1)
        }
    }

    fn any_job() -> Job {
        Job("any", 5, (0, 0))
    }

    #[tokio::test]
    async fn without_a_pace_a_worker_asks_for_as_many_as_are_free() {
        let slots = Slots::<Job>::new(5);
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
        let slots = Slots::<Job>::new(1);
        let held = slots.room(1).await.one();
        let (mut much, mut little) = (pin!(slots.room(100)), pin!(slots.room(1)));
        assert!((&mut much).now_or_never().is_none() && (&mut little).now_or_never().is_none());
        drop(held);
        assert_eq!((&mut little).now_or_never().map(|room| room.places()), Some(1));
        assert!((&mut much).now_or_never().is_none());
    }

    #[tokio::test]
    async fn nobody_is_woken_before_there_is_room_for_what_is_wanted() {
        let slots = Slots::<Job>::new(200);
        let mut room = slots.room(1).await;
        let mut places: Vec<_> = std::iter::from_fn(|| room.one()).collect();
        let mut much = pin!(slots.room(100));
        assert!((&mut much).now_or_never().is_none());
        places.truncate(101);
        assert_eq!(slots.state().wanted, Some(100));
        places.truncate(100);
        assert_eq!(slots.state().wanted, None);
        assert_eq!(much.await.places(), 100);
    }

    #[test]
    fn no_more_run_than_there_are_slots_and_the_best_of_those_that_wait_is_next() {
        let slots = Slots::new(2);
        let mut running = slots.take(vec![any_job(), any_job()]);
        assert_eq!(running.len(), 2);
        let jobs = vec![Job("late", 5, (9, 0)), Job("urgent", 0, (9, 9)), Job("early", 5, (8, 0))];
        assert_eq!(slots.take(jobs).len(), 0, "they wait");
        let (slot, _) = running.first_mut().unwrap();
        for name in ["urgent", "early", "late"] {
            assert_eq!(slot.next().map(|job| job.0), Some(name));
        }
        assert!(slot.next().is_none());
        drop(running);
        assert_eq!(slots.take(vec![any_job(), any_job(), any_job()]).len(), 2);
    }

    #[tokio::test]
    async fn a_job_that_has_waited_too_long_is_given_up_and_only_it() {
        let slots = Slots::new(1);
        assert!(slots.waits().now_or_never().is_none());
        let _running = slots.take(vec![any_job()]);
        assert!(slots.waits().now_or_never().is_none());
        slots.take(vec![Job("a", 5, (0, 0)), Job("b", 5, (0, 0))]);
        slots.waits().await;
        assert!(slots.give_up(|until, _| until <= Instant::now()).is_empty());
        let given_up = slots.give_up(|_, job| job.0 == "a");
        assert_eq!(given_up.iter().map(|job| job.0).collect::<Vec<_>>(), ["a"]);
        assert_eq!(slots.give_up(|_, _| true).len(), 1);
    }

    #[test]
    fn short_jobs_are_held_ready_and_long_ones_are_not() {
        let begun = Instant::now();
        let after = |finished, time| {
            let mut pace = Pace::new(begun);
            pace.pass(begun + time, Some(finished));
            pace
        };
        let second = Duration::from_secs(1);
        assert_eq!(after(1, second).ahead(), 0);
        assert_eq!(after(1_000, second).ahead(), 50);
        assert_eq!(after(1, second / 1_000).ahead(), 50, "one is enough to know");
        assert_eq!(after(10_000_000, second).ahead(), AHEAD_MOST);
        // The pace of short jobs is soon forgotten when jobs get long, and less soon while the worker is idle.
        let mut busy = after(10_000, second);
        busy.pass(begun + second + 10 * HALF_LIFE, Some(10_000));
        assert_eq!(busy.ahead(), 0);
        let mut idle = after(10_000, second);
        idle.pass(begun + second + HALF_LIFE_IDLE, None);
        assert_eq!(idle.ahead(), 250);
        // Many small steps give the same pace as one large step.
        let mut steps = Pace::new(begun);
        (1..=1_000).for_each(|n| steps.pass(begun + n * second / 1_000, Some(u64::from(n))));
        assert_eq!(steps.ahead(), 50);
    }

    /// One slot with jobs of 50 µs each, which come as soon as they are asked for.
    #[tokio::test(start_paused = true)]
    async fn one_slot_holds_more_and_more_while_all_comes_that_it_asks_for() {
        let slots = Slots::new(1);
        let mut asked = Vec::new();
        for came in [usize::MAX; 5].into_iter().chain([6, 1, 0]) {
            let mut room = slots.room(1).await;
            asked.push(room.places());
            let came = came.min(room.places());
            room.answered(came);
            let places: Vec<_> = std::iter::from_fn(|| room.one()).take(came).collect();
            drop(room);
            for (mut slot, _) in slots.take((0..came).map(|_| any_job()).collect()) {
                loop {
                    tokio::time::advance(Duration::from_micros(50)).await;
                    if slot.next().is_none() {
                        break;
                    }
                }
            }
            drop(places);
            // The server is busy with other workers.
            tokio::time::advance(Duration::from_millis(100)).await;
        }
        assert_eq!(asked[..5], [1, 5, 21, 85, 341]);
        // The pace is 20,000 jobs per second of work, half of which is forgotten in half a second without work.
        assert!((700..1_000).contains(&asked[5]), "{asked:?}");
        assert_eq!(asked[6..], [4, 1]);
    }

    proptest! {
        #[test]
        fn what_is_held_ready_is_bounded_whatever_the_clock_says(
            steps in prop::collection::vec((0_u64..3_000_000, 0_u64..100_000, any::<bool>()), 1..50),
        ) {
            let (mut now, mut finished) = (Instant::now(), 0);
            let mut pace = Pace::new(now);
            for (us, more, busy) in steps {
                now += Duration::from_micros(us);
                finished += more;
                pace.pass(now, busy.then_some(finished));
                prop_assert!(pace.ahead() <= AHEAD_MOST);
                prop_assert!(pace.sum.is_finite() && pace.sum >= 0.0 && pace.weight <= 1.0 + f64::EPSILON);
            }
        }
    }
}
