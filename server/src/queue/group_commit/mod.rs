//! Group commit: calls that arrive while a write is under way are written together by the next one.
//!
//! There are no timers: a lone call is written at once, and groups grow with the load. A call is answered only after
//! its write has committed.

mod group;
pub(crate) mod limits;
mod writer;

use std::sync::{Arc, atomic::Ordering};

use jobqueue_store::StoreResult;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use self::{
    group::Waiting,
    limits::{BatchLimits, Weight},
    writer::Backlog,
};
use super::error::{Error, Result};

/// Handle for calls to one batching task.
pub(crate) struct Batcher<T, R> {
    queue: mpsc::Sender<Waiting<T, R>>,
    bytes: Arc<Semaphore>,
    backlog: Arc<Backlog>,
    second_group_from: usize,
}

/// Unit in which the semaphore counts bytes, so that any sum fits its 32-bit permits.
const BLOCK: usize = 1024;

impl<T: Send + 'static, R: Send + 'static> Batcher<T, R> {
    /// Starts the task that writes groups through `flush`, which must return one answer an item, in order. When
    /// `closing` is cancelled, the task writes the calls that wait, and ends.
    pub(crate) fn spawn<F, Fut>(caps: BatchLimits, tracker: &TaskTracker, closing: CancellationToken, flush: F) -> Self
    where
        F: Fn(Vec<T>) -> Fut + Send + 'static,
        Fut: Future<Output = StoreResult<Vec<R>>> + Send + 'static,
    {
        let (queue, waiting) = mpsc::channel(caps.waiting.count);
        let backlog = Arc::<Backlog>::default();
        tracker.spawn(writer::run(waiting, Arc::clone(&backlog), caps, closing, flush));
        let bytes = Arc::new(Semaphore::new(caps.waiting.bytes.div_ceil(BLOCK)));
        Self { queue, bytes, backlog, second_group_from: caps.second_group_from }
    }

    /// Writes items and answers after the commit, one answer an item, in order. `Busy` when the waiting calls are at
    /// their limit.
    pub(crate) async fn call(&self, items: Vec<T>, weight: Weight) -> Result<Vec<R>> {
        let blocks = u32::try_from(weight.bytes.div_ceil(BLOCK)).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.bytes).try_acquire_many_owned(blocks).map_err(|_| Error::Busy)?;
        let (reply, answer) = oneshot::channel();
        let backlog = self.backlog.count.fetch_add(weight.count, Ordering::Relaxed) + weight.count;
        self.queue.try_send(Waiting { items, weight, reply, held: permit }).map_err(|error| {
            self.backlog.count.fetch_sub(weight.count, Ordering::Relaxed);
            match error {
                mpsc::error::TrySendError::Full(_) => Error::Busy,
                mpsc::error::TrySendError::Closed(_) => Error::Draining,
            }
        })?;
        if backlog >= self.second_group_from {
            self.backlog.much.notify_one();
        }
        answer.await.unwrap_or(Err(Error::Draining))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use jobqueue_store::StoreError;
    use tokio::sync::Notify;

    use super::*;

    /// Limits with room for more blocks of bytes than calls.
    const CAPS: BatchLimits = BatchLimits {
        group: Weight { count: 10, bytes: 1_000 },
        waiting: Weight { count: 100, bytes: 200 * BLOCK },
        second_group_from: usize::MAX,
    };

    fn weight(count: usize) -> Weight {
        Weight { count, bytes: count }
    }

    /// A store that doubles numbers, takes one permit of `go` for each group, and records the groups.
    struct Doubler {
        batcher: Arc<Batcher<u32, u32>>,
        go: Arc<Semaphore>,
        began: Arc<Notify>,
        groups: Arc<Mutex<Vec<Vec<u32>>>>,
        tracker: TaskTracker,
        closing: CancellationToken,
    }

    impl Doubler {
        fn new() -> Self {
            Self::with(CAPS)
        }

        fn with(caps: BatchLimits) -> Self {
            let (go, began, groups) = (Arc::new(Semaphore::new(0)), Arc::new(Notify::new()), Arc::default());
            let (tracker, closing) = (TaskTracker::new(), CancellationToken::new());
            let flush = {
                let (go, began, groups) = (Arc::clone(&go), Arc::clone(&began), Arc::clone(&groups));
                move |items: Vec<u32>| {
                    let (go, began, groups) = (Arc::clone(&go), Arc::clone(&began), Arc::clone(&groups));
                    async move {
                        let groups: Arc<Mutex<Vec<Vec<u32>>>> = groups;
                        groups.lock().unwrap().push(items.clone());
                        began.notify_one();
                        go.acquire().await.unwrap().forget();
                        match items.first() {
                            Some(13) => Err(StoreError::Unavailable("13".into())),
                            Some(14) => panic!("14"),
                            Some(15) => Ok(Vec::new()),
                            _ => Ok(items.iter().map(|n| n * 2).collect()),
                        }
                    }
                }
            };
            let batcher = Arc::new(Batcher::spawn(caps, &tracker, closing.clone(), flush));
            Self { batcher, go, began, groups, tracker, closing }
        }

        fn call(&self, items: Vec<u32>) -> tokio::task::JoinHandle<Result<Vec<u32>>> {
            let batcher = Arc::clone(&self.batcher);
            let weight = weight(items.len());
            tokio::spawn(async move { batcher.call(items, weight).await })
        }

