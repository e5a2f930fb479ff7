//! Table of results: cells with the values of all repetitions, printed as Markdown with their medians.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::stats::median;

/// Table of results, a row for each case that was measured.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Cell>>,
}

/// Cell of a table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cell {
    Text(String),
    /// Value of each repetition, of which the median is shown.
    Values(Vec<f64>),
    /// Part of a whole: 0.5 is shown as 50 %.
    Share(f64),
}

impl Cell {
    /// Share `part / whole`; empty where the whole is not known.
    pub fn share(part: f64, whole: Option<f64>) -> Self {
        match whole {
            Some(whole) if whole > 0.0 => Self::Share(part / whole),
            _ => Self::Text(String::new()),
        }
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Values(vec![value])
    }
}

impl From<&[f64]> for Cell {
    fn from(values: &[f64]) -> Self {
        Self::Values(values.to_vec())
    }
}

impl From<&Vec<f64>> for Cell {
    fn from(values: &Vec<f64>) -> Self {
        Self::Values(values.clone())
    }
}

impl Table {
    pub fn new<C: Into<String> + Clone>(title: impl Into<String>, columns: &[C]) -> Self {
        Self { title: title.into(), columns: columns.iter().cloned().map(Into::into).collect(), rows: Vec::new() }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Table in GitHub's Markdown; columns of numbers are aligned to the right.
    pub fn markdown(&self) -> String {
        let numeric: Vec<bool> = (0..self.columns.len())
            .map(|index| {
                let mut cells = self.rows.iter().filter_map(|row| row.get(index));
                cells.any(|cell| !matches!(cell, Cell::Text(_)))
            })
            .collect();
        let mut text = String::new();
        if !self.title.is_empty() {
            let _ = writeln!(text, "**{}**\n", self.title);
        }
        let _ = writeln!(text, "| {} |", self.columns.join(" | "));
        let rule: Vec<&str> = numeric.iter().map(|&numeric| if numeric { "--:" } else { "---" }).collect();
        let _ = writeln!(text, "| {} |", rule.join(" | "));
        for row in &self.rows {
            let cells: Vec<String> = row.iter().map(shown).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.replace('|', "\\|"),
        Cell::Values(values) if values.is_empty() => String::new(),
        Cell::Values(values) => number(median(values)),
        Cell::Share(share) if share.abs() < 0.1 => format!("{:.1} %", share * 100.0),
        Cell::Share(share) => format!("{:.0} %", share * 100.0),
    }
}

/// Number with three significant digits and separated thousands: `1,234,567`, `83.1`, `0.052`.
pub fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        let digits = format!("{size:.0}");
        let sign = if value < 0.0 { "-" } else { "" };
        let first = digits.len() % 3;
        let mut groups: Vec<&str> = if first > 0 { vec![&digits[..first]] } else { Vec::new() };
        groups.extend((first..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
        return format!("{sign}{}", groups.join(","));
    }
    match size {
        0.0 => "0".to_owned(),
        10.0.. => format!("{value:.1}"),
        1.0.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_three_digits_that_count() {
        let shown = [0.0, 0.052, 1.234, 83.14, 999.4, 1_000.0, 14_049.6, 1_234_567.0, -2_500.0].map(number);
        assert_eq!(shown, ["0", "0.052", "1.23", "83.1", "999", "1,000", "14,050", "1,234,567", "-2,500"]);
    }

    #[test]
    fn a_table_shows_medians_and_shares_and_keeps_all_values() {
        let mut table = Table::new("submit", &["callers", "jobs/s", "of echo"]);
        let rates = vec![900.0, 1_500.0, 1_200.0];
        table.row(["16 | at once".into(), (&rates).into(), Cell::share(1_200.0, Some(4_800.0))]);
        table.row(["lone".into(), 7.5.into(), Cell::share(1.0, None)]);
        let lines: Vec<String> = table.markdown().lines().map(str::to_owned).collect();
        assert_eq!(lines[0], "**submit**");
        assert_eq!(lines[2], "| callers | jobs/s | of echo |");
        assert_eq!(lines[3], "| --- | --: | --: |");
        assert_eq!(lines[4], "| 16 \\| at once | 1,200 | 25 % |");
        assert_eq!(lines[5], "| lone | 7.50 |  |");
        assert!(serde_json::to_string(&table).unwrap().contains("[900.0,1500.0,1200.0]"));
    }
}
