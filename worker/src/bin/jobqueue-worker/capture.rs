//! Bounded captures of a command's output or a response's body, and their conversion to a job's result.

use std::collections::VecDeque;

use jobqueue_worker::{Output, limits};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// First bytes of a stream: more than a result may have, so that one that is too large can be told from one that fits.
#[derive(Default)]
pub(crate) struct Head {
    kept: Vec<u8>,
    total: u64,
}

/// Last bytes of a stream, as many as fit into an error's text.
#[derive(Default)]
pub(crate) struct Tail {
    kept: VecDeque<u8>,
    cut: bool,
}

impl Head {
    // Maximum number of bytes kept: twice the limit of a result, which may be surrounded by white space.
    const MOST: usize = 2 * limits::RESULT;

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        let room = Self::MOST.saturating_sub(self.kept.len());
        self.kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.total += bytes.len() as u64;
    }

    /// True when the stream has exceeded `MOST`: reading on would change only the size that the note gives.
    pub(crate) fn is_full(&self) -> bool {
        self.total > Self::MOST as u64
    }

    pub(crate) async fn fill(&mut self, mut stream: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            self.push(&buffer[..read]);
        }
    }

    /// Converts the bytes to a result: JSON as it is, other text as a JSON string without its last line break, and only
    /// white space as no result. An oversized stream leaves a note instead.
    pub(crate) fn into_output(self) -> Output {
        if self.is_full() {
            return Output::too_large(self.total);
        }
        let text = String::from_utf8_lossy(&self.kept);
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Output::none();
        }
        if serde_json::from_str::<serde::de::IgnoredAny>(trimmed).is_ok() {
            return Output::json(trimmed);
        }
        let text = text.strip_suffix('\n').unwrap_or(&text);
        Output::of(&text.strip_suffix('\r').unwrap_or(text))
    }

    pub(crate) fn text(&self) -> String {
        limits::cut(String::from_utf8_lossy(&self.kept).trim(), limits::ERROR).to_owned()
    }
}

impl Tail {
    // Maximum number of bytes kept; the rest of an error's limit is for the text before it.
    const MOST: usize = limits::ERROR - 256;

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.kept.extend(&bytes[bytes.len().saturating_sub(Self::MOST)..]);
        let surplus = self.kept.len().saturating_sub(Self::MOST);
        self.kept.drain(..surplus);
        self.cut |= surplus > 0 || bytes.len() > Self::MOST;
    }

    pub(crate) async fn fill(&mut self, mut stream: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            self.push(&buffer[..read]);
        }
    }

    /// Captured text; it begins with … when earlier bytes were dropped.
    pub(crate) fn text(&self) -> String {
        let bytes: Vec<u8> = self.kept.iter().copied().collect();
        let text = String::from_utf8_lossy(&bytes);
        let cut = if self.cut { "…" } else { "" };
        format!("{cut}{}", text.trim())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(text: impl AsRef<[u8]>) -> Output {
        let mut head = Head::default();
        text.as_ref().chunks(1_000).for_each(|chunk| head.push(chunk));
        head.into_output()
    }

    #[test]
    fn json_stays_as_it_is_and_anything_else_becomes_a_string() {
        for (text, result) in [
            ("{\"a\": 1e999}\n", "{\"a\": 1e999}"),
            (" 7 ", "7"),
            ("null\n", "null"),
            ("hello\n", "\"hello\""),
            ("two\nlines\r\n", "\"two\\nlines\""),
            ("  {not json\n", "\"  {not json\""),
            ("a\0b", "\"a\\u0000b\""),
        ] {
            assert_eq!(output(text), Output::json(result), "{text:?}");
        }
        assert_eq!(output(b"\xff\n"), Output::json("\"\u{fffd}\""));
        assert_eq!(output(" \n"), Output::none());
    }

    #[test]
    fn a_result_that_is_too_large_is_left_out_with_a_note() {
        let text = "x".repeat(limits::RESULT - 2);
        assert_eq!(output(&text), Output::json(format!("\"{text}\"")));
        assert_eq!(output("x".repeat(limits::RESULT)), Output::too_large(limits::RESULT as u64 + 2));
        assert_eq!(output("x".repeat(1_000_000)), Output::too_large(1_000_000));
    }

    #[test]
    fn the_tail_keeps_the_end() {
        let mut tail = Tail::default();
        tail.push(b"error: disk full\n");
        assert_eq!(tail.text(), "error: disk full");
        tail.push("é".repeat(10_000).as_bytes());
        tail.push(b"\xc3end\n");
        let text = tail.text();
        assert!(text.starts_with('…') && text.ends_with("éé\u{fffd}end"), "{text}");
        assert!(text.len() <= limits::ERROR, "{}", text.len());
    }
}
