//! Delivery of outcomes to the server, many in one call, until each is acknowledged.

use std::{collections::VecDeque, pin::pin};

use jobqueue_shared::limits;
use parking_lot::{Mutex, MutexGuard};
use prost::Message as _;
use tokio::sync::Notify;
use tonic::{Code, Status};

use crate::{
    backoff::Backoff,
    proto::{
        SettleJobsRequest, SettleResult, Settlement,
        settlement::{Fail, Outcome},
    },
    runner::Core,
    session::{self, Session},
};

/// Minimum number of waiting outcomes for a second call beside the first.
const MANY: usize = 100;

/// Queue of outcomes to send. Each keeps `P`, the permit of its job, until it is sent, so that a worker takes no more
/// jobs than it can settle.
pub(crate) struct Outcomes<P> {
    state: Mutex<State<P>>,
    arrived: Notify,
}

struct State<P> {
    waiting: VecDeque<(Settlement, Option<P>)>,
    /// Number of waiting outcomes at which callers of `take` are notified.
    wanted: usize,
    closed: bool,
}

impl<P> Default for Outcomes<P> {
    fn default() -> Self {
        let state = State { waiting: VecDeque::new(), wanted: usize::MAX, closed: false };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }
}

impl<P> Outcomes<P> {
    fn state(&self) -> MutexGuard<'_, State<P>> {
        self.state.lock()
    }

    pub(crate) fn push(&self, lease_id: String, outcome: Outcome, place: Option<P>) {
        let mut state = self.state();
        state.waiting.push_back((Settlement { lease_id, outcome: Some(outcome) }, place));
        self.tell(state);
    }

    /// Closes the queue: no more outcomes will come.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.arrived.notify_waiters();
    }

    /// Drops all outcomes, which no longer count.
    fn abandon(&self) {
        let abandoned = std::mem::take(&mut self.state().waiting);
        drop(abandoned);
    }

    fn tell(&self, mut state: MutexGuard<'_, State<P>>) {
        if state.waiting.len() >= state.wanted {
            state.wanted = usize::MAX;
            drop(state);
            // Every caller is notified: too few outcomes for one may be enough for another.
            self.arrived.notify_waiters();
        }
    }

    /// Waits for `least` outcomes, or for fewer once the queue is closed; returns at most `most` that fit into one
    /// request. `None` when the queue is closed and empty.
    async fn take(&self, least: usize, most: usize) -> Option<Vec<Settlement>> {
        loop {
            let mut arrived = pin!(self.arrived.notified());
            // Registered before the queue is checked, so that no notification is lost.
            arrived.as_mut().enable();
            {
                let mut state = self.state();
                let waiting = state.waiting.len();
                if waiting >= least || (state.closed && waiting > 0) {
                    let fits = fitting(state.waiting.iter().map(|(settlement, _)| settlement), most);
                    let (settlements, places): (Vec<_>, Vec<_>) = state.waiting.drain(..fits).unzip();
                    drop(state);
                    drop(places);
                    return Some(settlements);
                }
                if state.closed {
                    return None;
                }
                state.wanted = state.wanted.min(least);
            }
            arrived.await;
        }
    }

    fn put_back(&self, settlements: Vec<Settlement>) {
        let mut state = self.state();
        settlements.into_iter().rev().for_each(|settlement| state.waiting.push_front((settlement, None)));
        self.tell(state);
    }
}

/// Delivers outcomes until the queue is closed and all of them are acknowledged, or the session has ended. Two calls
/// are under way when many outcomes wait: while one is on its way, the next is written.
pub(crate) async fn run<P>(core: &Core, session: &Session, outcomes: &Outcomes<P>) {
    tokio::select! {
        // The permits are released now, and not when the last handler has ended.
        () = session.ended.cancelled() => outcomes.abandon(),
        _ = async { tokio::join!(deliver(core, session, outcomes, 1), deliver(core, session, outcomes, MANY)) } => {}
    }
}

