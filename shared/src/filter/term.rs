//! Terms of the text form: where each begins and ends, its key and its values.

use std::ops::Range;

use super::error::ParseError;

/// A term of a filter's text. Places are bytes of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub span: Range<usize>,
    /// The text in front of the colon; `None` for a bare word.
    pub key: Option<String>,
    /// Path in the payload, if the key is `payload.`.
    pub path: Option<String>,
    /// Values, separated by commas; at least one, which can be empty.
    pub values: Vec<Value>,
}

/// A value of a term, without its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub at: usize,
    pub text: String,
    pub quoted: bool,
}

/// Splits a text into its terms.
pub fn terms(text: &str) -> Result<Vec<Term>, ParseError> {
    let mut reader = Reader { text, at: 0 };
    let mut terms = Vec::new();
    loop {
        reader.skip(char::is_whitespace);
        if reader.peek().is_none() {
            return Ok(terms);
        }
        terms.push(reader.term()?);
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn skip(&mut self, while_it: impl Fn(char) -> bool) {
        while self.peek().is_some_and(&while_it) {
            self.next();
        }
    }

    fn error<T>(&self, at: usize, message: impl Into<String>) -> Result<T, ParseError> {
        Err(ParseError::new(self.text, at, message))
    }

    fn term(&mut self) -> Result<Term, ParseError> {
        let start = self.at;
        let (key, path) = self.key()?;
        let mut values = Vec::new();
        loop {
            values.push(self.value()?);
            match self.peek() {
                Some(',') => drop(self.next()),
                None => break,
                Some(next) if next.is_whitespace() => break,
                Some(_) => return self.error(self.at, "expected a space or a comma after the closing quote"),
            }
        }
        Ok(Term { span: start..self.at, key, path, values })
    }

    /// Reads a key with its colon. Reads nothing if the term is a bare word.
    fn key(&mut self) -> Result<(Option<String>, Option<String>), ParseError> {
        let start = self.at;
        if self.text[start..].starts_with("payload.\"") {
            self.at += "payload.".len();
            let path = self.value()?.text;
            if self.next() != Some(':') {
                return self.error(self.at, "expected a colon after the path in the payload");
            }
            return Ok((Some("payload.".to_owned()), Some(path)));
        }
        let word: String =
            self.text[start..].chars().take_while(|it| !it.is_whitespace() && !matches!(it, ':' | '"')).collect();
        if !self.text[start + word.len()..].starts_with(':') {
            return Ok((None, None));
        }
        self.at += word.len() + 1;
        let path = word.strip_prefix("payload.").map(str::to_owned);
        Ok((Some(word), path))
    }

    fn value(&mut self) -> Result<Value, ParseError> {
        let at = self.at;
        if self.peek() == Some('"') {
            return Ok(Value { at, text: self.quoted()?, quoted: true });
        }
        self.skip(|it| !it.is_whitespace() && !matches!(it, ',' | '"'));
        if self.peek() == Some('"') {
            return self.error(self.at, "a quote must be around the whole value");
        }
        Ok(Value { at, text: self.text[at..self.at].to_owned(), quoted: false })
    }

    fn quoted(&mut self) -> Result<String, ParseError> {
        let start = self.at;
        self.next();
        let mut text = String::new();
        loop {
            let at = self.at;
            match self.next() {
                None => return self.error(start, "the closing quote of this value is missing"),
                Some('"') => return Ok(text),
                Some('\\') => match self.next() {
                    Some(it @ ('"' | '\\')) => text.push(it),
                    Some('n') => text.push('\n'),
                    Some('r') => text.push('\r'),
                    Some('t') => text.push('\t'),
                    Some('u') => text.push(self.code_point(at)?),
                    _ => return self.error(at, r#"after a backslash, expected " \ n r t or u{…}"#),
                },
                Some(it) => text.push(it),
            }
        }
    }

    /// Reads `{1f600}`, the rest of a character that is given by its code point.
    fn code_point(&mut self, at: usize) -> Result<char, ParseError> {
        let rest = &self.text[self.at..];
        let digits = rest.strip_prefix('{').and_then(|rest| rest.split_once('}')).map(|(digits, _)| digits);
        let found = digits.and_then(|it| u32::from_str_radix(it, 16).ok()).and_then(char::from_u32);
        match (found, digits) {
            (Some(found), Some(digits)) => {
                self.at += digits.len() + 2;
                Ok(found)
            }
            _ => self.error(at, r"expected the code point of a character, such as \u{202e}"),
        }
    }
}
