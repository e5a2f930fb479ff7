//! Instruction counts of the pure functions, by callgrind: they are the same on a machine that is busy with other
//! things.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::programs::{program, results};
use crate::process;
use crate::workspace::Workspace;

/// Numbers of calls in the two runs of a function. The cost of starting the program is in both, and so not in their
/// difference.
const FEW: u64 = 1;
const MANY: u64 = 11;

/// Name of each function, and its instructions per call.
pub(super) fn count(workspace: &Workspace) -> Result<Vec<(String, u64)>> {
    let listed = process::output(Command::new(program(workspace)).arg("pure"))?;
    let mut found = Vec::new();
    for name in listed.lines() {
        let (few, many) = (collected(workspace, name, FEW)?, collected(workspace, name, MANY)?);
        found.push((name.to_owned(), many.saturating_sub(few) / (MANY - FEW)));
    }
    Ok(found)
}

pub(super) fn table(found: &[(String, u64)]) -> String {
    let rows = found.iter().map(|(name, count)| format!("| {name} | {count} |\n"));
    format!("| function | instructions a call |\n| --- | --: |\n{}", rows.collect::<String>())
}

fn collected(workspace: &Workspace, name: &str, calls: u64) -> Result<u64> {
    let folder = results(workspace);
    std::fs::create_dir_all(&folder)?;
    let mut valgrind = Command::new("valgrind");
    valgrind.arg("--tool=callgrind");
    valgrind.arg(format!("--callgrind-out-file={}", folder.join(format!("{name}.callgrind")).display()));
    valgrind.arg(program(workspace)).args(["pure", name, &calls.to_string()]);
    let output = valgrind.output().context("cannot run valgrind")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        bail!("callgrind failed on {name}: {said}");
    }
    parse(&said).with_context(|| format!("callgrind counted nothing: {said}"))
}

/// Parses the number in `==123== Collected : 4567`.
fn parse(said: &str) -> Option<u64> {
    let line = said.lines().find_map(|line| line.split_once("Collected :"))?.1;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_count_is_read_from_what_callgrind_says() {
        let said = "==7== Events    : Ir\n==7== Collected : 1234567\n==7== \n==7== I   refs:      1,234,567\n";
        assert_eq!(parse(said), Some(1_234_567));
        assert_eq!(parse("==7== Command: x"), None);
    }

    #[test]
    fn the_table_has_a_row_a_function() {
        let text = table(&[("settle-500".to_owned(), 7), ("retry-delay".to_owned(), 70)]);
        assert_eq!(text.lines().nth(2), Some("| settle-500 | 7 |"));
        assert_eq!(text.lines().count(), 4);
    }
}
