//! Errors of the text form.

/// Place where a filter's text is not understood, and what was expected there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("position {}: {message}", at + 1)]
pub struct ParseError {
    /// Number of characters before the place.
    pub at: usize,
    pub message: String,
}

impl ParseError {
    /// Error at a byte of `text`.
    pub(super) fn new(text: &str, byte: usize, message: impl Into<String>) -> Self {
        Self { at: text[..text.floor_char_boundary(byte)].chars().count(), message: message.into() }
    }
}
