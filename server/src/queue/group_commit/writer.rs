//! The task that writes groups.

use std::{
    panic::AssertUnwindSafe,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{FutureExt as _, StreamExt as _, stream::FuturesUnordered};
use jobqueue_store::{StoreError, StoreResult};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use super::{
    group::{Group, Waiting, answer},
    limits::BatchLimits,
};

/// Number of items that wait and are in no group yet.
#[derive(Default)]
pub(super) struct Backlog {
    pub count: AtomicUsize,
    /// Notified when the count reaches [`BatchLimits::second_group_from`].
    pub much: Notify,
}

/// Task that writes groups through `flush`, at most two at once, until `closing` is cancelled and nothing waits.
pub(super) async fn run<T, R, F, Fut>(
    mut waiting: mpsc::Receiver<Waiting<T, R>>,
    backlog: Arc<Backlog>,
    caps: BatchLimits,
    closing: CancellationToken,
    flush: F,
) where
    F: Fn(Vec<T>) -> Fut + Send,
    Fut: Future<Output = StoreResult<Vec<R>>> + Send,
{
    let mut left_over = None;
    let mut closing = pin!(closing.cancelled());
    let mut open = true;
    let mut writes = FuturesUnordered::new();
    loop {
        let room = match writes.len() {
            0 => true,
            1 => backlog.count.load(Ordering::Relaxed) >= caps.second_group_from,
            _ => false,
        };
        let next = tokio::select! {
            biased;
            Some(()) = writes.next() => continue,
            left_over = async { left_over.take() }, if room && left_over.is_some() => left_over,
            () = &mut closing, if open => {
                open = false;
                waiting.close();
                continue;
            }
            next = waiting.recv(), if room => next,
            () = backlog.much.notified(), if !room && writes.len() == 1 => continue,
        };
        let Some(first) = next else { break };
        let mut group = Group::default();
        let mut taken = first.weight.count;
        group.add(first);
        // Lets tasks that are ready to call join this group: under load a larger group saves more than the first call
        // loses by waiting. On an idle server there are none.
        tokio::task::yield_now().await;
        while let Ok(call) = waiting.try_recv() {
            if group.weight.count + call.weight.count > caps.group.count
                || group.weight.bytes + call.weight.bytes > caps.group.bytes
            {
                left_over = Some(call);
                break;
            }
            taken += call.weight.count;
            group.add(call);
        }
        backlog.count.fetch_sub(taken, Ordering::Relaxed);
        if group.callers.is_empty() {
            continue;
        }
        // A panic must not end the task that everyone's writes go through.
        let write = AssertUnwindSafe(flush(group.items)).catch_unwind().map(|answers| {
            let answers = answers.unwrap_or_else(|_| Err(StoreError::Defect("a group's write panicked".into())));
            answer(group.callers, answers);
        });
        writes.push(write);
    }
    while writes.next().await.is_some() {}
}
