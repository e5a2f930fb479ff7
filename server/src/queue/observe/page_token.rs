//! Encodes and decodes page tokens: the end of a page, with a fingerprint of the list's filter. Tokens are opaque to
//! callers, and validated when they come back.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jobqueue_shared::limits;
use jobqueue_store::{Cursor, JobFilter};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};

#[derive(Serialize, Deserialize)]
struct Token {
    #[serde(rename = "f")]
    filter: u64,
    #[serde(rename = "c")]
    cursor: Cursor,
}

const UNKNOWN: &str = "is no token of this server; leave it empty to start at the first page";
const OTHER_FILTER: &str = "belongs to a list with another filter; leave it empty to start at the first page";

/// Maximum length of a token: a cursor holds a worker_id of at most `limits::WORKER_ID` bytes and four numbers.
const TOKEN_BYTES: usize = 1_024;

/// Token of the next page of a list of jobs; `cursor` is the end of this page.
pub(super) fn job_token(filter: &JobFilter, cursor: Cursor) -> String {
    let token = Token { filter: fingerprint(filter), cursor };
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
}

/// Decodes a token of [`job_token`] into the end of the page before; the error says what is wrong with the token.
pub(super) fn job_cursor(filter: &JobFilter, token: &str) -> Result<Cursor, &'static str> {
    if token.len() > TOKEN_BYTES {
        return Err(UNKNOWN);
    }
    let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| UNKNOWN)?;
    let Token { filter: of, cursor } = serde_json::from_slice(&json).map_err(|_| UNKNOWN)?;
    if of != fingerprint(filter) {
        return Err(OTHER_FILTER);
    }
    let name = cursor.worker_id.len() <= limits::WORKER_ID && !cursor.worker_id.chars().any(char::is_control);
    // Times up to the year 9999 only, so that no driver has to handle an overflow.
    if name && cursor.priority <= limits::PRIORITY_LOWEST && (0..253_402_300_800_000).contains(&cursor.at_ms) {
        Ok(cursor)
    } else {
        Err(UNKNOWN)
    }
}

/// Fingerprint of every condition of a filter.
fn fingerprint(filter: &JobFilter) -> u64 {
    let digest = Sha256::digest(serde_json::to_vec(filter).unwrap_or_default());
    digest.iter().take(8).fold(0, |sum, byte| sum << 8 | u64::from(*byte))
}

/// Token for a list of something else than jobs. `list` names the list with its filter, `at` is the end of the page.
pub(in crate::queue) fn token<T: Serialize>(list: &str, at: &T) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&(list, at)).unwrap_or_default())
}

/// Decodes a token that [`token`] made for `list`; the error says what is wrong with it.
pub(in crate::queue) fn place<T: DeserializeOwned>(list: &str, token: &str) -> Result<T, &'static str> {
    if token.len() > TOKEN_BYTES {
        return Err(UNKNOWN);
    }
    let json = URL_SAFE_NO_PAD.decode(token).map_err(|_| UNKNOWN)?;
    let (of, at): (String, T) = serde_json::from_slice(&json).map_err(|_| UNKNOWN)?;
    if of == list { Ok(at) } else { Err(OTHER_FILTER) }
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::state::State;
    use jobqueue_store::{Bounds, Span};
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    fn filter(worker_id: &str, state: Option<State>) -> JobFilter {
        JobFilter::of((!worker_id.is_empty()).then_some(worker_id), state, None)
    }

    proptest! {
        #[test]
        fn cursors_survive_the_trip(
            worker_id in "[a-z]{0,100}", priority in 0_u8..=9, at_ms in 0..4_000_000_000_000_i64, id: u128,
        ) {
            let filter = filter("w", Some(State::Pending));
            let cursor = Cursor { worker_id, priority, at_ms, id: Uuid::from_u128(id) };
            prop_assert_eq!(job_cursor(&filter, &job_token(&filter, cursor.clone())), Ok(cursor));
        }

        #[test]
        fn no_text_is_mistaken_for_a_token(text in ".{0,80}") {
            prop_assert!(job_cursor(&JobFilter::default(), &text).is_err());
        }
    }

    #[test]
    fn a_token_belongs_to_its_filter() {
        let cursor = Cursor { worker_id: String::new(), priority: 0, at_ms: 0, id: Uuid::nil() };
        let token = job_token(&filter("a", None), cursor);
        assert!(job_cursor(&filter("a", None), &token).is_ok());
        let of_a = || filter("a", None);
        for other in [
            filter("", None),
            filter("b", None),
            filter("a", Some(State::Done)),
            JobFilter::of(Some("a"), None, Some("a")),
            JobFilter { created: Span { from_ms: Some(1), before_ms: None }, ..of_a() },
            JobFilter { finished: Span { from_ms: None, before_ms: Some(1) }, ..of_a() },
            JobFilter { attempts: Bounds { min: Some(1), max: None }, ..of_a() },
            JobFilter { error_contains: "x".into(), ..of_a() },
            JobFilter { ids: vec![Uuid::nil()], ..of_a() },
            JobFilter { payload: vec![("a".into(), "b".into())], ..of_a() },
        ] {
            assert!(job_cursor(&other, &token).unwrap_err().starts_with("belongs to"), "{other:?}");
        }
    }

    #[test]
    fn a_forged_token_cannot_reach_the_database() {
        let filter = JobFilter::default();
        for (worker_id, priority, at_ms) in [("a\0", 0, 0), ("", 10, 0), ("", 0, -1), ("", 0, i64::MAX)] {
            let cursor = Cursor { worker_id: worker_id.into(), priority, at_ms, id: Uuid::nil() };
            assert!(job_cursor(&filter, &job_token(&filter, cursor)).is_err(), "{worker_id:?} {priority} {at_ms}");
        }
        assert!(job_cursor(&filter, &"A".repeat(10_000)).is_err());
    }
}
