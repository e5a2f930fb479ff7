//! Builds the dashboard into dist/: trunk, then wasm-opt, then compressed copies beside the files.

mod compress;
mod fresh;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use sha2::{Digest as _, Sha384};

use self::fresh::Fresh;
use crate::process;
use crate::progress::{Step, Task};
use crate::setup::{self, Toolchain};
use crate::workspace::Workspace;

/// Kind of a dashboard build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Build {
    /// As small as possible, for releases and tests.
    Release,
    /// In a fraction of the time, for a server on the same machine, from which a few megabytes arrive at once.
    Quick,
}

impl Build {
    /// Name of the profile in Cargo.toml.
    const fn profile(self) -> &'static str {
        match self {
            Self::Release => "wasm-release",
            Self::Quick => "wasm-quick",
        }
    }
}

/// Task that builds dist/; `None` when nothing that goes into it has changed. A release build also serves where a quick
/// build is asked for.
pub(crate) fn task(workspace: &Workspace, how: Build) -> Option<Task<'_>> {
    let is_current = |how| Fresh::new(workspace, how).and_then(|fresh| fresh.is_current()).unwrap_or(false);
    if is_current(Build::Release) || (how == Build::Quick && is_current(how)) {
        return None;
    }
    Some(Task::new("the dashboard (trunk)", "the server carries it inside", move |step| build(workspace, how, step)))
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

fn build(workspace: &Workspace, how: Build, step: &Step) -> Result<()> {
    let log = workspace.log("dashboard");
    let dist = workspace.dist();
    // Hashed before the build, because edits made while it runs are not in it.
    let fresh = Fresh::new(workspace, how);
    let mut command = trunk(workspace)?;
    command.args(["build", "--release", "--cargo-profile", how.profile(), "--color", "never", "--dist"]).arg(&dist);
    process::logged(&mut command, &log, step)?;
    // Neither wasm-opt nor compression is worth its time for a browser on the same machine.
    if how == Build::Release {
        for file in files(&dist)? {
            if file.extension().is_some_and(|extension| extension == "wasm") {
                step.note("wasm-opt");
                optimise(workspace, &file, &log, step)?;
            }
        }
        step.note("compressing");
        for file in files(&dist)? {
            compress::beside(&file)?;
        }
    }
    fresh?.write()
}

/// Options of wasm-opt, with the features that rustc's own output uses. With all features enabled, wasm-opt writes
/// imports that browsers refuse.
const WASM_OPT: [&str; 7] = [
    "-Oz",
    "--enable-bulk-memory",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
];

/// Shrinks a WebAssembly file in place, where wasm-opt is installed.
fn optimise(workspace: &Workspace, wasm: &Path, log: &Path, step: &Step) -> Result<()> {
    let Some(mut command) = setup::wasm_opt(workspace) else { return Ok(()) };
    let before = fs::read(wasm)?;
    let output = wasm.with_extension("optimised");
    process::logged(command.args(WASM_OPT).arg(wasm).arg("-o").arg(&output), log, step)?;
    fs::rename(&output, wasm)?;
    // The page contains the hash of the file as trunk wrote it, and a browser refuses a file that does not match.
    let page = workspace.dist().join("index.html");
    let html = fs::read_to_string(&page).with_context(|| format!("cannot read {}", page.display()))?;
    fs::write(&page, html.replace(&integrity(&before), &integrity(&fs::read(wasm)?)))?;
    Ok(())
}

/// Subresource integrity value of `bytes`, as trunk computes it.
fn integrity(bytes: &[u8]) -> String {
    format!("sha384-{}", BASE64_STANDARD.encode(Sha384::digest(bytes)))
}

/// Files below a folder, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            } else {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integrity_is_what_browsers_compare() {
        // The known value of an empty file.
        let empty = "sha384-OLBgp1GsljhM2TJ+sbHjaiH9txEUvgdDTAzHv2P24donTt6/529l+9Ua0vFImLlb";
        assert_eq!(integrity(b""), empty);
    }

    #[test]
    fn files_are_found_at_every_depth() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("a/b")).unwrap();
        for file in ["z", "a/b/c"] {
            fs::write(folder.path().join(file), "").unwrap();
        }
        assert_eq!(files(folder.path()).unwrap(), ["a/b/c", "z"].map(|file| folder.path().join(file)));
    }
}
