//! Needs of the commands: programs and packages, in the order of installing.

/// Program or package that a command cannot do without. The order is the order of installing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Need {
    Postgres,
    PgBouncer,
    Strace,
    Faketime,
    Chromium,
    Node,
    WasmTarget,
    Trunk,
    WasmBindgen,
    WasmOpt,
    CargoDeny,
    BrowserTests,
    NodeExample,
    PythonExample,
    BenchPeers,
    Valgrind,
    Perf,
    Inferno,
}

impl Need {
    /// Needs of building the dashboard.
    pub(crate) const DASHBOARD: [Self; 4] = [Self::WasmTarget, Self::Trunk, Self::WasmBindgen, Self::WasmOpt];
    /// Needs of the fault suite.
    pub(crate) const FAULTS: [Self; 3] = [Self::Postgres, Self::Strace, Self::Faketime];
    /// Needs that `setup` installs. Those of the benchmark alone are installed by its first run.
    pub(super) const ALL: [Self; 14] = [
        Self::Postgres,
        Self::PgBouncer,
        Self::Strace,
        Self::Faketime,
        Self::Chromium,
        Self::Node,
        Self::WasmTarget,
        Self::Trunk,
        Self::WasmBindgen,
        Self::WasmOpt,
        Self::CargoDeny,
        Self::BrowserTests,
        Self::NodeExample,
        Self::PythonExample,
    ];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_installed_once_and_in_order() {
        assert!(Need::ALL.is_sorted());
        assert!(Need::DASHBOARD.iter().all(|need| Need::ALL.contains(need)));
    }
}
