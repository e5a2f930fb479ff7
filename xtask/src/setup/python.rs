//! Python environment under target/tools, for the Python example.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use super::apt::Package;
use super::stamp::Stamp;
use crate::process;
use crate::progress::Task;
use crate::workspace::Workspace;

/// Packages that the example imports, used when it has no requirements.txt of its own.
const REQUIREMENTS: &str = "grpcio\ngrpcio-tools\n";

/// Path of the environment's Python, which exists once the task has run.
pub(crate) fn interpreter(workspace: &Workspace) -> PathBuf {
    workspace.tools().join("venv/bin/python")
}

/// Debian package that provides Python with `venv`, where no Python on this machine has it.
pub(crate) fn missing_packages() -> Option<Package> {
    base().is_none().then_some(Package { name: "python3-venv", why: "the Python example runs in an environment" })
}

/// Task that makes the environment; `None` when it exists with the wanted packages.
pub(crate) fn task(workspace: &Workspace) -> Result<Option<Task<'_>>> {
    let wanted = workspace.root.join("examples/python/requirements.txt");
    let requirements = if wanted.exists() {
        std::fs::read_to_string(&wanted).with_context(|| format!("cannot read {}", wanted.display()))?
    } else {
        REQUIREMENTS.to_owned()
    };
    let stamp = Stamp::new(workspace, "venv", requirements.as_bytes());
    if stamp.is_current() && process::output(Command::new(interpreter(workspace)).args(["-c", "import grpc"])).is_ok() {
        return Ok(None);
    }
    Ok(Some(Task::new("Python packages for gRPC", "for the Python example", move |step| {
        let log = workspace.log("python");
        let venv = workspace.tools().join("venv");
        // The apt task before this one may have installed it.
        let python = base().context("no python3 with venv and ensurepip")?;
        process::logged(Command::new(python).args(["-m", "venv", "--clear"]).arg(&venv), &log, step)?;
        let list = workspace.tools().join("venv-requirements.txt");
        std::fs::write(&list, &requirements)?;
        let mut pip = Command::new(interpreter(workspace));
        pip.args(["-m", "pip", "install", "--disable-pip-version-check", "--no-input", "--requirement"]);
        process::logged(pip.arg(&list), &log, step)?;
        stamp.write()
    })))
}

/// Path of a Python that can make environments: the one on PATH, or else the system's.
fn base() -> Option<PathBuf> {
    let candidates = [process::which(&["python3"]), Some(PathBuf::from("/usr/bin/python3"))];
    candidates
        .into_iter()
        .flatten()
        .find(|python| process::output(Command::new(python).args(["-c", "import venv, ensurepip"])).is_ok())
}
