//! Batches concurrent acquires of different worker_ids into one transaction.
//!
//! With many worker_ids, an acquire's transaction costs more than its statements. A batch holds at most one acquire of
//! each worker_id, so that no session waits for jobs that another one of the same batch is taking.

use std::{
    collections::{HashSet, VecDeque},
    mem,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::Arc,
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use jobqueue_store::{Acquire, Acquired, StoreError, StoreResult};
use parking_lot::{Mutex, MutexGuard};
use tokio::{runtime::Handle, sync::oneshot, time::timeout};
use tokio_util::task::TaskTracker;

use super::error::{Error, Result};

/// While fewer transactions are under way, an acquire starts one of its own at once; otherwise it waits to be batched. An
/// acquire whose worker_id is in a transaction under way never waits: it could not join that one, and one busy worker
/// needs three.
const LANES_BEFORE_BATCHING: usize = 2;
/// A transaction that takes longer does not count towards [`LANES_BEFORE_BATCHING`] any more: it waits for a lock or a
/// slow database, and other acquires must not wait with it.
const LANE_TIMEOUT: Duration = Duration::from_millis(100);
/// Maximum number of acquires in a batch: each of them waits for all.
const MAX_REQUESTS: usize = 32;
/// Maximum number of jobs that a batch asks for. The first acquire of a batch is not limited by it.
const MAX_JOBS: u32 = 2_000;

type Answer = Result<Acquired>;

/// Function that runs one transaction: one answer a request, in order.
type AcquireAll = dyn Fn(Vec<Acquire>) -> BoxFuture<'static, StoreResult<Vec<Option<Acquired>>>> + Send + Sync;

/// Runs acquires, alone or in batches. Clones share the waiting acquires.
#[derive(Clone)]
pub(super) struct AcquireBatcher {
    state: Arc<Mutex<State>>,
    /// Maximum number of transactions at once, so that polls of idle workers leave connections for submits and settles.
    max_lanes: usize,
    tracker: TaskTracker,
    acquire_all: Arc<AcquireAll>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Number of transactions under way or about to start.
    lanes: usize,
    /// Number of those that have not exceeded [`LANE_TIMEOUT`].
    on_time: usize,
    /// The worker_ids of all transactions under way; one may be there more than once.
    served: Vec<String>,
}

struct Waiting {
    request: Acquire,
    reply: oneshot::Sender<Answer>,
}

impl AcquireBatcher {
    pub(super) fn new<F, Fut>(max_lanes: usize, tracker: &TaskTracker, acquire_all: F) -> Self
    where
        F: Fn(Vec<Acquire>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StoreResult<Vec<Option<Acquired>>>> + Send + 'static,
    {
        let acquire_all: Arc<AcquireAll> = Arc::new(move |requests| acquire_all(requests).boxed());
        Self { state: Arc::default(), max_lanes: max_lanes.max(1), tracker: tracker.clone(), acquire_all }
    }

    /// Acquires jobs. If the caller is dropped before its transaction begins, none is run for it; afterwards the jobs
    /// stay claimed under the request's acquire_no, and repeating the request gives them again.
    pub(super) async fn call(&self, request: Acquire) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.state().waiting.push_back(Waiting { request, reply });
        self.start();
        answer.await.unwrap_or_else(|_| Err(StoreError::Defect("an acquire was not answered".into()).into()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    fn start(&self) {
        if self.state().open_lane(self.max_lanes) {
            let lane = Lane { batcher: self.clone(), served: Vec::new(), is_late: false, has_run: false };
            self.tracker.spawn(lane.run());
        }
    }

    async fn answer(self, group: Vec<Waiting>) {
        let requests: Vec<_> = group.iter().map(|waiting| waiting.request.clone()).collect();
        let answers = match self.acquire(requests).await {
            Ok(answers) => answers,
            // The error does not tell which request caused it: each is repeated alone, which is safe for acquires.
            Err(error) if group.len() > 1 && !concerns_whole_database(&error) => group.iter().map(|_| None).collect(),
            Err(error) => {
                let error = Arc::new(error);
                for waiting in group {
                    let _ = waiting.reply.send(Err(Error::Store(Arc::clone(&error))));
                }
                return;
            }
        };
        let mut by_themselves = Vec::new();
        for (waiting, answer) in group.into_iter().zip(answers) {
            match answer {
                Some(answer) => drop(waiting.reply.send(Ok(answer))),
                None => by_themselves.push(waiting),
            }
        }
        for Waiting { request, reply } in by_themselves {
            let answer = self.acquire(vec![request]).await.and_then(|answers| {
                let answer = answers.into_iter().next().flatten();
                answer.ok_or_else(|| StoreError::Defect("an acquire has no answer".into()))
            });
            let _ = reply.send(answer.map_err(Error::from));
        }
    }

    async fn acquire(&self, requests: Vec<Acquire>) -> StoreResult<Vec<Option<Acquired>>> {
        let count = requests.len();
        // A panic becomes a defect, so that callers get an answer.
        let found = AssertUnwindSafe(async { (self.acquire_all)(requests).await }).catch_unwind().await;
        let found = found.unwrap_or_else(|_| Err(StoreError::Defect("an acquire panicked".into())))?;
        if found.len() == count {
            Ok(found)
        } else {
            Err(StoreError::Defect("a batch of acquires has a wrong number of answers".into()))
        }
    }
}

/// Whether the error concerns the database as a whole rather than one request of the batch.
fn concerns_whole_database(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::Damaged(_))
}

impl State {
    /// Counts one more transaction if the oldest waiting acquire may start now; false if it has to wait for a batch.
    fn open_lane(&mut self, max_lanes: usize) -> bool {
        let Some(first) = self.waiting.front() else { return false };
        let served = || first.request.worker_id.as_ref().is_some_and(|worker_id| self.served.contains(worker_id));
        let open = self.lanes < max_lanes && (self.on_time < LANES_BEFORE_BATCHING || served());
        self.lanes += usize::from(open);
        self.on_time += usize::from(open);
        open
    }

    /// Takes the next batch: the oldest waiting acquire, and later ones of other worker_ids that fit. An acquire whose
    /// worker_id is not known yet goes alone.
    fn group(&mut self) -> Vec<Waiting> {
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
}

/// Runs one batch in one transaction; dropping it starts the next batch.
struct Lane {
    batcher: AcquireBatcher,
    served: Vec<String>,
    is_late: bool,
    /// False if the runtime shut down before this lane ran. Starting a further lane would then only be dropped as well.
    has_run: bool,
}

impl Lane {
    async fn run(mut self) {
        // Lets tasks that are ready to call `acquire` join this batch.
        tokio::task::yield_now().await;
        let group = {
            let mut state = self.batcher.state();
            let group = state.group();
            self.served = group.iter().filter_map(|waiting| waiting.request.worker_id.clone()).collect();
            group
        };
        self.has_run = true;
        // Acquires that did not fit may start a transaction of their own.
        self.batcher.start();
        if group.is_empty() {
            return;
        }
        let mut answer = pin!(self.batcher.clone().answer(group));
        if timeout(LANE_TIMEOUT, &mut answer).await.is_err() {
            self.batcher.state().on_time -= 1;
            self.is_late = true;
            self.batcher.start();
            answer.await;
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        {
            let mut state = self.batcher.state();
            state.lanes -= 1;
            state.on_time -= usize::from(!self.is_late);
            for worker_id in &self.served {
                if let Some(at) = state.served.iter().position(|served| served == worker_id) {
                    state.served.swap_remove(at);
                }
            }
        }
        if self.has_run && Handle::try_current().is_ok() {
            self.batcher.start();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::{Semaphore, mpsc};
    use tokio::task::JoinHandle;
    use uuid::Uuid;

    use super::*;

    const MOST: usize = 4;

    /// A store whose acquires begin when they are called, and end when the test lets them.
    struct StoreStub {
        batcher: AcquireBatcher,
        begun: mpsc::UnboundedReceiver<Vec<String>>,
        go: Arc<Semaphore>,
    }

    fn request(worker_id: &str, max_jobs: u32) -> Acquire {
        let known = worker_id != "?";
        Acquire { session_id: Uuid::nil(), worker_id: known.then(|| worker_id.to_owned()), acquire_no: 1, max_jobs }
    }

    impl StoreStub {
        fn new() -> Self {
            let (begins, begun) = mpsc::unbounded_channel();
            let go = Arc::new(Semaphore::new(0));
            let free = Arc::clone(&go);
            let batcher = AcquireBatcher::new(MOST, &TaskTracker::new(), move |requests: Vec<Acquire>| {
                let (begins, free) = (begins.clone(), Arc::clone(&free));
                async move {
                    let names: Vec<_> =
                        requests.into_iter().map(|request| request.worker_id.unwrap_or("?".to_owned())).collect();
                    let _ = begins.send(names.clone());
                    free.acquire().await.unwrap().forget();
                    let has = |name| names.iter().any(|it| it == name);
                    match () {
                        () if has("panic") => panic!("panic"),
                        () if has("defect") => Err(StoreError::Defect("defect".into())),
                        () if has("gone") => Err(StoreError::Unavailable("gone".into())),
                        () => Ok(names.iter().map(|name| answer(name, names.len())).collect()),
                    }
                }
            });
            Self { batcher, begun, go }
        }

        fn call(&self, worker_id: &str) -> JoinHandle<Answer> {
            self.ask(request(worker_id, 1))
        }

        fn ask(&self, request: Acquire) -> JoinHandle<Answer> {
            let batcher = self.batcher.clone();
            tokio::spawn(async move { batcher.call(request).await })
        }

        /// The worker_ids of the next transaction.
        async fn next(&mut self) -> Vec<String> {
            self.begun.recv().await.unwrap()
        }

        /// Starts as many transactions as are needed for further acquires to wait for a batch.
        async fn busy(&mut self) -> [JoinHandle<Answer>; LANES_BEFORE_BATCHING] {
            let first = self.call("first");
            assert_eq!(self.next().await, ["first"]);
            let second = self.call("second");
            assert_eq!(self.next().await, ["second"]);
            [first, second]
        }

        async fn waiting(&self, count: usize) {
            while self.batcher.state().waiting.len() < count {
                tokio::task::yield_now().await;
            }
        }
    }

    fn answer(name: &str, asked: usize) -> Option<Acquired> {
        let alone_only = name == "locked" && asked > 1;
        let found = Acquired::Jobs { worker_id: name.to_owned(), jobs: Vec::new(), next_run_at_ms: Some(asked as i64) };
        (!alone_only).then_some(found)
    }

    /// worker_id of an answer, and the number of acquires in its batch.
    async fn answered(call: JoinHandle<Answer>) -> (String, i64) {
        match call.await.unwrap() {
            Ok(Acquired::Jobs { worker_id, next_run_at_ms, .. }) => (worker_id, next_run_at_ms.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_enough_is_under_way_goes_together() {
        let mut it = StoreStub::new();
        let [first, second] = it.busy().await;
        let others: Vec<_> = ["a", "b", "c"].map(|name| it.call(name)).into();
        it.waiting(3).await;
        it.go.add_permits(1);
        assert_eq!(it.next().await, ["a", "b", "c"]);
        it.go.add_permits(2);
        for (call, name, asked) in [(first, "first", 1), (second, "second", 1)] {
            assert_eq!(answered(call).await, (name.to_owned(), asked));
        }
        for (call, name) in others.into_iter().zip(["a", "b", "c"]) {
            assert_eq!(answered(call).await, (name.to_owned(), 3));
        }
        assert_eq!(it.batcher.state().lanes, 0);
        assert!(it.batcher.state().served.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_worker_id_has_transactions_beside_each_other_up_to_the_most() {
        let mut it = StoreStub::new();
        let calls: Vec<_> = (0..=MOST).map(|_| it.call("w")).collect();
        for _ in 0..MOST {
            assert_eq!(it.next().await, ["w"]);
        }
        it.waiting(1).await;
        assert!(it.begun.try_recv().is_err());
        it.go.add_permits(MOST + 1);
        for call in calls {
            assert_eq!(answered(call).await.1, 1);
        }
        assert_eq!(it.next().await, ["w"]);
    }

    #[tokio::test(start_paused = true)]
    async fn those_of_one_worker_id_and_of_unknown_ones_are_never_together() {
        let mut it = StoreStub::new();
        let mut calls: Vec<_> = it.busy().await.into();
        for (count, name) in (1..).zip(["a", "?", "a", "b", "?"]) {
            calls.push(it.call(name));
            it.waiting(count).await;
        }
        it.go.add_permits(10);
        let mut groups = Vec::new();
        for call in calls {
            call.await.unwrap().unwrap();
        }
        while let Ok(group) = it.begun.try_recv() {
            groups.push(group);
        }
        groups.sort();
        assert_eq!(groups, [vec!["?"], vec!["?"], vec!["a"], vec!["a", "b"]]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_group_is_bounded() {
        let mut it = StoreStub::new();
        let mut calls: Vec<_> = it.busy().await.into();
        for n in 0..=MAX_REQUESTS {
            calls.push(it.call(&format!("small{n}")));
            it.waiting(n + 1).await;
        }
        it.go.add_permits(1);
        assert_eq!(it.next().await.len(), MAX_REQUESTS);
        for (count, name) in (2..).zip(["large1", "large2"]) {
            calls.push(it.ask(request(name, MAX_JOBS)));
            it.waiting(count).await;
        }
        it.go.add_permits(10);
        assert_eq!(it.next().await, [format!("small{MAX_REQUESTS}")]);
        assert_eq!(it.next().await, ["large1"]);
        assert_eq!(it.next().await, ["large2"]);
        for call in calls {
            call.await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_with_one_is_not_the_others_trouble() {
        for bad in ["defect", "panic"] {
            let mut it = StoreStub::new();
            let busy = it.busy().await;
            let calls = ["a", bad, "b"].map(|name| it.call(name));
            it.waiting(3).await;
            it.go.add_permits(10);
            let [a, wrong, b] = calls;
            assert_eq!(answered(a).await, ("a".to_owned(), 1));
            assert_eq!(answered(b).await, ("b".to_owned(), 1));
            let error = wrong.await.unwrap().unwrap_err();
            assert!(matches!(&error, Error::Store(error) if matches!(**error, StoreError::Defect(_))), "{error}");
            for call in busy {
                call.await.unwrap().unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn one_that_has_to_wait_asks_by_itself_once_the_others_are_answered() {
        let mut it = StoreStub::new();
        let _busy = it.busy().await;
        let [locked, other] = ["locked", "other"].map(|name| it.call(name));
        it.waiting(2).await;
        it.go.add_permits(1);
        assert_eq!(it.next().await, ["locked", "other"]);
        it.go.add_permits(2);
        assert_eq!(answered(other).await, ("other".to_owned(), 2));
        assert_eq!(it.next().await, ["locked"]);
        it.go.add_permits(1);
        assert_eq!(answered(locked).await, ("locked".to_owned(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_gone_is_not_asked_by_each() {
        let mut it = StoreStub::new();
        let _busy = it.busy().await;
        let calls = ["a", "gone"].map(|name| it.call(name));
        it.waiting(2).await;
        it.go.add_permits(10);
        for call in calls {
            assert!(matches!(call.await.unwrap(), Err(Error::Store(error)) if concerns_whole_database(&error)));
        }
        assert_eq!(it.next().await, ["a", "gone"]);
        assert!(it.begun.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_gave_up_are_not_looked_for() {
        let mut it = StoreStub::new();
        let _busy = it.busy().await;
        let gone = it.call("gone away");
        it.waiting(1).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        let last = it.call("last");
        it.waiting(2).await;
        it.go.add_permits(10);
        assert_eq!(answered(last).await, ("last".to_owned(), 1));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_for_what_is_held_up() {
        let mut it = StoreStub::new();
        let busy = it.busy().await;
        let other = it.call("other");
        // The two that are under way end only after this one has begun.
        assert_eq!(it.next().await, ["other"]);
        it.go.add_permits(3);
        other.await.unwrap().unwrap();
        for call in busy {
            call.await.unwrap().unwrap();
        }
        let state = it.batcher.state();
        assert_eq!((state.lanes, state.on_time), (0, 0));
    }
}
