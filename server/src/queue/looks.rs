//! Looks for jobs that come while others are under way go into one transaction, each for another worker_id: with many
//! worker_ids a transaction of its own is most of what a look costs.

use std::{
    collections::{HashSet, VecDeque},
    mem,
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use tokio::{runtime::Handle, sync::oneshot, time::timeout};
use tokio_util::task::TaskTracker;

use super::error::{Error, Result};
use crate::store::{Acquire, Acquired, StoreError, StoreResult};

/// So many transactions are under way before others wait to go together. Those of a worker_id that one of them serves
/// already cannot join it, and do not wait: one worker alone keeps three busy.
const TOGETHER: usize = 2;
/// One that takes longer is held up by something, and nobody waits for it any more.
const HELD_UP: Duration = Duration::from_millis(100);
/// In one transaction: more would make each wait for all.
const REQUESTS: usize = 32;
/// Asked for in one transaction, by all but the first.
const JOBS: u32 = 2_000;

type Answer = Result<Acquired>;

/// What looks in the store: one answer a request, in order.
type Look = dyn Fn(Vec<Acquire>) -> BoxFuture<'static, StoreResult<Vec<Option<Acquired>>>> + Send + Sync;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Looks {
    state: Arc<Mutex<State>>,
    /// Idle workers must not take every connection from those who submit and settle.
    most: usize,
    tracker: TaskTracker,
    look: Arc<Look>,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Waiting>,
    /// Transactions under way, or about to be.
    lanes: usize,
    /// Those of them that others may have to wait for.
    on_time: usize,
    /// Those that they serve; a worker_id may be there more than once.
    served: Vec<String>,
}

struct Waiting {
    request: Acquire,
    reply: oneshot::Sender<Answer>,
}

