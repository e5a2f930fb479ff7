//! Needs of each command, and the plan that installs those that are missing.
//!
//! No program is installed twice, and nothing of the user's is replaced: programs built here go under target/tools, and
//! only Debian packages and the WebAssembly target go into the system.

mod apt;
mod cargo_tools;
mod node;
mod python;
mod wasm;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use sha2::{Digest as _, Sha256};

pub(crate) use self::cargo_tools::{find as tool, versions as tool_versions};
pub(crate) use self::node::{find as node, find_chromium as chromium, wasm_opt};
pub(crate) use self::python::interpreter as python;
pub(crate) use self::wasm::Toolchain;
use crate::process;
use crate::progress::{Plan, Task};
use crate::workspace::Workspace;

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
    const ALL: [Self; 14] = [
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

/// Runs `cargo xtask setup`.
pub(crate) fn run(workspace: &Workspace) -> Result<ExitCode> {
    let plan = plan(workspace, &Need::ALL)?;
    plan.run()?;
    eprintln!("everything is installed");
    Ok(ExitCode::SUCCESS)
}

/// Checks what is installed and returns the tasks that install the rest; empty when nothing is missing.
///
/// # Errors
/// When Debian packages are missing and cannot be installed from here; the message names them.
pub(crate) fn plan<'a>(workspace: &'a Workspace, needs: &[Need]) -> Result<Plan<'a>> {
    let needs: BTreeSet<Need> = needs.iter().copied().collect();
    let mut packages = Vec::new();
    let mut tools = Vec::new();
    let mut tasks: Vec<Task<'a>> = Vec::new();
    for need in needs {
        match need {
            Need::Postgres if jobqueue_test_postgres::check_installed().is_err() => {
                packages.push(apt::Package { name: "postgresql", why: "tests run on a PostgreSQL of their own" });
            }
            // Debian starts PgBouncer's service, which is in nobody's way: the tests run PgBouncer on ports of their
            // own.
            Need::PgBouncer if !has_program("pgbouncer") => {
                packages.push(apt::Package { name: "pgbouncer", why: "the store's tests also run behind it" });
            }
            Need::Strace if !has_program("strace") => {
                packages.push(apt::Package { name: "strace", why: "it lets the syncs of a process fail" });
            }
            Need::Faketime if !has_program("faketime") => {
                packages.push(apt::Package { name: "faketime", why: "it gives a process a clock that is wrong" });
            }
            Need::Chromium if node::find_chromium().is_none() => {
                packages.push(apt::Package { name: "chromium", why: "the browser tests drive it" });
            }
            Need::Node => packages.extend(node::missing_packages()),
            Need::WasmTarget => tasks.extend(wasm::task(workspace)?),
            Need::Trunk | Need::WasmBindgen | Need::CargoDeny | Need::Inferno => tools.push(need),
            Need::WasmOpt => tasks.extend(node::wasm_opt_task(workspace)),
            Need::BrowserTests => tasks.extend(node::packages_task(workspace, "tests/browser", "the browser tests")?),
            Need::NodeExample => tasks.extend(node::packages_task(workspace, "examples/node", "the Node example")?),
            Need::BenchPeers => tasks.extend(node::packages_task(workspace, "bench/peers/node", "the peers on Node")?),
            Need::Valgrind if process::which(&["valgrind"]).is_none() => {
                packages.push(apt::Package { name: "valgrind", why: "counts instructions" });
            }
            Need::Perf if process::which(&["perf"]).is_none() => {
                packages.push(apt::Package { name: "linux-perf", why: "records profiles" });
            }
            Need::PythonExample => {
                packages.extend(python::missing_packages());
                tasks.extend(python::task(workspace)?);
            }
            Need::Postgres
            | Need::PgBouncer
            | Need::Strace
            | Need::Faketime
            | Need::Chromium
            | Need::Valgrind
            | Need::Perf => {}
        }
    }
    let mut plan = Plan::default();
    if let Some(task) = apt::task(workspace, packages)? {
        plan.push(task);
    }
    for task in cargo_tools::tasks(workspace, tools.into_iter())?.into_iter().chain(tasks) {
        plan.push(task);
    }
    if !plan.is_empty() {
        eprintln!("Missing, and now to be installed (logs in {}):", workspace.target.join("log").display());
        plan.list();
    }
    Ok(plan)
}

/// True when the program is on PATH, or in the folder where Debian puts programs for root only.
fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]);
    folders.into_iter().any(|folder| folder.join(name).is_file())
}

/// Record of the input with which something was installed, so that a change of the input installs it again.
struct Stamp {
    file: PathBuf,
    content: String,
}

impl Stamp {
    fn new(workspace: &Workspace, name: &str, input: &[u8]) -> Self {
        let digest = Sha256::digest(input);
        let content = digest.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
        Self { file: workspace.tools().join("stamps").join(name), content }
    }

    fn is_current(&self) -> bool {
        std::fs::read_to_string(&self.file).is_ok_and(|content| content == self.content)
    }

    fn write(&self) -> Result<()> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&self.file, &self.content))
            .with_context(|| format!("cannot write {}", self.file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_current_for_its_input_only() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().to_owned();
        let workspace = Workspace { root: target.clone(), target };
        let old = Stamp::new(&workspace, "npm", b"lock 1");
        assert!(!old.is_current());
        old.write().unwrap();
        assert!(old.is_current());
        assert!(!Stamp::new(&workspace, "npm", b"lock 2").is_current());
        assert!(!Stamp::new(&workspace, "other", b"lock 1").is_current());
    }

    #[test]
    fn everything_is_installed_once_and_in_order() {
        assert!(Need::ALL.is_sorted());
        assert!(Need::DASHBOARD.iter().all(|need| Need::ALL.contains(need)));
    }
}
