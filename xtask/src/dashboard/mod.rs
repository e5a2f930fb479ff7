//! Builds the dashboard into dist/: trunk, then wasm-opt, then compressed copies beside the files.

mod build_kind;
mod build_record;
mod compress;
mod files;
mod wasm_opt;

use std::process::Command;

use anyhow::{Context as _, Result};

pub(crate) use self::build_kind::BuildKind;
use self::build_record::BuildRecord;
use self::files::files_below;
use crate::process;
use crate::progress::{Step, Task};
use crate::setup::{self, Toolchain};
use crate::workspace::Workspace;

/// Task that builds dist/; `None` when nothing that goes into it has changed. A release build also serves where a quick
/// build is asked for.
pub(crate) fn task(workspace: &Workspace, kind: BuildKind) -> Option<Task<'_>> {
    let is_current = |kind| BuildRecord::new(workspace, kind).and_then(|record| record.is_current()).unwrap_or(false);
    if is_current(BuildKind::Release) || (kind == BuildKind::Quick && is_current(kind)) {
        return None;
    }
    Some(Task::new("the dashboard (trunk)", "the server carries it inside", move |step| build(workspace, kind, step)))
}

/// Command that runs trunk with the tools of target/tools, without downloading others.
pub(crate) fn trunk(workspace: &Workspace) -> Result<Command> {
    let toolchain = Toolchain::find(workspace)?.context("no compiler for wasm32-unknown-unknown")?;
    let mut command = Command::new(setup::tool(workspace, "trunk"));
    command.current_dir(&workspace.root);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::iter::once(workspace.tools().join("bin")).chain(std::env::split_paths(&path));
    command.env("PATH", std::env::join_paths(folders)?).env("TRUNK_SKIP_VERSION_CHECK", "true");
    // trunk refuses to start when NO_COLOR holds anything but `true` or `false`.
    command.env_remove("NO_COLOR");
    // Flags for the host's compiler, such as -D warnings, would be applied to the browser's target, too.
    command.env_remove("RUSTFLAGS").env_remove("CARGO_ENCODED_RUSTFLAGS");
    toolchain.apply(&mut command, workspace);
    Ok(command)
}

fn build(workspace: &Workspace, kind: BuildKind, step: &Step) -> Result<()> {
    let log = workspace.log("dashboard");
    let dist = workspace.dist();
    // Hashed before the build, because edits made while it runs are not in it.
    let record = BuildRecord::new(workspace, kind);
    let mut command = trunk(workspace)?;
    command.args(["build", "--release", "--cargo-profile", kind.profile(), "--color", "never", "--dist"]).arg(&dist);
    process::logged(&mut command, &log, step)?;
    // Neither wasm-opt nor compression is worth its time for a browser on the same machine.
    if kind == BuildKind::Release {
        for file in files_below(&dist)? {
            if file.extension().is_some_and(|extension| extension == "wasm") {
                step.note("wasm-opt");
                wasm_opt::optimise(workspace, &file, &log, step)?;
            }
        }
        step.note("compressing");
        for file in files_below(&dist)? {
            compress::beside(&file)?;
        }
    }
    record?.write()
}
