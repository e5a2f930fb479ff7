//! Tells the server how attempts ended, many in one call, until it has acknowledged each.

use std::{collections::VecDeque, sync::Arc};

use jobqueue_shared::limits;
use prost::Message as _;
use tokio::sync::mpsc;
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

/// Where outcomes are left. Full while the server is away and many wait: then handlers' slots are not freed either.
#[derive(Clone)]
pub(crate) struct Settling(mpsc::Sender<Settlement>);

impl Settling {
    pub(crate) async fn send(&self, lease_id: String, outcome: Outcome) {
        // The receiver is gone when the session has ended: then the outcome counts for nothing.
        let _ = self.0.send(Settlement { lease_id, outcome: Some(outcome) }).await;
    }
}

pub(crate) fn queue(slots: usize) -> (Settling, mpsc::Receiver<Settlement>) {
    let (sender, receiver) = mpsc::channel(slots.max(64));
    (Settling(sender), receiver)
}

/// Until nothing can arrive any more and all of it is acknowledged, or the session has ended. What arrives while a call
/// is under way goes into the next one.
pub(crate) async fn run(core: Arc<Core>, session: Arc<Session>, mut arriving: mpsc::Receiver<Settlement>) {
    let mut waiting = VecDeque::new();
    let mut most = limits::SETTLEMENTS;
    let mut pauses = Backoff::for_lease(session.lease_time);
    loop {
        if waiting.is_empty() {
            match arriving.recv().await {
                Some(settlement) => waiting.push_back(settlement),
                None => return,
            }
        }
        while waiting.len() < limits::SETTLEMENTS
            && let Ok(settlement) = arriving.try_recv()
        {
            waiting.push_back(settlement);
        }
        session.is_kept().await;
        if session.ended.is_cancelled() {
            return;
        }
        let settlements: Vec<_> = waiting.iter().take(fitting(&waiting, most)).cloned().collect();
        let sent = settlements.len();
        let request = SettleJobsRequest { session_id: session.id.clone(), settlements };
        let repeat = match core.settle_jobs(request).await {
            Ok(reply) => {
                most = limits::SETTLEMENTS;
                accept(&mut waiting, sent, reply.results)
            }
            Err(status) if session::is_over(&status) => {
                session.ended.cancel();
                return;
            }
            Err(status) if is_about_the_request(&status) && sent > 1 => {
                most = sent / 2;
                false
            }
            Err(status) if is_about_the_request(&status) => {
                most = limits::SETTLEMENTS;
                if let Some(settlement) = waiting.pop_front() {
                    waiting.extend(instead(settlement, status.message()));
                }
                false
            }
            Err(_) => true,
        };
        if repeat {
            tokio::time::sleep(pauses.next()).await;
        } else {
            pauses.reset();
        }
    }
}

/// How many from the front fit into one request.
fn fitting(waiting: &VecDeque<Settlement>, most: usize) -> usize {
    let mut bytes = 0;
    let fit = waiting.iter().take(most).take_while(|settlement| {
        bytes += settlement.encoded_len() + 8;
        bytes < limits::REPLY_BYTES
    });
    fit.count().max(1)
}

/// Takes what was answered out of the first `sent`; true when some must be sent again.
fn accept(waiting: &mut VecDeque<Settlement>, sent: usize, results: Vec<SettleResult>) -> bool {
    let mut results = results.into_iter();
    let mut again = false;
    for settlement in waiting.drain(..sent).collect::<Vec<_>>() {
        match results.next().map(|result| (Code::from(result.code), result.message)) {
            Some((Code::Ok, _)) => {}
            Some((Code::FailedPrecondition, _)) => {
                tracing::info!(
                    lease_id = settlement.lease_id,
                    "an outcome came too late, its lease is no longer valid"
                );
            }
            Some((Code::InvalidArgument, message)) => waiting.extend(instead(settlement, &message)),
            Some(_) | None => {
                again = true;
                waiting.push_back(settlement);
            }
        }
    }
    again
}

/// A settlement that the server calls malformed would leave its job running for as long as the session lives: it fails
/// the attempt instead. If that is malformed too, nothing can be done.
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
        let waiting: VecDeque<_> = (0..100).map(|n| settlement(&n.to_string(), limits::RESULT)).collect();
        let fits = fitting(&waiting, 1_000);
        assert!((40..=48).contains(&fits), "{fits}");
        assert_eq!(fitting(&waiting, 7), 7);
        assert_eq!(fitting(&VecDeque::from([settlement("a", 10_000_000)]), 1_000), 1);
    }

    #[test]
    fn each_answer_counts_for_its_own_settlement() {
        let mut waiting: VecDeque<_> = ["ok", "late", "odd", "again", "cut", "next"].map(|it| settlement(it, 1)).into();
        let codes = [Code::Ok, Code::FailedPrecondition, Code::InvalidArgument, Code::Unavailable];
        assert!(accept(&mut waiting, 5, codes.map(result).into()));
        let left: Vec<_> = waiting.iter().map(|it| it.lease_id.as_str()).collect();
        assert_eq!(left, ["next", "odd", "again", "cut"]);
        assert!(matches!(&waiting[1].outcome, Some(Outcome::Fail(_))));
    }

    #[test]
    fn what_is_malformed_twice_is_dropped() {
        let fail = instead(settlement("a", 1), "note: too long").unwrap();
        assert_eq!(instead(fail, "again"), None);
    }
}
