//! Node and the packages that run on it: wasm-opt, the browser tests, the Node example and the peers of the bench.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt::Package;
use super::stamp::Stamp;
use crate::process;
use crate::progress::Task;
use crate::workspace::Workspace;

/// Oldest major version of Node with a test runner.
const NODE_MINIMUM: u32 = 18;

/// npm's package of wasm-opt. Debian's version is too old for what rustc emits.
const BINARYEN: &str = "binaryen@132.0.0";

/// Path of the node on PATH, if it is new enough.
pub(crate) fn find() -> Option<PathBuf> {
    let node = process::which(&["node", "nodejs"])?;
    let version = process::output(Command::new(&node).arg("--version")).ok()?;
    process::version(&version).filter(|numbers| numbers[0] >= NODE_MINIMUM).map(|_| node)
}

/// Debian packages that provide node and npm, where these are missing.
pub(crate) fn missing_packages() -> Vec<Package> {
    let mut packages = Vec::new();
    if find().is_none() {
        packages.push(Package { name: "nodejs", why: "browser tests and the Node example run on it" });
    }
    if process::which(&["npm"]).is_none() {
        packages.push(Package { name: "npm", why: "installs what they import" });
    }
    packages
}

/// Command that runs wasm-opt; `None` where node or the package is missing.
pub(crate) fn wasm_opt(workspace: &Workspace) -> Option<Command> {
    let script = wasm_opt_script(workspace);
    if !script.exists() || !wasm_opt_stamp(workspace).is_current() {
        return None;
    }
    let mut command = Command::new(find()?);
    command.arg(script);
    Some(command)
}

/// Task that installs wasm-opt; `None` when it is installed, or when there is no node to run it, because it only makes
/// the dashboard smaller.
pub(crate) fn wasm_opt_task(workspace: &Workspace) -> Option<Task<'_>> {
    if wasm_opt(workspace).is_some() || find().is_none() || process::which(&["npm"]).is_none() {
        return None;
    }
    let task = Task::new(format!("wasm-opt from npm's {BINARYEN}"), "makes the dashboard smaller", |step| {
        let folder = workspace.tools().join("npm");
        std::fs::create_dir_all(&folder)?;
        let mut npm = npm();
        npm.args(["install", "--no-save", "--no-package-lock", "--prefix"]).arg(&folder).arg(BINARYEN);
        process::logged(&mut npm, &workspace.log("npm"), step)?;
        wasm_opt_stamp(workspace).write()
    });
    Some(task.optional("The dashboard will work, but be a third larger."))
}

/// Task that runs `npm ci` in a folder of the repository; `None` when it was run for this package-lock.json.
pub(crate) fn packages_task<'a>(workspace: &'a Workspace, folder: &str, whose: &str) -> Result<Option<Task<'a>>> {
    let path = workspace.root.join(folder);
    if !path.join("package.json").exists() {
        return Ok(None);
    }
    let lock = std::fs::read(path.join("package-lock.json"))
        .with_context(|| format!("{folder} has a package.json but no package-lock.json"))?;
    let stamp = Stamp::new(workspace, &format!("npm-{}", folder.replace('/', "-")), &lock);
    if path.join("node_modules").exists() && stamp.is_current() {
        return Ok(None);
    }
    Ok(Some(Task::new(format!("npm packages of {folder}"), format!("for {whose}"), move |step| {
        process::logged(npm().arg("ci").current_dir(&path), &workspace.log("npm"), step)?;
        stamp.write()
    })))
}

fn wasm_opt_script(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("npm/node_modules/binaryen/bin/wasm-opt")
}

fn wasm_opt_stamp(workspace: &Workspace) -> Stamp {
    Stamp::new(workspace, "wasm-opt", BINARYEN.as_bytes())
}

fn npm() -> Command {
    let mut command = Command::new("npm");
    command.args(["--no-audit", "--no-fund", "--no-update-notifier"]);
    // The tests drive the system's browser, so that none has to be downloaded.
    command.env("PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD", "1");
    command
}
