//! Parts of the test suite: the needs of each, and the commands that run it.

use std::process::Command;
use std::thread;

use clap::ValueEnum;

use super::colour;
use super::programs::Program;
use crate::setup::{self, Need};
use crate::workspace::{Workspace, cargo};

/// Part of the test suite that can be run alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Part {
    /// The tests inside the crates; they need nothing installed
    Unit,
    /// The store's conformance suite, on SQLite, PostgreSQL and PostgreSQL behind PgBouncer
    Store,
    /// The real programs over real sockets, faults included
    E2e,
    /// The examples in Rust, Python and Node
    Examples,
    /// A short run of the fault suite on each store
    Faults,
    /// The integration tests that belong to no other part
    Other,
    /// The code in the documentation
    Doc,
    /// The dashboard in a real browser
    Browser,
}

impl Part {
    /// Parts to run: those that the command line named, each once and in order; every part when it named none.
    pub(crate) fn chosen(named: &[Self]) -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|part| named.is_empty() || named.contains(part)).collect()
    }

    pub(crate) fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    pub(crate) fn needs(self) -> Vec<Need> {
        let mut needs = match self {
            Self::Unit | Self::Doc => vec![],
            Self::Store => vec![Need::Postgres, Need::PgBouncer],
            Self::E2e => vec![Need::Postgres, Need::PgBouncer, Need::Strace],
            Self::Faults => Need::FAULTS.to_vec(),
            Self::Other => vec![Need::Postgres],
            Self::Examples => vec![Need::Node, Need::NodeExample, Need::PythonExample],
            Self::Browser => vec![Need::Node, Need::Chromium, Need::BrowserTests],
        };
        if self.needs_dashboard() {
            needs.extend(Need::DASHBOARD);
        }
        needs
    }

    /// Whether the part runs on the cluster that the parts share. The fault suite crashes clusters of its own.
    pub(crate) fn needs_postgres(self) -> bool {
        self != Self::Faults && self.needs().contains(&Need::Postgres)
    }

    pub(crate) fn needs_binaries(self) -> bool {
        matches!(self, Self::E2e | Self::Examples | Self::Faults | Self::Other | Self::Browser)
    }

    pub(crate) fn any_needs_dashboard(parts: &[Self]) -> bool {
        parts.iter().any(|part| part.needs_dashboard())
    }

    /// Whether the part may have no tests: documentation need not hold code.
    pub(crate) fn may_be_empty(self) -> bool {
        self == Self::Doc
    }

    /// Whether the part consists of test programs that are built before.
    pub(crate) fn needs_programs(self) -> bool {
        !matches!(self, Self::Browser | Self::Doc)
    }

    /// Commands that run the part, one after the other, with `options` for the test programs; empty when the part has
    /// no programs.
    pub(crate) fn commands(
        self,
        workspace: &Workspace,
        programs: &[Program],
        with_dashboard: bool,
        options: &[String],
    ) -> Vec<Command> {
        match self {
            Self::Browser => {
                let mut node = Command::new(setup::node().unwrap_or_else(|| "node".into()));
                node.current_dir(workspace.root.join("tests/browser")).args(["--test", "--test-reporter=spec"]);
                node.arg(format!("--test-concurrency={}", cores() + 1)).args(options);
                vec![node]
            }
            Self::Doc => {
                let mut command = cargo();
                command.current_dir(&workspace.root).args(["test", "--workspace", "--no-fail-fast", "--doc"]);
                command.args(features(with_dashboard)).args(["--", "--color", colour()]).args(options);
                vec![command]
            }
            _ => programs
                .iter()
                .filter(|program| self.has(program.integration, &program.name))
                .map(|program| {
                    let mut command = program.command();
                    command.args(["--color", colour()]);
                    if let Some(threads) = self.threads().filter(|_| !options.iter().any(|it| it.contains("threads"))) {
                        command.arg(format!("--test-threads={threads}"));
                    }
                    command.args(options);
                    command
                })
                .collect(),
        }
    }

    /// Whether the part leaves the processors idle most of the time, so that it can run beside others.
    pub(crate) fn mostly_waits(self) -> bool {
        self == Self::Faults
    }

    /// Number of tests at once, where it is not one for each processor: tests of a store wait for its disk at times,
    /// and those of whole programs mostly for leases and time limits.
    fn threads(self) -> Option<usize> {
        match self {
            Self::Store => Some(2 * cores()),
            Self::E2e | Self::Other => Some(4 * cores()),
            _ => None,
        }
    }

    fn needs_dashboard(self) -> bool {
        matches!(self, Self::E2e | Self::Browser)
    }

    /// Whether a test program belongs to the part.
    fn has(self, integration: bool, name: &str) -> bool {
        match self {
            Self::Unit => !integration,
            Self::Other => integration && !Self::value_variants().iter().any(|part| part.target() == Some(name)),
            _ => integration && self.target() == Some(name),
        }
    }

    /// Integration test that the part consists of.
    fn target(self) -> Option<&'static str> {
        match self {
            Self::Store => Some("conformance"),
            Self::E2e => Some("e2e"),
            Self::Examples => Some("examples"),
            Self::Faults => Some("short"),
            _ => None,
        }
    }
}

