//! Payloads of the jobs that are submitted, which the handlers read, and the worker_ids that they go to.

/// Part of the payload of a job that has to fail once.
pub const FAIL_ONCE: &str = ",\"fail\":1";

/// One of the `worker_ids` of a plan.
pub fn worker_id(prefix: &str, number: u64) -> String {
    format!("{prefix}{number}")
}

/// JSON object of exactly `bytes` bytes, at least 32, with its number and `mark`.
pub fn payload(number: u64, mark: &str, bytes: usize) -> String {
    let mut text = format!("{{\"n\":{number}{mark},\"pad\":\"");
    let pad = bytes.saturating_sub(text.len() + 2);
    text.reserve(pad + 2);
    text.extend(std::iter::repeat_n('x', pad));
    text.push_str("\"}");
    text
}

/// Parses the number that [`payload`] wrote.
pub(crate) fn number(payload: &str) -> Option<u64> {
    let rest = payload.strip_prefix("{\"n\":")?;
    rest[..rest.find(|letter: char| !letter.is_ascii_digit())?].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_json_of_the_size_asked_for() {
        for (number, mark, bytes) in [(0, "", 64), (1_234_567, FAIL_ONCE, 64), (7, "", 65_536)] {
            let text = payload(number, mark, bytes);
            assert_eq!(text.len(), bytes);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((value["n"].as_u64(), value["fail"].as_u64().is_some()), (Some(number), !mark.is_empty()));
        }
    }

    #[test]
    fn a_payload_tells_its_number() {
        assert_eq!(number(&payload(90_210, "", 64)), Some(90_210));
        assert_eq!(number("{\"x\":1}"), None);
    }
}
