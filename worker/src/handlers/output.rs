//! Output of a completed job.

use jobqueue_shared::limits;
use serde::Serialize;

use crate::fields;

/// Output of a completed job: a result of at most 64 KiB of JSON, and a note for people of at most 1 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    pub(crate) result_json: String,
    pub(crate) note: String,
}

impl Output {
    /// Output without a result.
    pub fn none() -> Self {
        Self::default()
    }

    /// Output with `value` as JSON; `()` and `None` are no result. The job is completed in any case: a value that
    /// cannot be written as JSON, or is too large, is dropped, and the note says so.
    pub fn of(value: &impl Serialize) -> Self {
        match serde_json::to_string(value) {
            Ok(json) if json == "null" => Self::none(),
            Ok(json) => Self::json(json),
            Err(error) => Self::none().note(format!("result dropped: it cannot be written as JSON: {error}")),
        }
    }

    /// Output with a result that is JSON already. A result that is too large is dropped, and the note says so.
    pub fn json(result_json: impl Into<String>) -> Self {
        let result_json = result_json.into();
        if result_json.len() > limits::RESULT {
            return Self::too_large(result_json.len() as u64);
        }
        Self { result_json, note: String::new() }
    }

    /// Output whose result of `bytes` bytes was too large to be kept; the note says so.
    pub fn too_large(bytes: u64) -> Self {
        let (size, limit) = (bytes.div_ceil(1024), limits::RESULT / 1024);
        Self::none().note(format!("result of {size} KiB dropped: the limit is {limit} KiB"))
    }

    /// Adds a note for people; cut to 1 KiB.
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = fields::text(note.into(), limits::NOTE);
        self
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_result_that_cannot_be_kept_does_not_undo_the_work() {
        assert_eq!(Output::of(&()), Output::none());
        assert_eq!(Output::of(&[1, 2]).result_json, "[1,2]");
        let large = Output::of(&"x".repeat(70 * 1024));
        assert_eq!(large.note, "result of 71 KiB dropped: the limit is 64 KiB");
        assert_eq!(large.result_json, "");
        assert_eq!(Output::of(&"x".repeat(limits::RESULT - 2)).note, "");
        let map = HashMap::from([((1, 2), 3)]);
        assert!(Output::of(&map).note.starts_with("result dropped: it cannot be written as JSON"));
    }
}
