//! Lines of JSON, each the payload of a job.

use jobqueue_shared::{json, limits};

/// Maximum number of lines that are submitted at once.
pub const MOST: usize = 10_000;
/// Maximum number of wrong lines that are named.
const NAMED: usize = 20;

/// Payload, and the number of its line, from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub number: usize,
    pub payload: String,
}

/// Lines of a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    pub jobs: Vec<Line>,
    /// The first wrong lines, with what is wrong.
    pub wrong: Vec<(usize, String)>,
    /// Number of all wrong lines.
    pub wrong_count: usize,
}

impl Lines {
    /// Reads a text. Empty lines do not count; a line is checked as the server will check it.
    pub fn read(text: &str) -> Self {
        let mut lines = Self::default();
        for (at, line) in text.lines().enumerate() {
            let payload = line.trim();
            if payload.is_empty() {
                continue;
            }
            match json::check(payload, limits::PAYLOAD_DEFAULT, limits::JSON_DEPTH) {
                Ok(()) => lines.jobs.push(Line { number: at + 1, payload: payload.to_owned() }),
                Err(error) => {
                    lines.wrong_count += 1;
                    if lines.wrong.len() < NAMED {
                        lines.wrong.push((at + 1, error.to_string().replace(" at line 1 column", " at column")));
                    }
                }
            }
        }
        lines
    }

    pub fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.wrong_count == 0
    }

    /// Reason for which the lines cannot be submitted.
    pub fn problem(&self) -> Option<String> {
        let count = |n: usize| super::super::number::count(super::super::number::length(n));
        if self.jobs.len() + self.wrong_count > MOST {
            let all = count(self.jobs.len() + self.wrong_count);
            return Some(format!("There are {all} lines; at most {} can be submitted at once", count(MOST)));
        }
        match self.wrong_count {
            0 => None,
            1 => Some("1 line is wrong".into()),
            n => Some(format!("{} lines are wrong", count(n))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_lines_do_not_count_and_wrong_ones_are_named() {
        let lines = Lines::read("{\"a\": 1}\n\n  [2]  \r\n{oops}\n\"x\" y\n");
        let jobs: Vec<_> = lines.jobs.iter().map(|it| (it.number, it.payload.as_str())).collect();
        assert_eq!(jobs, [(1, "{\"a\": 1}"), (3, "[2]")]);
        let wrong: Vec<_> = lines.wrong.iter().map(|(number, _)| *number).collect();
        assert_eq!(wrong, [4, 5]);
        assert!(lines.wrong[0].1.contains("at column 2"), "{}", lines.wrong[0].1);
        assert_eq!(lines.problem().as_deref(), Some("2 lines are wrong"));
        assert!(Lines::read(" \n").is_empty());
    }

    #[test]
    fn there_is_a_limit() {
        let text = "1\n".repeat(MOST);
        assert_eq!(Lines::read(&text).problem(), None);
        let more = Lines::read(&(text + "2"));
        assert_eq!(more.problem().unwrap(), "There are 10,001 lines; at most 10,000 can be submitted at once");
        let wrong = Lines::read(&"x\n".repeat(30));
        assert_eq!((wrong.wrong.len(), wrong.wrong_count), (NAMED, 30));
    }
}
