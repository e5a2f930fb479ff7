//! Numbers of tests, from the output of test programs: Rust's `test result:` lines and node's summary.

/// Numbers of tests by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u32,
    pub(crate) failed: u32,
    pub(crate) skipped: u32,
}

impl Counts {
    /// Adds the numbers in a line, if it is a summary.
    pub(crate) fn read(&mut self, line: &str) {
        let line = without_colour(line);
        if let Some(summary) = line.strip_prefix("test result: ") {
            self.passed += number_before(summary, " passed");
            self.failed += number_before(summary, " failed");
            self.skipped += number_before(summary, " ignored");
        }
        // node's `spec` reporter begins its summary lines with an i in a circle.
        let mut words = line.split_whitespace();
        if let (Some("ℹ" | "#"), Some(word), Some(number), None) =
            (words.next(), words.next(), words.next().and_then(|number| number.parse::<u32>().ok()), words.next())
        {
            match word {
                "pass" => self.passed += number,
                "fail" | "cancelled" => self.failed += number,
                "skipped" | "todo" => self.skipped += number,
                _ => {}
            }
        }
    }

    pub(crate) fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }

    pub(crate) fn ran(&self) -> u32 {
        self.passed + self.failed
    }
}

/// Number before a word: 3 for `ok. 3 passed; 0 failed` and ` passed`.
fn number_before(text: &str, word: &str) -> u32 {
    let Some((before, _)) = text.split_once(word) else { return 0 };
    let start = before.rfind(|letter: char| !letter.is_ascii_digit()).map_or(0, |last| last + 1);
    before[start..].parse().unwrap_or(0)
}

/// Removes terminal colours: from ESC to the next letter.
fn without_colour(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut letters = line.trim_end().chars();
    while let Some(letter) = letters.next() {
        if letter == '\u{1b}' {
            letters.by_ref().skip(1).find(char::is_ascii_alphabetic);
        } else {
            text.push(letter);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_and_node_summaries_add_up() {
        let mut counts = Counts::default();
        for line in [
            "running 3 tests",
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.00s\n",
            "test result: \u{1b}[31mFAILED\u{1b}[m. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out",
            "ℹ tests 5",
            "\u{1b}[34mℹ pass 4\u{1b}[39m",
            "ℹ fail 1",
            "ℹ skipped 1",
            "ℹ duration_ms 812.5",
            "log: 9 passed, or so it said",
        ] {
            counts.read(line);
        }
        assert_eq!(counts, Counts { passed: 8, failed: 3, skipped: 2 });
        assert_eq!(counts.ran(), 11);
    }
}
