//! Values in payloads.

use serde_json::Value;

/// Whether the value at `path` of a JSON text is `value`. A text that is not JSON matches nothing.
pub fn matches(json: &str, conditions: &[(String, String)]) -> bool {
    if conditions.is_empty() {
        return true;
    }
    let Ok(root) = serde_json::from_str::<Value>(json) else { return false };
    conditions.iter().all(|(path, value)| at(&root, path).is_some_and(|found| is(found, value)))
}

/// Value at a path: keys of objects and indexes of arrays, separated by dots.
fn at<'a>(root: &'a Value, path: &str) -> Option<&'a Value> {
    keys(path).iter().try_fold(root, |value, key| match value {
        Value::Object(fields) => fields.get(key),
        Value::Array(items) => items.get(key.parse::<usize>().ok()?),
        _ => None,
    })
}

/// Keys of a path. A backslash makes the next character part of its key.
fn keys(path: &str) -> Vec<String> {
    let mut keys = vec![String::new()];
    let mut characters = path.chars();
    while let Some(character) = characters.next() {
        match character {
            '.' => keys.push(String::new()),
            other => {
                let literal = if other == '\\' { characters.next().unwrap_or(other) } else { other };
                if let Some(key) = keys.last_mut() {
                    key.push(literal);
                }
            }
        }
    }
    keys
}

fn is(found: &Value, value: &str) -> bool {
    match found {
        Value::String(text) => text == value,
        Value::Bool(it) => value == if *it { "true" } else { "false" },
        Value::Null => value == "null",
        Value::Number(number) => {
            let same = |other: f64| number.as_f64() == Some(other);
            // Whole numbers are compared as such, because f64 holds only 53 bits of them.
            match (number.as_i128(), value.parse::<i128>()) {
                (Some(number), Ok(value)) => number == value,
                _ => value.parse().is_ok_and(same),
            }
        }
        Value::Array(_) | Value::Object(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{"customer": {"id": 42, "name": "Ada", "big": 9007199254740993, "a.b": [true, null, 1.50]},
                           "": "none", "text": "42"}"#;

    fn test(path: &str, value: &str) -> bool {
        matches(JSON, &[(path.to_owned(), value.to_owned())])
    }

    #[test]
    fn values_are_found_by_their_path() {
        for (path, value) in [
            ("customer.id", "42"),
            ("customer.id", "42.0"),
            ("customer.name", "Ada"),
            (r"customer.a\.b.0", "true"),
            (r"customer.a\.b.1", "null"),
            (r"customer.a\.b.2", "1.5"),
            ("customer.big", "9007199254740993"),
            ("text", "42"),
            ("", "none"),
        ] {
            assert!(test(path, value), "{path} {value}");
        }
        for (path, value) in [
            ("customer.id", "43"),
            ("customer.id", ""),
            ("customer.id.x", "42"),
            ("customer.name", "ada"),
            ("customer", "42"),
            ("customer.a.b.0", "true"),
            (r"customer.a\.b.9", "true"),
            (r"customer.a\.b.1", ""),
            ("customer.big", "9007199254740992"),
            ("nothing", "null"),
        ] {
            assert!(!test(path, value), "{path} {value}");
        }
    }

    #[test]
    fn all_conditions_must_hold() {
        let condition = |path: &str, value: &str| (path.to_owned(), value.to_owned());
        assert!(matches(JSON, &[condition("text", "42"), condition("customer.id", "42")]));
        assert!(!matches(JSON, &[condition("text", "42"), condition("customer.id", "1")]));
        assert!(matches("not JSON", &[]));
        assert!(!matches("not JSON", &[condition("a", "b")]));
    }
}
