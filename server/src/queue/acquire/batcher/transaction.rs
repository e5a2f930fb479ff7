//! One transaction of the acquire batcher: it answers each acquire of a batch.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures::{FutureExt as _, future::BoxFuture};
use jobqueue_store::{Acquire, Acquired, StoreError, StoreResult};

use super::lanes::Waiting;
use crate::queue::error::Error;

/// Function that runs one transaction: one answer a request, in order.
type AcquireAll = dyn Fn(Vec<Acquire>) -> BoxFuture<'static, StoreResult<Vec<Option<Acquired>>>> + Send + Sync;

/// Runs transactions, and acquires alone what could not be acquired in a batch.
#[derive(Clone)]
pub(super) struct Transaction(Arc<AcquireAll>);

impl Transaction {
    pub(super) fn new<F, Fut>(acquire_all: F) -> Self
    where
        F: Fn(Vec<Acquire>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = StoreResult<Vec<Option<Acquired>>>> + Send + 'static,
    {
        Self(Arc::new(move |requests| acquire_all(requests).boxed()))
    }

    /// Answers all acquires of a batch.
    pub(super) async fn answer(&self, group: Vec<Waiting>) {
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
        let found = AssertUnwindSafe(async { (self.0)(requests).await }).catch_unwind().await;
        let found = found.unwrap_or_else(|_| Err(StoreError::Defect("an acquire panicked".into())))?;
        if found.len() == count {
            Ok(found)
        } else {
            Err(StoreError::Defect("a batch of acquires has a wrong number of answers".into()))
        }
    }
}

/// Whether the error concerns the database as a whole rather than one request of the batch.
pub(super) fn concerns_whole_database(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::Damaged(_))
}
