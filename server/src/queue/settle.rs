//! SettleJobs and ReportProgress: a worker's reports on its attempts. The store decides what becomes of them.

use std::collections::HashSet;

use jobqueue_shared::{
    json,
    lease::LeaseId,
    limits,
    proto::v1::{self, settlement},
    state::{Ending, State},
};
use jobqueue_store::{ProgressReport, SettleAnswer, Settlement, StoreResult, settle_group};
use tracing::warn;
use uuid::Uuid;

use super::{
    Queue,
    error::{Error, Result},
    group_commit::Weight,
    validate::{Violations, storable},
};

/// Result of one settlement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    pub lease_id: String,
    pub verdict: SettleVerdict,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SettleVerdict {
    Accepted(State),
    Stale,
    /// The settlement is not stored, and cannot be; the text says why.
    Malformed(String),
}

impl Queue {
    /// Settles leases of a session; one outcome for each settlement, in order.
    pub async fn settle(&self, request: v1::SettleJobsRequest) -> Result<Vec<Outcome>> {
        let mut violations = Violations::default();
        let session_id = violations.uuid("session_id", &request.session_id);
        let count = request.settlements.len();
        if !(1..=limits::SETTLEMENTS).contains(&count) {
            violations.add("settlements", format!("has {count}; it must have 1 to {}", limits::SETTLEMENTS));
        }
        violations.finish()?;

        let mut seen = HashSet::with_capacity(count);
        let mut outcomes = Vec::with_capacity(count);
        let (mut items, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (place, settlement) in request.settlements.into_iter().enumerate() {
            let lease_id = settlement.lease_id.clone();
            let verdict = match parse(session_id, settlement) {
                Ok(item) if seen.insert(item.lease) => {
                    items.push(item);
                    places.push(place);
                    // A placeholder until the store has answered.
                    SettleVerdict::Stale
                }
                Ok(_) => SettleVerdict::Malformed("lease_id appears twice in this call".into()),
                Err(wrong) => SettleVerdict::Malformed(wrong),
            };
            outcomes.push(Outcome { lease_id, verdict });
        }
        for (place, answer) in places.into_iter().zip(self.settle_all(session_id, items).await?) {
            outcomes[place].verdict = match answer {
                SettleAnswer::Accepted(state) => SettleVerdict::Accepted(state),
                SettleAnswer::Stale => SettleVerdict::Stale,
                SettleAnswer::Unstorable => SettleVerdict::Malformed(
                    "the database cannot store this outcome: send another text, without result and note".into(),
                ),
            };
        }
        Ok(outcomes)
    }

    async fn settle_all(&self, session_id: Uuid, items: Vec<Settlement>) -> Result<Vec<SettleAnswer>> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let without_handler = items.iter().any(|it| matches!(it.ending, Ending::Release { no_handler: true }));
        let bytes =
            items.iter().map(|it| it.text.len() + it.note.len() + it.result.as_ref().map_or(0, String::len)).sum();
        let (weight, started) = (Weight { count: items.len(), bytes }, std::time::Instant::now());
        let answers = self.settles.call(items, weight).await?;
        self.context.meters.settle_seconds.record(started.elapsed());
        // Jobs that became pending may be runnable now, so parked polls of their worker_id acquire again, or learn the
        // next due time.
        let again = answers.iter().filter(|it| matches!(it, SettleAnswer::Accepted(State::Pending))).count();
        if again > 0
            && let Some(known) = self.known_session(session_id).await
        {
            if without_handler {
                self.context.notifier.wake_for_handler(&known.worker_id);
            } else {
                self.context.notifier.wake(&known.worker_id, again);
            }
        }
        Ok(answers)
    }

