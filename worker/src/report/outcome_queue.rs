//! Queue of the outcomes that have not been delivered to the server.

use std::{collections::VecDeque, pin::pin};

use jobqueue_shared::{
    limits,
    proto::v1::{Settlement, settlement::Outcome},
};
use parking_lot::{Mutex, MutexGuard};
use prost::Message as _;
use tokio::sync::Notify;

/// Queue of outcomes to send. Each keeps the permit `P` of its job until it is sent, so that a worker takes no more
/// jobs than it can settle.
pub(crate) struct OutcomeQueue<P> {
    state: Mutex<State<P>>,
    arrived: Notify,
}

struct State<P> {
    waiting: VecDeque<(Settlement, Option<P>)>,
    /// Number of waiting outcomes at which callers of `take` are notified.
    wake_at: usize,
    closed: bool,
}

impl<P> Default for OutcomeQueue<P> {
    fn default() -> Self {
        let state = State { waiting: VecDeque::new(), wake_at: usize::MAX, closed: false };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }
}

impl<P> OutcomeQueue<P> {
    fn state(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock()
    }

    /// Adds the outcome of a lease.
    pub(crate) fn push(&self, lease_id: String, outcome: Outcome, permit: Option<P>) {
        let mut state = self.state();
        state.waiting.push_back((Settlement { lease_id, outcome: Some(outcome) }, permit));
        self.notify(state);
    }

    /// Closes the queue: no more outcomes will come.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_waiters();
    }

    /// Drops all outcomes, which no longer count.
    pub(crate) fn abandon(&self) {
        let abandoned = std::mem::take(&mut self.state().waiting);
        drop(abandoned);
    }

    /// Notifies the callers of `take` when enough outcomes wait for one of them.
    fn notify(&self, mut state: MutexGuard<'_, State<P>>) {
        if state.waiting.len() >= state.wake_at {
            state.wake_at = usize::MAX;
            drop(state);
            // Every caller is notified: too few outcomes for one may be enough for another.
            self.arrived.notify_waiters();
        }
    }

    /// Waits until at least `least` outcomes have come or the queue is closed. Removes and returns at most `most`, as
    /// many as fit into one request. `None` when the queue is closed and empty.
    pub(crate) async fn take(&self, least: usize, most: usize) -> Option<Vec<Settlement>> {
        loop {
            let mut arrived = pin!(self.arrived.notified());
            // Registered before the queue is checked, so that no notification is lost.
            arrived.as_mut().enable();
            {
                let mut state = self.state();
                let waiting = state.waiting.len();
                if waiting >= least || (state.closed && waiting > 0) {
                    let fits = fitting(state.waiting.iter().map(|(settlement, _)| settlement), most);
                    let (settlements, permits): (Vec<_>, Vec<_>) = state.waiting.drain(..fits).unzip();
                    drop(state);
                    drop(permits);
                    return Some(settlements);
                }
                if state.closed {
                    return None;
                }
                state.wake_at = state.wake_at.min(least);
            }
            arrived.await;
        }
    }

    /// Returns settlements that have to be sent again to the front of the queue. Their permits are gone.
    pub(crate) fn put_back(&self, settlements: Vec<Settlement>) {
        let mut state = self.state();
        settlements.into_iter().rev().for_each(|settlement| state.waiting.push_front((settlement, None)));
        self.notify(state);
    }
}

/// Number of settlements from the front that fit into one request; at least one.
fn fitting<'a>(waiting: impl Iterator<Item = &'a Settlement>, most: usize) -> usize {
    let mut bytes = 0;
    let fit = waiting.take(most).take_while(|settlement| {
        bytes += settlement.encoded_len() + 8;
        bytes < limits::REPLY_BYTES
    });
    fit.count().max(1)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use jobqueue_shared::proto::v1::settlement::Complete;

    use super::*;

    fn settlement(lease_id: &str, bytes: usize) -> Settlement {
        let complete = Complete { result_json: "x".repeat(bytes), note: String::new() };
        Settlement { lease_id: lease_id.to_owned(), outcome: Some(Outcome::Complete(complete)) }
    }

    #[test]
    fn a_request_stays_below_its_limit_but_always_moves_on() {
        let waiting: Vec<_> = (0..100).map(|n| settlement(&n.to_string(), limits::RESULT)).collect();
        let fits = fitting(waiting.iter(), 1_000);
        assert!((40..=48).contains(&fits), "{fits}");
        assert_eq!(fitting(waiting.iter(), 7), 7);
        assert_eq!(fitting([settlement("a", 10_000_000)].iter(), 1_000), 1);
    }

    #[tokio::test]
    async fn a_second_call_is_made_for_many_and_the_last_ones_are_not_forgotten() {
        let outcomes = OutcomeQueue::<()>::default();
        let push = |name: &str| outcomes.push(name.to_owned(), settlement("", 1).outcome.unwrap(), Some(()));
        let ids =
            |taken: Option<Vec<Settlement>>| taken.map(|it| it.into_iter().map(|it| it.lease_id).collect::<Vec<_>>());
        {
            let (mut few, mut many) = (pin!(outcomes.take(1, 10)), pin!(outcomes.take(2, 10)));
            assert!((&mut few).now_or_never().is_none() && (&mut many).now_or_never().is_none());
            push("a");
            assert!((&mut many).now_or_never().is_none());
            assert_eq!(ids(few.await).unwrap(), ["a"]);
            push("b");
            assert!((&mut many).now_or_never().is_none());
            push("c");
            assert_eq!(ids(many.await).unwrap(), ["b", "c"]);
        }
        outcomes.put_back(vec![settlement("b", 1), settlement("c", 1)]);
        push("d");
        assert_eq!(ids(outcomes.take(1, 2).await).unwrap(), ["b", "c"]);
        outcomes.close();
        assert_eq!(ids(outcomes.take(100, 2).await).unwrap(), ["d"]);
        assert_eq!(outcomes.take(1, 1).await, None);
    }

    #[tokio::test]
    async fn a_job_keeps_its_permit_until_its_outcome_is_sent_or_counts_no_more() {
        let (outcomes, permit) = (OutcomeQueue::default(), std::sync::Arc::new(()));
        let push = || outcomes.push("a".to_owned(), settlement("", 1).outcome.unwrap(), Some(permit.clone()));
        let taken = || std::sync::Arc::strong_count(&permit) - 1;
        push();
        assert_eq!(taken(), 1);
        let sent = outcomes.take(1, 1).await.unwrap();
        assert_eq!(taken(), 0);
        outcomes.put_back(sent);
        push();
        assert_eq!(taken(), 1, "what is sent again takes no permit");
        outcomes.abandon();
        assert_eq!((taken(), outcomes.state().waiting.len()), (0, 0));
    }
}
