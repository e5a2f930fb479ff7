//! Pretty-printer for JSON that changes no value: numbers keep their digits, strings their escapes.

/// Kind of a piece of the formatted text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Brackets, colons, commas and white space.
    Mark,
    Key,
    Text,
    Number,
    /// `true`, `false` or `null`.
    Word,
}

/// Formats `text` with an indent of two, in pieces; neighbours of one kind are joined. A text that is not JSON loses
/// nothing but white space.
pub fn pretty(text: &str) -> Vec<(Kind, String)> {
    let mut out = Layout::default();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = token_length(rest, first);
        let (token, after) = rest.split_at(length);
        rest = after.trim_start();
        match first {
            '{' | '[' => {
                out.push(Kind::Mark, token);
                // An empty object or array stays on its line.
                if let Some(close @ ('}' | ']')) = rest.chars().next() {
                    out.push(Kind::Mark, close.encode_utf8(&mut [0; 4]));
                    rest = rest[1..].trim_start();
                } else {
                    out.depth += 1;
                    out.new_line();
                }
            }
            '}' | ']' => {
                out.depth = out.depth.saturating_sub(1);
                out.new_line();
                out.push(Kind::Mark, token);
            }
            ',' => {
                out.push(Kind::Mark, token);
                out.new_line();
            }
            ':' => out.push(Kind::Mark, ": "),
            '"' if rest.starts_with(':') => out.push(Kind::Key, token),
            '"' => out.push(Kind::Text, token),
            '-' | '0'..='9' => out.push(Kind::Number, token),
            _ => out.push(Kind::Word, token),
        }
    }
    out.pieces
}

/// Text of `pretty`, without its kinds.
pub fn indented(text: &str) -> String {
    pretty(text).into_iter().map(|(_, piece)| piece).collect()
}

/// Reason for which a text is not JSON, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Line, and column in characters, both from 1.
    pub line: usize,
    pub column: usize,
    /// Number of UTF-16 units before the place, as browsers count in a text field.
    pub offset: u32,
    pub text: String,
}

/// First problem of `text`; `None` if it is one JSON value.
pub fn problem(text: &str) -> Option<Problem> {
    let error = serde_json::from_str::<serde::de::IgnoredAny>(text).err()?;
    let start: usize = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum();
    // The parser counts bytes, up to and with the one that it cannot read.
    let at = text.floor_char_boundary(start + error.column().saturating_sub(1));
    let words = error.to_string();
    Some(Problem {
        line: error.line().max(1),
        column: text[start.min(at)..at].chars().count() + 1,
        offset: text[..at].encode_utf16().count() as u32,
        text: words.rsplit_once(" at line ").map_or(words.as_str(), |(text, _)| text).to_owned(),
    })
}

#[derive(Default)]
struct Layout {
    pieces: Vec<(Kind, String)>,
    depth: usize,
}

impl Layout {
    fn push(&mut self, kind: Kind, text: &str) {
        match self.pieces.last_mut() {
            Some((last, piece)) if *last == kind => piece.push_str(text),
            _ => self.pieces.push((kind, text.to_owned())),
        }
    }

    fn new_line(&mut self) {
        let line = format!("\n{}", "  ".repeat(self.depth.min(64)));
        self.push(Kind::Mark, &line);
    }
}

fn token_length(rest: &str, first: char) -> usize {
    match first {
        '"' => {
            let mut escaped = false;
            for (at, byte) in rest.bytes().enumerate().skip(1) {
                match byte {
                    _ if escaped => escaped = false,
                    b'\\' => escaped = true,
                    b'"' => return at + 1,
                    _ => {}
                }
            }
            rest.len()
        }
        '{' | '}' | '[' | ']' | ',' | ':' => 1,
        _ => rest
            .find(['{', '}', '[', ']', ',', ':', '"', ' ', '\t', '\n', '\r'])
            .unwrap_or(rest.len())
            .max(first.len_utf8()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text_of(json: &str) -> String {
        pretty(json).into_iter().map(|(_, piece)| piece).collect()
    }

    #[test]
    fn values_keep_every_digit_and_escape() {
        assert_eq!(
            text_of(r#"{"a":1.10,"b":[12345678901234567890,1e-7,{}],"c":"\u00e9 \" [","d":[]}"#),
            "{\n  \"a\": 1.10,\n  \"b\": [\n    12345678901234567890,\n    1e-7,\n    {}\n  ],\n  \"c\": \"\\u00e9 \\\" [\",\n  \"d\": []\n}"
        );
    }

    #[test]
    fn keys_and_values_are_told_apart() {
        let pieces = pretty(r#"{"k":"v","n":-1,"w":null}"#);
        let kinds: Vec<_> = pieces.iter().filter(|(kind, _)| *kind != Kind::Mark).map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [Kind::Key, Kind::Text, Kind::Key, Kind::Number, Kind::Key, Kind::Word]);
    }

    #[test]
    fn scalars_and_broken_texts_come_out() {
        assert_eq!(text_of(" 7 "), "7");
        assert_eq!(text_of("\"<script>\""), "\"<script>\"");
        assert_eq!(text_of("\"open"), "\"open");
    }

    #[test]
    fn a_problem_has_its_place() {
        assert_eq!(problem("{}"), None);
        let found = problem("{\n  \"ä😀\": }").unwrap();
        assert_eq!((found.line, found.column, found.text.as_str()), (2, 9, "expected value"));
        assert_eq!(found.offset, 2 + 9, "the smiley is two units");
        let end = problem("[1,").unwrap();
        assert_eq!((end.line, end.text.as_str()), (1, "EOF while parsing a value"));
        assert_eq!(problem("").unwrap().line, 1);
    }

    fn json() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(Into::into),
            any::<i64>().prop_map(Into::into),
            ".{0,8}".prop_map(Into::into),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
                proptest::collection::btree_map(".{0,4}", inner, 0..4)
                    .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_value_is_the_same(value in json()) {
            let back: serde_json::Value = serde_json::from_str(&text_of(&value.to_string())).unwrap();
            prop_assert_eq!(back, value);
        }

        #[test]
        fn every_problem_is_within_its_text(text in "[\\[\\]{}\",:\\n ä1]{0,20}") {
            if let Some(problem) = problem(&text) {
                prop_assert!(problem.offset as usize <= text.encode_utf16().count());
                prop_assert!(problem.line >= 1 && problem.line <= text.lines().count().max(1) + 1);
            }
        }

        #[test]
        fn any_text_ends_and_loses_nothing_but_space(text in ".{0,60}") {
            let bare = |text: &str| text.chars().filter(|c| !c.is_whitespace()).collect::<String>();
            prop_assert_eq!(bare(&text_of(&text)), bare(&text));
        }
    }
}