    pub async fn report_progress(&self, request: v1::ReportProgressRequest) -> Result<()> {
        let mut violations = Violations::default();
        let session_id = violations.uuid("session_id", &request.session_id);
        let lease = request.lease_id.parse().unwrap_or_else(|error: jobqueue_shared::lease::MalformedLease| {
            violations.add("lease_id", error.to_string());
            LeaseId { claim_id: Uuid::nil(), job_id: Uuid::nil() }
        });
        let fraction = violations.number("fraction", request.fraction, 0.0..=1.0);
        violations.length("message", &request.message, limits::NOTE);
        violations.finish()?;
        let message = storable(request.message, limits::NOTE);
        let report = ProgressReport { session_id, lease, fraction, message };
        if self.context.store.report_progress(&report).await? {
            return Ok(());
        }
        self.context.meters.refused_progress();
        warn!(%session_id, job_id = %lease.job_id, "progress for a lease that is no longer valid was refused");
        Err(Error::StaleLease)
    }
}

/// Converts a settlement for the store; the error says what is wrong with it.
fn parse(session_id: Uuid, settlement: v1::Settlement) -> std::result::Result<Settlement, String> {
    let lease = settlement.lease_id.parse().map_err(|error| format!("lease_id: {error}"))?;
    let mut violations = Violations::default();
    let mut item = Settlement {
        session_id,
        lease,
        ending: Ending::Complete,
        text: String::new(),
        result: None,
        note: String::new(),
    };
    match settlement.outcome.ok_or("has no outcome: set one of complete, fail, snooze, release")? {
        settlement::Outcome::Complete(complete) => {
            let (result, dropped) = result(complete.result_json);
            let note = [complete.note, dropped].into_iter().filter(|it| !it.is_empty()).collect::<Vec<_>>().join("; ");
            item.result = result;
            item.note = storable(note, limits::NOTE);
        }
        settlement::Outcome::Fail(fail) => {
            let retry_after_ms = fail.retry_after.map(|it| violations.delay_ms("fail.retry_after", it));
            item.ending = Ending::Fail { permanent: fail.permanent, retry_after_ms };
            item.text = storable(fail.error, limits::ERROR);
        }
        settlement::Outcome::Snooze(snooze) => {
            let delay_ms = snooze.delay.map_or(0, |it| violations.delay_ms("snooze.delay", it));
            item.ending = Ending::Snooze { delay_ms };
            item.text = storable(snooze.reason, limits::NOTE);
        }
        settlement::Outcome::Release(release) => item.ending = Ending::Release { no_handler: release.no_handler },
    }
    match violations.finish() {
        Err(Error::Invalid(found)) => {
            Err(found.iter().map(|it| format!("{} {}", it.field, it.description)).collect::<Vec<_>>().join("; "))
        }
        _ => Ok(item),
    }
}

/// Validates a result. One that cannot be stored does not undo the work: the result is dropped, and a note says so.
fn result(result_json: String) -> (Option<String>, String) {
    if result_json.is_empty() {
        return (None, String::new());
    }
    match json::check(&result_json, limits::RESULT, limits::JSON_DEPTH) {
        Ok(()) => (Some(result_json), String::new()),
        Err(json::JsonError::TooLarge(bytes, limit)) => {
            (None, format!("result of {bytes} bytes dropped: the limit is {limit}"))
        }
        Err(error) => (None, format!("result of {} bytes dropped: it {error}", result_json.len())),
    }
}

