//! Values in the form that the fields of messages to the server take: durations, and texts of bounded length.

use std::time::Duration;

use jobqueue_shared::limits;
use uuid::Uuid;

/// Protobuf duration, saturated: the server refuses values that are out of range, with a better message.
pub(crate) fn duration(duration: Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(duration).unwrap_or(prost_types::Duration { seconds: i64::MAX, nanos: 999_999_999 })
}

/// Idempotency key for a call that its caller gave none.
pub(crate) fn generated_key() -> String {
    format!("auto-{}", Uuid::new_v4())
}

/// Text cut to `max` bytes, between two characters, with a replacement for NUL, the one character that databases cannot
/// store.
pub(crate) fn text(mut text: String, max: usize) -> String {
    if text.contains('\0') {
        text = text.replace('\0', "\u{fffd}");
    }
    text.truncate(limits::cut(&text, max).len());
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_between_characters_and_hold_no_nul() {
        assert_eq!(text("a\0b".to_owned(), 10), "a\u{fffd}b");
        assert_eq!(text("ééé".to_owned(), 5), "éé");
    }
}