impl Looks {
    pub(super) fn new<F, Fut>(most: usize, tracker: &TaskTracker, look: F) -> Self
    where
        F: Fn(Vec<Acquire>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StoreResult<Vec<Option<Acquired>>>> + Send + 'static,
    {
        let look: Arc<Look> = Arc::new(move |requests| look(requests).boxed());
        Self { state: Arc::default(), most: most.max(1), tracker: tracker.clone(), look }
    }

    /// A caller that gives up is not looked for, unless its look has begun: what that finds, the same request finds again.
    pub(super) async fn call(&self, request: Acquire) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.state().waiting.push_back(Waiting { request, reply });
        self.start();
        answer.await.unwrap_or_else(|_| Err(StoreError::Defect("a look for jobs was not answered".into()).into()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start(&self) {
        if self.state().open_lane(self.most) {
            let lane = Lane { looks: self.clone(), served: Vec::new(), is_late: false, has_run: false };
            self.tracker.spawn(lane.run());
        }
    }

    async fn answer(self, group: Vec<Waiting>) {
        let requests: Vec<_> = group.iter().map(|waiting| waiting.request.clone()).collect();
        let answers = match self.look(requests).await {
            Ok(answers) => answers,
            // Whose error it is does not show; those that had got jobs get the same again.
            Err(error) if group.len() > 1 && !is_of_all(&error) => group.iter().map(|_| None).collect(),
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
            let answer = self.look(vec![request]).await.and_then(|answers| {
                let answer = answers.into_iter().next().flatten();
                answer.ok_or_else(|| StoreError::Defect("a look for jobs has no answer".into()))
            });
            let _ = reply.send(answer.map_err(Error::from));
        }
    }

    async fn look(&self, requests: Vec<Acquire>) -> StoreResult<Vec<Option<Acquired>>> {
        let count = requests.len();
        // A panic is answered like any defect.
        let found = AssertUnwindSafe(async { (self.look)(requests).await }).catch_unwind().await;
        let found = found.unwrap_or_else(|_| Err(StoreError::Defect("a look for jobs panicked".into())))?;
        if found.len() == count {
            Ok(found)
        } else {
            Err(StoreError::Defect("looks were not answered one by one".into()))
        }
    }
}

/// It says nothing of any one of them.
fn is_of_all(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::Damaged(_))
}

impl State {
    /// Takes a place for one more transaction, if whoever waits longest is not to wait for one under way.
    fn open_lane(&mut self, most: usize) -> bool {
        let Some(first) = self.waiting.front() else { return false };
        let served = || first.request.worker_id.as_ref().is_some_and(|worker_id| self.served.contains(worker_id));
        let open = self.lanes < most && (self.on_time < TOGETHER || served());
        self.lanes += usize::from(open);
        self.on_time += usize::from(open);
        open
    }

    /// Whoever waits longest, and others behind it that fit; all of different worker_ids, and none that is not known.
    fn group(&mut self) -> Vec<Waiting> {
        self.waiting.retain(|waiting| !waiting.reply.is_closed());
        let Some(first) = self.waiting.pop_front() else { return Vec::new() };
        let Some(worker_id) = first.request.worker_id.clone() else { return vec![first] };
        let (mut jobs, mut worker_ids) = (first.request.max_jobs, HashSet::from([worker_id]));
        let (mut group, mut others) = (vec![first], VecDeque::new());
        for waiting in mem::take(&mut self.waiting) {
            let request = &waiting.request;
            let fits = group.len() < REQUESTS && jobs.saturating_add(request.max_jobs) <= JOBS;
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

/// A transaction for a group. When it ends, whoever has come meanwhile gets one.
struct Lane {
    looks: Looks,
    served: Vec<String>,
    is_late: bool,
    /// A runtime that ends drops what it has not run, and would the next one, too.
    has_run: bool,
}

impl Lane {
    async fn run(mut self) {
        // Calls that have come and are not read yet belong to this group, as with writes.
        tokio::task::yield_now().await;
        let group = {
            let mut state = self.looks.state();
            let group = state.group();
            self.served = group.iter().filter_map(|waiting| waiting.request.worker_id.clone()).collect();
            group
        };
        self.has_run = true;
        // Some were left behind that need not wait for these.
        self.looks.start();
        if group.is_empty() {
            return;
        }
        let mut answer = pin!(self.looks.clone().answer(group));
        if timeout(HELD_UP, &mut answer).await.is_err() {
            self.looks.state().on_time -= 1;
            self.is_late = true;
            self.looks.start();
            answer.await;
        }
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        {
            let mut state = self.looks.state();
            state.lanes -= 1;
            state.on_time -= usize::from(!self.is_late);
            for worker_id in &self.served {
                if let Some(at) = state.served.iter().position(|served| served == worker_id) {
                    state.served.swap_remove(at);
                }
            }
        }
        if self.has_run && Handle::try_current().is_ok() {
            self.looks.start();
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

    /// A store whose looks begin when they are asked for, and end when they are let go.
    struct Bed {
        looks: Looks,
        begun: mpsc::UnboundedReceiver<Vec<String>>,
        go: Arc<Semaphore>,
    }

    fn request(worker_id: &str, max_jobs: u32) -> Acquire {
        let known = worker_id != "?";
        Acquire { session_id: Uuid::nil(), worker_id: known.then(|| worker_id.to_owned()), acquire_no: 1, max_jobs }
    }

    impl Bed {
        fn new() -> Self {
            let (begins, begun) = mpsc::unbounded_channel();
            let go = Arc::new(Semaphore::new(0));
            let free = Arc::clone(&go);
            let looks = Looks::new(MOST, &TaskTracker::new(), move |requests: Vec<Acquire>| {
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
            Self { looks, begun, go }
        }

        fn call(&self, worker_id: &str) -> JoinHandle<Answer> {
            self.ask(request(worker_id, 1))
        }

        fn ask(&self, request: Acquire) -> JoinHandle<Answer> {
            let looks = self.looks.clone();
            tokio::spawn(async move { looks.call(request).await })
        }

        /// The worker_ids of the next transaction.
        async fn next(&mut self) -> Vec<String> {
            self.begun.recv().await.unwrap()
        }

        /// As many under way as there are to wait for.
        async fn busy(&mut self) -> [JoinHandle<Answer>; TOGETHER] {
            let first = self.call("first");
            assert_eq!(self.next().await, ["first"]);
            let second = self.call("second");
            assert_eq!(self.next().await, ["second"]);
            [first, second]
        }

        async fn waiting(&self, count: usize) {
            while self.looks.state().waiting.len() < count {
                tokio::task::yield_now().await;
            }
        }
    }

    fn answer(name: &str, asked: usize) -> Option<Acquired> {
        let alone_only = name == "locked" && asked > 1;
        let found = Acquired::Jobs { worker_id: name.to_owned(), jobs: Vec::new(), next_run_at_ms: Some(asked as i64) };
        (!alone_only).then_some(found)
    }

    /// Whom it is for, and how many were asked for with it.
    async fn answered(call: JoinHandle<Answer>) -> (String, i64) {
        match call.await.unwrap() {
            Ok(Acquired::Jobs { worker_id, next_run_at_ms, .. }) => (worker_id, next_run_at_ms.unwrap()),
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_enough_is_under_way_goes_together() {
        let mut it = Bed::new();
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
        assert_eq!(it.looks.state().lanes, 0);
        assert!(it.looks.state().served.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn one_worker_id_has_transactions_beside_each_other_up_to_the_most() {
        let mut it = Bed::new();
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
        let mut it = Bed::new();
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
        let mut it = Bed::new();
        let mut calls: Vec<_> = it.busy().await.into();
        for n in 0..=REQUESTS {
            calls.push(it.call(&format!("small{n}")));
            it.waiting(n + 1).await;
        }
        it.go.add_permits(1);
        assert_eq!(it.next().await.len(), REQUESTS);
        for (count, name) in (2..).zip(["large1", "large2"]) {
            calls.push(it.ask(request(name, JOBS)));
            it.waiting(count).await;
        }
        it.go.add_permits(10);
        assert_eq!(it.next().await, [format!("small{REQUESTS}")]);
        assert_eq!(it.next().await, ["large1"]);
        assert_eq!(it.next().await, ["large2"]);
        for call in calls {
            call.await.unwrap().unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_wrong_with_one_is_not_the_others_trouble() {
        for bad in ["defect", "panic"] {
            let mut it = Bed::new();
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
        let mut it = Bed::new();
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
        let mut it = Bed::new();
        let _busy = it.busy().await;
        let calls = ["a", "gone"].map(|name| it.call(name));
        it.waiting(2).await;
        it.go.add_permits(10);
        for call in calls {
            assert!(matches!(call.await.unwrap(), Err(Error::Store(error)) if is_of_all(&error)));
        }
        assert_eq!(it.next().await, ["a", "gone"]);
        assert!(it.begun.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn callers_that_gave_up_are_not_looked_for() {
        let mut it = Bed::new();
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
        let mut it = Bed::new();
        let busy = it.busy().await;
        let other = it.call("other");
        // The two that are under way end only after this one has begun.
        assert_eq!(it.next().await, ["other"]);
        it.go.add_permits(3);
        other.await.unwrap().unwrap();
        for call in busy {
            call.await.unwrap().unwrap();
        }
        let state = it.looks.state();
        assert_eq!((state.lanes, state.on_time), (0, 0));
    }
}
