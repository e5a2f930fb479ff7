//! Delivery of outcomes to the server, many in one call, until each is acknowledged.

use jobqueue_shared::{
    limits,
    proto::v1::{
        SettleJobsRequest, SettleResult, Settlement,
        settlement::{Fail, Outcome},
    },
};
use tonic::{Code, Status};

use crate::{
    connection::{backoff::Backoff, worker_calls::WorkerCalls},
    report::outcome_queue::OutcomeQueue,
    sessions::session::{self, Session},
};

/// Minimum number of waiting outcomes for a second call beside the first.
const MANY: usize = 100;

/// Delivers outcomes until the queue is closed and all of them are acknowledged, or the session has ended. Two calls
/// are under way when many outcomes wait: while one is on its way, the next is written.
pub(crate) async fn run<P>(calls: &WorkerCalls, session: &Session, outcomes: &OutcomeQueue<P>) {
    tokio::select! {
        // The permits are released now, and not when the last handler has ended.
        () = session.ended.cancelled() => outcomes.abandon(),
        _ = async { tokio::join!(deliver(calls, session, outcomes, 1), deliver(calls, session, outcomes, MANY)) } => {}
    }
}

/// Delivers outcomes in one call after the other, each of at least `least` until the queue is closed.
async fn deliver<P>(calls: &WorkerCalls, session: &Session, outcomes: &OutcomeQueue<P>, least: usize) {
    let mut most = limits::SETTLEMENTS;
    let mut pauses = Backoff::for_lease(session.lease_time);
    while let Some(sent) = outcomes.take(least, most).await {
        session.wait_until_leased().await;
        let request = SettleJobsRequest { session_id: session.id.clone(), settlements: sent.clone() };
        let (again, pause) = match calls.settle_jobs(request).await {
            Ok(reply) => {
                most = limits::SETTLEMENTS;
                to_send_again(sent, reply.results)
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
                (
                    sent.into_iter().filter_map(|settlement| failure_instead(settlement, status.message())).collect(),
                    false,
                )
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

/// Settlements that have to be sent again, and whether to pause before that.
fn to_send_again(sent: Vec<Settlement>, results: Vec<SettleResult>) -> (Vec<Settlement>, bool) {
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
            Some((Code::InvalidArgument, message)) => again.extend(failure_instead(settlement, &message)),
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
fn failure_instead(settlement: Settlement, message: &str) -> Option<Settlement> {
    const SAYS: &str = "the server refused the outcome: ";
    tracing::warn!(lease_id = settlement.lease_id, "the server refused the form of an outcome");
    if matches!(&settlement.outcome, Some(Outcome::Fail(fail)) if fail.error.starts_with(SAYS)) {
        return None;
    }
    let fail = Fail { error: format!("{SAYS}{message}"), permanent: false, retry_after: None };
    Some(Settlement { outcome: Some(Outcome::Fail(fail)), ..settlement })
}

/// True when the server refused a request as a whole because of its form.
fn is_about_the_request(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::OutOfRange)
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::proto::v1::settlement::Complete;

    use super::*;

    fn settlement(lease_id: &str, bytes: usize) -> Settlement {
        let complete = Complete { result_json: "x".repeat(bytes), note: String::new() };
        Settlement { lease_id: lease_id.to_owned(), outcome: Some(Outcome::Complete(complete)) }
    }

    fn result(code: Code) -> SettleResult {
        SettleResult { code: code as i32, ..SettleResult::default() }
    }

    #[test]
    fn each_answer_counts_for_its_own_settlement() {
        let sent = ["ok", "late", "odd", "again", "cut"].map(|it| settlement(it, 1)).into();
        let codes = [Code::Ok, Code::FailedPrecondition, Code::InvalidArgument, Code::Unavailable];
        let (again, pause) = to_send_again(sent, codes.map(result).into());
        assert!(pause);
        let left: Vec<_> = again.iter().map(|it| it.lease_id.as_str()).collect();
        assert_eq!(left, ["odd", "again", "cut"]);
        assert!(matches!(&again[0].outcome, Some(Outcome::Fail(_))));
    }

    #[test]
    fn what_is_malformed_twice_is_dropped() {
        let fail = failure_instead(settlement("a", 1), "note: too long").unwrap();
        assert_eq!(failure_instead(fail, "again"), None);
    }
}
