//! Validation of payloads and results, which are kept byte for byte.

use std::borrow::Cow;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Reason for which a text is not accepted as JSON.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum JsonError {
    #[error("is {0} bytes; the limit is {1}")]
    TooLarge(usize, usize),
    #[error("is not JSON: {0}")]
    Syntax(String),
    #[error("nests {0} levels deep; the limit is {1}")]
    TooDeep(usize, usize),
}

/// Checks that `text` is one JSON value of at most `max_bytes`, nested at most `max_depth` levels deep.
pub fn check(text: &str, max_bytes: usize, max_depth: usize) -> Result<(), JsonError> {
    if text.len() > max_bytes {
        return Err(JsonError::TooLarge(text.len(), max_bytes));
    }
    // The depth is checked first: the parser has a limit of its own and would report a deep text as a syntax error.
    let depth = depth(text);
    if depth > max_depth {
        return Err(JsonError::TooDeep(depth, max_depth));
    }
    serde_json::from_str::<IgnoredAny>(text).map_err(|error| JsonError::Syntax(error.to_string()))?;
    Ok(())
}

/// Reads the string of the top-level key `task`, if `text` is an object that has one. Of equal keys the last counts, as
/// with JSON parsers that build a map; other keys and values do not matter.
pub fn task(text: &str) -> Option<String> {
    // serde would also deserialize a map from an array.
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut parser = serde_json::Deserializer::from_str(text);
    let task = serde::Deserializer::deserialize_map(&mut parser, LastTask).ok()?;
    parser.end().ok()?;
    // A value that is not a string, or has half of a surrogate pair, is no task.
    serde_json::from_str(task?.get()).ok()
}

/// Visitor that finds the value of the last key `task`.
struct LastTask;

impl<'de> Visitor<'de> for LastTask {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut task = None;
        // Keys are read raw: one that is not valid Unicode would end the deserialization of strings.
        while let Some(key) = map.next_key::<&RawValue>()? {
            let value = map.next_value::<&RawValue>()?;
            if serde_json::from_str::<Cow<'_, str>>(key.get()).is_ok_and(|key| key == "task") {
                task = Some(value);
            }
        }
        Ok(task)
    }
}

fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_every_kind_of_value_and_keeps_huge_numbers() {
        for text in ["{}", "[]", "null", "\"x\"", " 1e999 ", r#"{"a":"[[[{{{"}"#, r#""\u0000""#] {
            assert_eq!(check(text, 100, 2), Ok(()), "{text}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(check("\"abc\"", 4, 2), Err(JsonError::TooLarge(5, 4)));
        assert_eq!(check("[[[]]]", 100, 2), Err(JsonError::TooDeep(3, 2)));
        for text in ["", "{", "{}{}", "nul", "{'a':1}", "\"\u{0}\"", "[1,]"] {
            assert!(matches!(check(text, 100, 2), Err(JsonError::Syntax(_))), "{text}");
        }
    }

    #[test]
    fn finds_the_task_only_where_it_is_a_top_level_string() {
        assert_eq!(task(r#"{"task":"email","to":1}"#).as_deref(), Some("email"));
        for text in [r#"{"task":1}"#, r#"{"a":{"task":"x"}}"#, r#"["task"]"#, "{}", r#"{"task":null}"#, "7"] {
            assert_eq!(task(text), None, "{text}");
        }
    }

    #[test]
    fn of_equal_keys_the_last_counts_and_other_keys_do_not_matter() {
        assert_eq!(task(r#"{"task":"a","task":"b"}"#).as_deref(), Some("b"));
        assert_eq!(task(r#"{"task":"a","task":1}"#), None);
        assert_eq!(task(r#"{"\ud800":1,"task":"k","x":"\udfff"}"#).as_deref(), Some("k"));
        assert_eq!(task(r#"{"t\u0061sk":"k"}"#).as_deref(), Some("k"));
        assert_eq!(task(r#"{"task":"\ud800"}"#), None);
    }

    proptest! {
        #[test]
        fn the_task_is_what_a_parser_that_builds_a_map_finds(
            fields in prop::collection::vec(("task|t\\\\u0061sk|tas|k", "\"[a-z]{0,3}\"|1|null|\\[\"x\"\\]|\\{\"task\":\"in\"\\}"), 0..6),
        ) {
            let fields: Vec<_> = fields.iter().map(|(key, value)| format!("\"{key}\": {value}")).collect();
            let text = format!("{{{}}}", fields.join(", "));
            let map: serde_json::Value = serde_json::from_str(&text).unwrap();
            let found = task(&text);
            prop_assert_eq!(found.as_deref(), map["task"].as_str(), "{}", text);
        }

        #[test]
        fn arrays_nest_to_the_limit_and_no_further(levels in 1_usize..200, limit in 1_usize..100) {
            let text = "[".repeat(levels) + &"]".repeat(levels);
            prop_assert_eq!(check(&text, 1_000, limit).is_ok(), levels <= limit);
        }
    }
}
