//! Commands that run a part of the test suite.

use std::io::IsTerminal as _;
use std::process::Command;
use std::thread;

use super::parts::Part;
use super::programs::Program;
use crate::cargo::{cargo, test_features};
use crate::setup;
use crate::workspace::Workspace;

/// Commands that run the part, one after the other, with `options` for the test programs; empty when the part has
/// no programs.
pub(crate) fn commands(
    part: Part,
    workspace: &Workspace,
    programs: &[Program],
    with_dashboard: bool,
    options: &[String],
) -> Vec<Command> {
    match part {
        Part::Browser => {
            let mut node = Command::new(setup::node().unwrap_or_else(|| "node".into()));
            node.current_dir(workspace.root.join("tests/browser")).args(["--test", "--test-reporter=spec"]);
            node.arg(format!("--test-concurrency={}", cores() + 1)).args(options);
            vec![node]
        }
        Part::Doc => {
            let mut command = cargo();
            command.current_dir(&workspace.root).args(["test", "--workspace", "--no-fail-fast", "--doc"]);
            command.args(test_features(with_dashboard)).args(["--", "--color", colour()]).args(options);
            vec![command]
        }
        _ => programs
            .iter()
            .filter(|program| part.has(program.integration, &program.name))
            .map(|program| {
                let mut command = program.command();
                command.args(["--color", colour()]);
                if let Some(threads) = threads(part).filter(|_| !options.iter().any(|it| it.contains("threads"))) {
                    command.arg(format!("--test-threads={threads}"));
                }
                command.args(options);
                command
            })
            .collect(),
    }
}

/// Number of tests at once, where it is not one for each processor: tests of a store wait for its disk at times,
/// and those of whole programs mostly for leases and time limits.
fn threads(part: Part) -> Option<usize> {
    match part {
        Part::Store => Some(2 * cores()),
        Part::E2e | Part::Other => Some(4 * cores()),
        _ => None,
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(2, usize::from)
}

/// Value of `--color` for test programs. They cannot detect the terminal, because their output passes through here.
fn colour() -> &'static str {
    if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() { "always" } else { "never" }
}
