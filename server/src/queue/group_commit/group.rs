//! A group of calls: collected before its write, answered after it.

use std::sync::Arc;

use jobqueue_store::{StoreError, StoreResult};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::limits::Weight;
use crate::queue::error::{Error, Result};

/// A call that waits for its group.
pub(super) struct Waiting<T, R> {
    pub items: Vec<T>,
    pub weight: Weight,
    pub reply: oneshot::Sender<Result<Vec<R>>>,
    /// The call's share of the byte limit, released when the call has been answered.
    pub held: OwnedSemaphorePermit,
}

/// Calls that one write stores.
pub(super) struct Group<T, R> {
    pub items: Vec<T>,
    pub callers: Vec<Caller<R>>,
    pub weight: Weight,
}

/// Caller of some of a group's items.
pub(super) struct Caller<R> {
    items: usize,
    reply: oneshot::Sender<Result<Vec<R>>>,
    held: OwnedSemaphorePermit,
}

impl<T, R> Default for Group<T, R> {
    fn default() -> Self {
        Self { items: Vec::new(), callers: Vec::new(), weight: Weight::default() }
    }
}

impl<T, R> Group<T, R> {
    pub(super) fn add(&mut self, call: Waiting<T, R>) {
        // The caller gave up, by deadline or by disconnecting. Under overload, leaving these out saves most of the
        // work.
        if call.reply.is_closed() {
            return;
        }
        self.weight.count += call.weight.count;
        self.weight.bytes += call.weight.bytes;
        self.callers.push(Caller { items: call.items.len(), reply: call.reply, held: call.held });
        self.items.extend(call.items);
    }
}

/// Answers the callers of a group that was written.
pub(super) fn answer<R>(callers: Vec<Caller<R>>, answers: StoreResult<Vec<R>>) {
    let expected: usize = callers.iter().map(|caller| caller.items).sum();
    let answers = answers.and_then(|answers| {
        let got = answers.len();
        (got == expected)
            .then_some(answers)
            .ok_or_else(|| StoreError::Defect(format!("{got} answers to {expected} items")))
    });
    match answers {
        Ok(answers) => {
            let mut answers = answers.into_iter();
            for Caller { items, reply, held } in callers {
                let _ = reply.send(Ok(answers.by_ref().take(items).collect()));
                drop(held);
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for caller in callers {
                let _ = caller.reply.send(Err(Error::Store(Arc::clone(&error))));
            }
        }
    }
}