async fn deliver<P>(core: &Core, session: &Session, outcomes: &Outcomes<P>, least: usize) {
    let mut most = limits::SETTLEMENTS;
    let mut pauses = Backoff::for_lease(session.lease_time);
    while let Some(sent) = outcomes.take(least, most).await {
        session.wait_until_kept().await;
        let request = SettleJobsRequest { session_id: session.id.clone(), settlements: sent.clone() };
        let (again, pause) = match core.settle_jobs(request).await {
            Ok(reply) => {
                most = limits::SETTLEMENTS;
                unsettled(sent, reply.results)
            }
            Err(status) if session::is_over(&status) => {
                session.ended.cancel();
                return;
            }
            Err(status) if is_about_the_request(&status) && sent.len() > 1 => {
                most = sent.len() / 2;
                (sent, false)
            }
            Err(status) if is_about_the_request(&status) => {
                most = limits::SETTLEMENTS;
                (sent.into_iter().filter_map(|settlement| instead(settlement, status.message())).collect(), false)
            }
            Err(_) => (sent, true),
        };
        outcomes.put_back(again);
        if pause {
            tokio::time::sleep(pauses.next()).await;
        } else {
            pauses.reset();
        }
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

/// Settlements that have to be sent again, and whether to pause before that.
fn unsettled(sent: Vec<Settlement>, results: Vec<SettleResult>) -> (Vec<Settlement>, bool) {
    let mut results = results.into_iter();
    let (mut again, mut pause) = (Vec::new(), false);
    for settlement in sent {
        match results.next().map(|result| (Code::from(result.code), result.message)) {
            Some((Code::Ok, _)) => {}
            Some((Code::FailedPrecondition, _)) => {
                tracing::info!(
                    lease_id = settlement.lease_id,
                    "an outcome came too late, its lease is no longer valid"
                );
            }
            Some((Code::InvalidArgument, message)) => again.extend(instead(settlement, &message)),
            Some(_) | None => {
                pause = true;
                again.push(settlement);
            }
        }
    }
    (again, pause)
}

/// Replaces a settlement that the server calls malformed by a failure of the attempt; otherwise its job would stay
/// running for as long as the session lives. `None` when the failure is malformed, too.
fn instead(settlement: Settlement, message: &str) -> Option<Settlement> {
    const SAYS: &str = "the server refused the outcome: ";
    tracing::warn!(lease_id = settlement.lease_id, "the server refused the form of an outcome");
    if matches!(&settlement.outcome, Some(Outcome::Fail(fail)) if fail.error.starts_with(SAYS)) {
        return None;
    }
    let fail = Fail { error: format!("{SAYS}{message}"), permanent: false, retry_after: None };
    Some(Settlement { outcome: Some(Outcome::Fail(fail)), ..settlement })
}

fn is_about_the_request(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::OutOfRange)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::proto::settlement::Complete;

    fn settlement(lease_id: &str, bytes: usize) -> Settlement {
        let complete = Complete { result_json: "x".repeat(bytes), note: String::new() };
        Settlement { lease_id: lease_id.to_owned(), outcome: Some(Outcome::Complete(complete)) }
    }

    fn result(code: Code) -> SettleResult {
        SettleResult { code: code as i32, ..SettleResult::default() }
    }

    #[test]
    fn a_request_stays_below_its_limit_but_always_moves_on() {
        let waiting: Vec<_> = (0..100).map(|n| settlement(&n.to_string(), limits::RESULT)).collect();
        let fits = fitting(waiting.iter(), 1_000);
        assert!((40..=48).contains(&fits), "{fits}");
        assert_eq!(fitting(waiting.iter(), 7), 7);
        assert_eq!(fitting([settlement("a", 10_000_000)].iter(), 1_000), 1);
    }

    #[test]
    fn each_answer_counts_for_its_own_settlement() {
        let sent = ["ok", "late", "odd", "again", "cut"].map(|it| settlement(it, 1)).into();
        let codes = [Code::Ok, Code::FailedPrecondition, Code::InvalidArgument, Code::Unavailable];
        let (again, pause) = unsettled(sent, codes.map(result).into());
        assert!(pause);
        let left: Vec<_> = again.iter().map(|it| it.lease_id.as_str()).collect();
        assert_eq!(left, ["odd", "again", "cut"]);
        assert!(matches!(&again[0].outcome, Some(Outcome::Fail(_))));
    }

    #[tokio::test]
    async fn a_second_call_is_made_for_many_and_the_last_ones_are_not_forgotten() {
        let outcomes = Outcomes::<()>::default();
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
    async fn a_job_keeps_its_place_until_its_outcome_is_sent_or_counts_no_more() {
        let (outcomes, place) = (Outcomes::default(), std::sync::Arc::new(()));
        let push = || outcomes.push("a".to_owned(), settlement("", 1).outcome.unwrap(), Some(place.clone()));
        let taken = || std::sync::Arc::strong_count(&place) - 1;
        push();
        assert_eq!(taken(), 1);
        let sent = outcomes.take(1, 1).await.unwrap();
        assert_eq!(taken(), 0);
        outcomes.put_back(sent);
        push();
        assert_eq!(taken(), 1, "what is sent again takes no place");
        outcomes.abandon();
        assert_eq!((taken(), outcomes.state().waiting.len()), (0, 0));
    }

    #[test]
    fn what_is_malformed_twice_is_dropped() {
        let fail = instead(settlement("a", 1), "note: too long").unwrap();
        assert_eq!(instead(fail, "again"), None);
    }
}
