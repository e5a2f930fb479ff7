//! Report on a run: how many jobs were submitted, and exactly which lines were not.

use std::{collections::BTreeMap, ops::RangeInclusive};

use crate::model::number::{count, length};

/// Fate of a line that was not submitted for sure.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fate {
    /// The server refused it, for this reason.
    Refused(String),
    /// The answer to its call was lost: it may have been submitted.
    Unknown,
    /// Never sent.
    NotSent,
}

/// Progress and outcome of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Number of all lines.
    pub total: usize,
    pub submitted: usize,
    /// Number of the submitted lines that an earlier run had submitted.
    pub known: usize,
    /// Line numbers by fate.
    others: BTreeMap<Fate, Vec<usize>>,
    pub is_over: bool,
}

impl Report {
    pub fn of(total: usize) -> Self {
        Self { total, ..Self::default() }
    }

    pub fn add(&mut self, line: usize, fate: Fate) {
        self.others.entry(fate).or_default().push(line);
    }

    /// Number of lines whose fate is decided.
    pub fn settled(&self) -> usize {
        self.submitted + self.others.values().map(Vec::len).sum::<usize>()
    }

    pub fn is_complete(&self) -> bool {
        self.is_over && self.others.is_empty()
    }

    /// True if the same run can go on: what is left was refused by nobody.
    pub fn can_go_on(&self) -> bool {
        self.is_over && self.others.keys().any(|fate| !matches!(fate, Fate::Refused(_)))
    }

    /// Summary in one sentence, such as "Submitted 9,873 of 10,000 jobs".
    pub fn summary(&self) -> String {
        let mut text = format!("Submitted {} of {} jobs", count(length(self.submitted)), count(length(self.total)));
        if self.known > 0 {
            text.extend([", ", &count(length(self.known)), " of them by an earlier try"]);
        }
        text
    }

    /// Sentences about the lines that were not submitted for sure, each with the lines.
    pub fn rest(&self) -> Vec<String> {
        self.others
            .iter()
            .map(|(fate, lines)| {
                let lines = self::lines(lines);
                match fate {
                    Fate::Refused(reason) => format!("Not submitted: {lines}: {reason}"),
                    Fate::Unknown => format!("Not known: {lines}: the answer was lost"),
                    Fate::NotSent => format!("Not submitted: {lines}: not sent"),
                }
            })
            .collect()
    }
}

/// Line numbers as ranges, such as "lines 3, 7–12"; the numbers are ascending.
fn lines(numbers: &[usize]) -> String {
    let mut ranges: Vec<RangeInclusive<usize>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if last.end() + 1 == *number => *last = *last.start()..=*number,
            _ => ranges.push(*number..=*number),
        }
    }
    let text = |it: &RangeInclusive<usize>| {
        if it.start() == it.end() { it.start().to_string() } else { format!("{}–{}", it.start(), it.end()) }
    };
    let noun = if numbers.len() == 1 { "line" } else { "lines" };
    format!("{noun} {}", ranges.iter().map(text).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_report_says_exactly_what_was_not_submitted() {
        let mut report = Report { submitted: 1_993, known: 500, ..Report::of(2_000) };
        report.add(3, Fate::Refused("payload_json is too large".into()));
        for line in [7, 8, 9] {
            report.add(line, Fate::Unknown);
        }
        for line in [11, 13, 14] {
            report.add(line, Fate::NotSent);
        }
        assert_eq!(report.settled(), 2_000);
        report.is_over = true;
        assert!(report.can_go_on() && !report.is_complete());
        assert_eq!(report.summary(), "Submitted 1,993 of 2,000 jobs, 500 of them by an earlier try");
        assert_eq!(
            report.rest(),
            [
                "Not submitted: line 3: payload_json is too large",
                "Not known: lines 7–9: the answer was lost",
                "Not submitted: lines 11, 13–14: not sent",
            ]
        );
    }

    #[test]
    fn what_was_refused_cannot_go_on() {
        let mut report = Report::of(1);
        report.add(1, Fate::Refused("no".into()));
        report.is_over = true;
        assert!(!report.can_go_on() && !report.is_complete());
        assert!(Report { submitted: 1, is_over: true, ..Report::of(1) }.is_complete());
    }

    proptest! {
        #[test]
        fn ranges_hold_every_number(numbers in proptest::collection::btree_set(1_usize..40, 1..20)) {
            let numbers: Vec<_> = numbers.into_iter().collect();
            let text = lines(&numbers);
            let mut back = vec![];
            for part in text.split_once(' ').unwrap().1.split(", ") {
                let (from, to) = part.split_once('–').unwrap_or((part, part));
                back.extend(from.parse::<usize>().unwrap()..=to.parse::<usize>().unwrap());
            }
            prop_assert_eq!(back, numbers);
        }
    }
}
