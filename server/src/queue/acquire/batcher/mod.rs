//! Batches concurrent acquires of different worker_ids into one transaction.
//!
//! With many worker_ids, an acquire's transaction costs more than its statements. A batch holds at most one acquire of
//! each worker_id, so that no session waits for jobs that another one of the same batch is taking.
//!
//! `lanes` decides when a transaction starts and which acquires go together; `transaction` answers them.

mod lanes;
mod transaction;

use std::{pin::pin, sync::Arc};

use jobqueue_store::{Acquire, Acquired, StoreError, StoreResult};
use parking_lot::{Mutex, MutexGuard};
use tokio::{runtime::Handle, sync::oneshot, time::timeout};
use tokio_util::task::TaskTracker;

use self::{
    lanes::{Answer, LANE_TIMEOUT, Lanes, Waiting},
    transaction::Transaction,
};

/// Runs acquires, alone or in batches. Clones share the waiting acquires.
#[derive(Clone)]
pub(crate) struct AcquireBatcher {
    lanes: Arc<Mutex<Lanes>>,
    /// Maximum number of transactions at once, so that polls of idle workers leave connections for submits and settles.
    max_lanes: usize,
    tracker: TaskTracker,
    transaction: Transaction,
}

impl AcquireBatcher {
    pub(crate) fn new<F, Fut>(max_lanes: usize, tracker: &TaskTracker, acquire_all: F) -> Self
    where
        F: Fn(Vec<Acquire>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StoreResult<Vec<Option<Acquired>>>> + Send + 'static,
    {
        let transaction = Transaction::new(acquire_all);
        Self { lanes: Arc::default(), max_lanes: max_lanes.max(1), tracker: tracker.clone(), transaction }
    }

    /// Acquires jobs. If the caller is dropped before its transaction begins, none is run for it; afterwards the jobs
    /// stay claimed under the request's acquire_no, and repeating the request gives them again.
    pub(crate) async fn call(&self, request: Acquire) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.lanes().waiting.push_back(Waiting { request, reply });
        self.start();
        answer.await.unwrap_or_else(|_| Err(StoreError::Defect("an acquire was not answered".into()).into()))
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock()
    }

    fn start(&self) {
        if self.lanes().open_lane(self.max_lanes) {
            let lane = Lane { batcher: self.clone(), served: Vec::new(), is_late: false, has_run: false };
            self.tracker.spawn(lane.run());
        }
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
            let mut lanes = self.batcher.lanes();
            let group = lanes.group();
            self.served = group.iter().filter_map(|waiting| waiting.request.worker_id.clone()).collect();
            group
        };
        self.has_run = true;
        // Acquires that did not fit may start a transaction of their own.
        self.batcher.start();
        if group.is_empty() {
            return;
        }
        let mut answer = pin!(self.batcher.transaction.answer(group));
        if timeout(LANE_TIMEOUT, &mut answer).await.is_err() {
            self.batcher.lanes().late();
            self.is_late = true;
            self.batcher.start();
            answer.await;
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.batcher.lanes().close_lane(&self.served, self.is_late);
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

    use super::{
        lanes::{LANES_BEFORE_BATCHING, MAX_JOBS, MAX_REQUESTS},
        transaction::concerns_whole_database,
        *,
    };
    use crate::queue::error::Error;

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
            while self.batcher.lanes().waiting.len() < count {
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
        assert_eq!(it.batcher.lanes().open, 0);
        assert!(it.batcher.lanes().served.is_empty());
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
        let lanes = it.batcher.lanes();
        assert_eq!((lanes.open, lanes.on_time), (0, 0));
    }
}