/// Settles a group. Each lease is passed to the store once a call: of two settlements of one lease, the second is
/// passed when the first has been decided.
pub(super) async fn flush(context: &super::Context, items: Vec<Settlement>) -> StoreResult<Vec<SettleAnswer>> {
    let mut seen = HashSet::with_capacity(items.len());
    let answers = if items.iter().all(|it| seen.insert(it.lease)) {
        settle_group(&*context.store, &items).await?
    } else {
        let mut answers = Vec::with_capacity(items.len());
        let mut rest = &items[..];
        while !rest.is_empty() {
            seen.clear();
            let unique = rest.iter().take_while(|it| seen.insert(it.lease)).count();
            answers.extend(settle_group(&*context.store, &rest[..unique]).await?);
            rest = &rest[unique..];
        }
        answers
    };
    for (item, answer) in items.iter().zip(&answers) {
        context.meters.settled(item.ending, *answer);
        if *answer == SettleAnswer::Stale {
            warn!(
                session_id = %item.session_id, job_id = %item.lease.job_id,
                "an outcome for a lease that is no longer valid was refused"
            );
        }
    }
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use prost_types::Duration;

    use super::*;

    fn lease() -> LeaseId {
        LeaseId { claim_id: Uuid::from_u128(1), job_id: Uuid::from_u128(2) }
    }

    fn parsed(outcome: settlement::Outcome) -> std::result::Result<Settlement, String> {
        parse(Uuid::nil(), v1::Settlement { lease_id: lease().to_string(), outcome: Some(outcome) })
    }

    fn complete(result_json: &str, note: &str) -> Settlement {
        let complete = settlement::Complete { result_json: result_json.into(), note: note.into() };
        parsed(settlement::Outcome::Complete(complete)).unwrap()
    }

    #[test]
    fn a_result_that_cannot_be_kept_becomes_a_note() {
        let item = complete(&format!("\"{}\"", "x".repeat(69_998)), "");
        assert_eq!((item.ending, item.result), (Ending::Complete, None));
        assert_eq!(item.note, "result of 70000 bytes dropped: the limit is 65536");
        let item = complete("{", "mine");
        assert_eq!(item.result, None);
        assert!(item.note.starts_with("mine; result of 1 bytes dropped: it is not JSON"), "{}", item.note);
        let item = complete("{}", "");
        assert_eq!((item.result.as_deref(), item.note.as_str()), (Some("{}"), ""));
        assert_eq!(complete("", "").result, None);
    }

    #[test]
    fn errors_are_cut_and_lose_their_nul() {
        let fail = settlement::Fail { error: "\0".repeat(10_000), ..Default::default() };
        let item = parsed(settlement::Outcome::Fail(fail)).unwrap();
        assert!(item.text.len() <= limits::ERROR && item.text.chars().all(|c| c == '\u{FFFD}'));
    }

    #[test]
    fn what_is_malformed_is_told_and_not_guessed() {
        let none = v1::Settlement { lease_id: lease().to_string(), outcome: None };
        assert!(parse(Uuid::nil(), none).unwrap_err().starts_with("has no outcome"));
        let release = settlement::Outcome::Release(settlement::Release { no_handler: true });
        let foreign = v1::Settlement { lease_id: "x".into(), outcome: Some(release) };
        assert!(parse(Uuid::nil(), foreign).unwrap_err().starts_with("lease_id: "));
        let delay = Some(Duration { seconds: -1, nanos: 0 });
        let snooze = settlement::Outcome::Snooze(settlement::Snooze { delay, reason: String::new() });
        assert!(parsed(snooze).unwrap_err().starts_with("snooze.delay is -1 s"));
        let fail = settlement::Fail { retry_after: Some(Duration { seconds: 1, nanos: -1 }), ..Default::default() };
        assert!(parsed(settlement::Outcome::Fail(fail)).unwrap_err().starts_with("fail.retry_after"));
    }

    #[test]
    fn what_is_well_formed_says_what_it_said() {
        let delay = Some(Duration { seconds: 2, nanos: 0 });
        let snooze = settlement::Snooze { delay, reason: "later".into() };
        let item = parsed(settlement::Outcome::Snooze(snooze)).unwrap();
        assert_eq!((item.ending, item.text.as_str()), (Ending::Snooze { delay_ms: 2_000 }, "later"));
        let fail = settlement::Fail { error: "no".into(), permanent: true, retry_after: delay };
        let item = parsed(settlement::Outcome::Fail(fail)).unwrap();
        assert_eq!(item.ending, Ending::Fail { permanent: true, retry_after_ms: Some(2_000) });
    }
}
