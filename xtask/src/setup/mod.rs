//! Plan that installs what a command needs and this machine does not have.
//!
//! No program is installed twice, and nothing of the user's is replaced: programs built here go under target/tools, and
//! only Debian packages and the WebAssembly target go into the system.

mod apt;
mod cargo_tools;
mod need;
mod node;
mod python;
mod stamp;
mod system;
mod wasm;

use std::collections::BTreeSet;
use std::process::ExitCode;

use anyhow::Result;

pub(crate) use self::cargo_tools::{find as tool, versions as tool_versions};
pub(crate) use self::need::Need;
pub(crate) use self::node::{find as node, wasm_opt};
pub(crate) use self::python::interpreter as python;
pub(crate) use self::system::chromium;
use self::system::has_program;
pub(crate) use self::wasm::Toolchain;
use crate::process;
use crate::progress::{Plan, Task};
use crate::workspace::Workspace;

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
            Need::Chromium if chromium().is_none() => {
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
