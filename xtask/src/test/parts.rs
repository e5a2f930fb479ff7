//! Parts of the test suite: the needs of each, and the test programs that belong to it.

use clap::ValueEnum;

use crate::setup::Need;

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
            Self::E2e => vec![Need::Postgres, Need::PgBouncer, Need::Strace, Need::Faketime],
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

    /// Whether the part leaves the processors idle most of the time, so that it can run beside others.
    pub(crate) fn mostly_waits(self) -> bool {
        self == Self::Faults
    }

    fn needs_dashboard(self) -> bool {
        matches!(self, Self::E2e | Self::Browser)
    }

    /// Whether a test program belongs to the part.
    pub(crate) fn has(self, integration: bool, name: &str) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

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
