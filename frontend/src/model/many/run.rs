//! Run that submits lines in batches, each line under a key of its own: a run that is repeated after a lost answer
//! submits nothing twice.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use jobqueue_shared::{limits, proto::v1::SubmitJobRequest};
use prost::Message as _;
use serde::{Deserialize, Serialize};

use super::lines::Line;

/// Size in bytes at which a batch ends. With the other fields of its jobs it stays below the limit of a request.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Name of a run, and a hash of what it submits. The same lines under the same options keep the name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub name: String,
    hash: u64,
}

impl Run {
    /// The run of these lines and options: `last`, if that was for the same, or else a new one of this name.
    pub fn of(last: Option<Self>, template: &SubmitJobRequest, lines: &[Line], name: impl FnOnce() -> String) -> Self {
        let mut hasher = DefaultHasher::new();
        template.encode_to_vec().hash(&mut hasher);
        for line in lines {
            (line.number, &line.payload).hash(&mut hasher);
        }
        let hash = hasher.finish();
        last.filter(|last| last.hash == hash).unwrap_or_else(|| Self { name: name(), hash })
    }

    /// Request for a line, with the options of `template`.
    pub fn request(&self, template: &SubmitJobRequest, line: &Line) -> SubmitJobRequest {
        SubmitJobRequest {
            payload_json: line.payload.clone(),
            idempotency_key: format!("{}-{}", self.name, line.number),
            ..template.clone()
        }
    }
}

/// Number of the first of `lines` that go into one call.
pub fn batch(lines: &[Line]) -> usize {
    let mut bytes = 0;
    let fits = |line: &&Line| {
        bytes += line.payload.len();
        bytes <= BATCH_BYTES
    };
    lines.iter().take(limits::BATCH_JOBS).take_while(fits).count().max(1).min(lines.len())
}

/// Index in the batch of a field such as `jobs[17].payload_json`, and the field's own name.
pub fn place(field: &str) -> Option<(usize, &str)> {
    let (index, rest) = field.strip_prefix("jobs[")?.split_once(']')?;
    Some((index.parse().ok()?, rest.trim_start_matches('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(payloads: &[&str]) -> Vec<Line> {
        payloads.iter().enumerate().map(|(n, it)| Line { number: n + 1, payload: (*it).to_owned() }).collect()
    }

    #[test]
    fn the_same_lines_keep_their_keys_and_others_get_new_ones() {
        let template = SubmitJobRequest { worker_id: "w".into(), ..SubmitJobRequest::default() };
        let first = Run::of(None, &template, &lines(&["1", "2"]), || "a".into());
        let again = Run::of(Some(first.clone()), &template, &lines(&["1", "2"]), || "b".into());
        assert_eq!(again, first);
        let request = first.request(&template, &lines(&["1", "2"])[1]);
        assert_eq!((request.idempotency_key.as_str(), request.payload_json.as_str()), ("a-2", "2"));
        assert_eq!(request.worker_id, "w");
        let other = Run::of(Some(first.clone()), &template, &lines(&["1", "3"]), || "b".into());
        assert_eq!(other.name, "b");
        let options = SubmitJobRequest { priority: Some(1), ..template };
        assert_eq!(Run::of(Some(first), &options, &lines(&["1", "2"]), || "b".into()).name, "b");
    }

    #[test]
    fn a_batch_ends_by_number_and_by_size() {
        assert_eq!(batch(&lines(&vec!["1"; 1_200])), limits::BATCH_JOBS);
        assert_eq!(batch(&lines(&["1"; 3])), 3);
        let large = format!("\"{}\"", "x".repeat(BATCH_BYTES / 2));
        assert_eq!(batch(&lines(&["1", &large, &large])), 2);
        assert_eq!(batch(&lines(&[&format!("{large}{large}")])), 1, "a batch has at least one job");
        assert_eq!(batch(&[]), 0);
    }

    #[test]
    fn fields_of_a_batch_are_found() {
        assert_eq!(place("jobs[17].payload_json"), Some((17, "payload_json")));
        assert_eq!(place("jobs"), None);
        assert_eq!(place("jobs[x].y"), None);
    }
}