fn cores() -> usize {
    thread::available_parallelism().map_or(2, usize::from)
}

/// Features with which the workspace is built: the failpoints that tests use, and the dashboard when it has been built.
pub(crate) fn features(with_dashboard: bool) -> [&'static str; 2] {
    let both = "jobqueue-server/failpoints,jobqueue-server/dashboard";
    ["--features", if with_dashboard { both } else { "jobqueue-server/failpoints" }]
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::super::Options;
    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &[&str]) -> Result<Options, String> {
        let words = std::iter::once("test").chain(line.iter().copied());
        Line::try_parse_from(words).map(|line| line.options).map_err(|error| error.to_string())
    }

    #[test]
    fn parts_run_in_their_order_once_and_all_when_none_is_named() {
        let chosen = |line: &[&str]| Part::chosen(&parse(line).unwrap().parts);
        assert_eq!(chosen(&["browser", "store", "store"]), [Part::Store, Part::Browser]);
        assert_eq!(chosen(&[]), Part::value_variants());
        let options = parse(&["store", "--", "settle", "--nocapture"]).unwrap();
        assert_eq!((options.parts, options.options), (vec![Part::Store], vec!["settle".into(), "--nocapture".into()]));
    }

    #[test]
    fn an_unknown_part_is_refused_with_the_known_ones() {
        let error = parse(&["stores"]).err().unwrap();
        assert!(error.contains("stores") && error.contains("conformance") | error.contains("store"), "{error}");
        assert!(error.contains("browser"), "{error}");
    }

    #[test]
    fn every_integration_test_belongs_to_a_part() {
        for test in ["cluster", "conformance", "e2e", "examples", "grpc", "short"] {
            let parts: Vec<Part> = Part::value_variants().iter().copied().filter(|part| part.has(true, test)).collect();
            assert_eq!(parts.len(), 1, "{test}: {parts:?}");
            assert_eq!(parts[0] == Part::Other, ["cluster", "grpc"].contains(&test), "{test}");
        }
        let parts: Vec<Part> = Part::value_variants().iter().copied().filter(|part| part.has(false, "e2e")).collect();
        assert_eq!(parts, [Part::Unit], "a crate's own tests, whatever its name");
    }

    #[test]
    fn a_part_asks_only_for_what_it_uses() {
        assert!(Part::Unit.needs().is_empty());
        assert_eq!(Part::Store.needs(), [Need::Postgres, Need::PgBouncer]);
        assert!(!Part::Examples.needs().contains(&Need::Chromium));
        assert!(Part::Browser.needs().contains(&Need::Trunk));
    }
}
