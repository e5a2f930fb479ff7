//! Results of a scenario: Markdown for people, and the same data as JSON for programs.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::table::Table;

/// Results of one scenario.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    pub scenario: String,
    pub quick: bool,
    pub stores: Vec<String>,
    /// Machine that was measured on; see [`super::machine`].
    pub machine: BTreeMap<String, String>,
    pub tables: Vec<Table>,
    /// Single figures by name, with which other scenarios are compared.
    pub figures: BTreeMap<String, f64>,
    /// Notes that a reader has to know, a sentence each.
    pub notes: Vec<String>,
}

impl Report {
    pub fn new(scenario: &str) -> Self {
        Self { scenario: scenario.to_owned(), ..Self::default() }
    }

    pub fn markdown(&self) -> String {
        let mut text = format!("## {}\n\n", self.scenario);
        for table in &self.tables {
            text.push_str(&table.markdown());
            text.push('\n');
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        text
    }

    pub fn write(&self, file: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))
    }

    /// Reads an earlier report; `None` when there is none that can be read.
    pub fn read(file: &Path) -> Option<Self> {
        serde_json::from_str(&std::fs::read_to_string(file).ok()?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_survives_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("limits.json");
        assert!(Report::read(&file).is_none());
        let mut report = Report::new("limits");
        report.figures.insert("echo.16".to_owned(), 40_000.0);
        report.write(&file).unwrap();
        let read = Report::read(&file).unwrap();
        assert_eq!((read.scenario.as_str(), read.figures.get("echo.16")), ("limits", Some(&40_000.0)));
        std::fs::write(&file, "{").unwrap();
        assert!(Report::read(&file).is_none());
    }
}