        /// Waits until `count` calls wait in the queue.
        async fn queued(&self, count: usize) {
            while self.batcher.queue.max_capacity() - self.batcher.queue.capacity() < count {
                tokio::task::yield_now().await;
            }
        }
    }

    #[tokio::test]
    async fn what_arrives_during_a_write_goes_into_the_next() {
        let it = Doubler::new();
        let first = it.call(vec![1]);
        it.began.notified().await;
        let others = [it.call(vec![2, 3]), it.call(vec![4]), it.call(vec![5])];
        it.queued(3).await;
        it.go.add_permits(2);
        assert_eq!(first.await.unwrap().unwrap(), [2]);
        let mut answers = Vec::new();
        for other in others {
            answers.push(other.await.unwrap().unwrap());
        }
        assert_eq!(answers, [vec![4, 6], vec![8], vec![10]]);
        assert_eq!(*it.groups.lock().unwrap(), [vec![1], vec![2, 3, 4, 5]]);
    }

    /// The second call's task is ready but has not run, as that of a request that has been read from its connection.
    #[tokio::test]
    async fn a_call_that_is_about_to_come_belongs_to_the_group() {
        let it = Doubler::new();
        it.go.add_permits(2);
        let first = it.batcher.call(vec![1], weight(1));
        // The first call has been put into the queue when the second one's task is made.
        let (first, second) = tokio::join!(first, async { it.call(vec![2]).await.unwrap() });
        assert_eq!((first.unwrap(), second.unwrap()), (vec![2], vec![4]));
        assert_eq!(*it.groups.lock().unwrap(), [vec![1, 2]]);
    }

    #[tokio::test]
    async fn what_is_much_goes_beside_the_first_group_and_no_third_one_does() {
        let it = Doubler::with(BatchLimits { second_group_from: 5, ..CAPS });
        let first = it.call(vec![1]);
        it.began.notified().await;
        let little = it.call(vec![2; 4]);
        it.queued(1).await;
        assert_eq!(it.groups.lock().unwrap().len(), 1, "it is not worth a group of its own");
        let more = it.call(vec![3]);
        it.began.notified().await;
        let third = it.call(vec![4; 10]);
        it.queued(1).await;
        assert_eq!(*it.groups.lock().unwrap(), [vec![1], vec![2, 2, 2, 2, 3]]);
        it.go.add_permits(3);
        for (call, answer) in [(first, vec![2]), (little, vec![4; 4]), (more, vec![6]), (third, vec![8; 10])] {
            assert_eq!(call.await.unwrap().unwrap(), answer);
        }
    }

    #[tokio::test]
    async fn groups_end_at_their_cap_and_lose_nothing() {
        let it = Doubler::new();
        let first = it.call(vec![1]);
        it.began.notified().await;
        let calls: Vec<_> = (0..4).map(|_| it.call(vec![7; 6])).collect();
        it.queued(4).await;
        it.go.add_permits(10);
        first.await.unwrap().unwrap();
        for call in calls {
            assert_eq!(call.await.unwrap().unwrap(), [14; 6]);
        }
        assert_eq!(it.groups.lock().unwrap().iter().map(Vec::len).collect::<Vec<_>>(), [1, 6, 6, 6, 6]);
    }

    #[tokio::test]
    async fn a_failed_write_answers_everyone_in_it_and_the_next_one_works() {
        let it = Doubler::new();
        it.go.add_permits(10);
        for bad in [13, 14, 15] {
            assert!(matches!(it.call(vec![bad]).await.unwrap(), Err(Error::Store(_))), "{bad}");
        }
        assert_eq!(it.call(vec![1]).await.unwrap().unwrap(), [2]);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once() {
        let it = Doubler::new();
        let _first = it.call(vec![1]);
        it.began.notified().await;
        let heavy = Weight { count: 1, bytes: CAPS.waiting.bytes };
        assert!(matches!(it.batcher.call(vec![2], heavy).await, Err(Error::Busy)));
        let _waiting: Vec<_> = (0..CAPS.waiting.count).map(|n| it.call(vec![n as u32])).collect();
        it.queued(CAPS.waiting.count).await;
        assert!(matches!(it.call(vec![3]).await.unwrap(), Err(Error::Busy)));
    }

    #[tokio::test]
    async fn callers_that_gave_up_are_not_written() {
        let it = Doubler::new();
        let first = it.call(vec![1]);
        it.began.notified().await;
        let gone = it.call(vec![2]);
        it.queued(1).await;
        gone.abort();
        assert!(gone.await.unwrap_err().is_cancelled());
        let last = it.call(vec![3]);
        it.queued(2).await;
        it.go.add_permits(10);
        first.await.unwrap().unwrap();
        last.await.unwrap().unwrap();
        assert_eq!(*it.groups.lock().unwrap(), [vec![1], vec![3]]);
    }

    #[tokio::test]
    async fn closing_writes_what_waits_and_refuses_what_comes() {
        let it = Doubler::new();
        let first = it.call(vec![1]);
        it.began.notified().await;
        let second = it.call(vec![2]);
        it.queued(1).await;
        it.closing.cancel();
        it.go.add_permits(10);
        assert_eq!(first.await.unwrap().unwrap(), [2]);
        assert_eq!(second.await.unwrap().unwrap(), [4]);
        it.tracker.close();
        it.tracker.wait().await;
        assert!(matches!(it.call(vec![3]).await.unwrap(), Err(Error::Draining)));
    }
}
