//! Conversion of settlements for the store.

use jobqueue_shared::{
    json, limits,
    proto::v1::{self, settlement},
    state::Ending,
};
use jobqueue_store::Settlement;
use uuid::Uuid;

use crate::queue::{
    error::Error,
    validate::{Violations, storable},
};

/// Converts a settlement for the store; the error says what is wrong with it.
pub(super) fn parse(session_id: Uuid, settlement: v1::Settlement) -> Result<Settlement, String> {
    let lease = settlement.lease_id.parse().map_err(|error| format!("lease_id: {error}"))?;
    let mut violations = Violations::default();
    let mut item = Settlement {
        session_id: Some(session_id),
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

#[cfg(test)]
mod tests {
    use jobqueue_shared::lease::LeaseId;
    use prost_types::Duration;

    use super::*;

    fn lease() -> LeaseId {
        LeaseId { claim_id: Uuid::from_u128(1), job_id: Uuid::from_u128(2) }
    }

    fn parsed(outcome: settlement::Outcome) -> Result<Settlement, String> {
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
