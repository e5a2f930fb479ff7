//! Texts that stand for values.

/// Returns `text`, or a dash when it is empty.
pub fn or_dash(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_text_is_a_dash() {
        assert_eq!((or_dash("").as_str(), or_dash("email").as_str()), ("–", "email"));
    }
}
