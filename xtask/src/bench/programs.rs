//! Release programs of the benchmark, how they are built, and the folder of their results.

use std::path::PathBuf;

use anyhow::Result;

use crate::cargo::cargo;
use crate::process;
use crate::progress::Task;
use crate::setup::{self, Need};
use crate::workspace::Workspace;

/// Task that builds the server and the bench in release mode.
pub(super) fn build_task(workspace: &Workspace) -> Task<'_> {
    Task::new("server and bench", "release build", move |step| {
        let mut build = cargo();
        build.current_dir(&workspace.root).env("CARGO_TERM_COLOR", "never");
        build.args(["build", "--release", "--bins", "--package", "jobqueue-server", "--package", "jobqueue-bench"]);
        process::logged(&mut build, &workspace.log("bench"), step)
    })
}

/// Task that builds the peers that are written in Rust, in their own workspace.
pub(super) fn build_peers_task(workspace: &Workspace) -> Task<'_> {
    Task::new("the peers written in Rust", "release build", move |step| {
        let mut build = cargo();
        build.current_dir(workspace.root.join("bench/peers/rust")).env("CARGO_TERM_COLOR", "never");
        build.args(["build", "--release", "--locked", "--bins", "--target-dir", "target"]);
        process::logged(&mut build, &workspace.log("bench-peers"), step)
    })
}

pub(super) fn program(workspace: &Workspace) -> PathBuf {
    workspace.binary("release", "jobqueue-bench")
}

/// Folder in which results and pictures are written.
pub(super) fn results(workspace: &Workspace) -> PathBuf {
    workspace.target.join("bench")
}

/// Installs the needs and builds the programs.
pub(super) fn prepare(workspace: &Workspace, needs: &[Need]) -> Result<()> {
    let mut plan = setup::plan(workspace, needs)?;
    plan.push(build_task(workspace));
    plan.run()
}
