//! `cargo xtask screenshots`: builds the dashboard and the programs, and takes pictures of every page in its states.

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, test_features};
use crate::progress::Task;
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{dashboard, process};

#[derive(Args)]
pub(crate) struct Options {
    /// Only pictures whose names contain this, such as `queue` or `390-dark`
    #[arg(long, value_name = "PART")]
    only: Option<String>,
    /// Seed that determines the jobs in the pictures [default: 1]
    #[arg(long, value_name = "S")]
    seed: Option<u32>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let needs: Vec<_> = [Need::Node, Need::Chromium, Need::BrowserTests].into_iter().chain(Need::DASHBOARD).collect();
    let mut plan = setup::plan(workspace, &needs)?;
    plan.extend(dashboard::task(workspace, dashboard::BuildKind::Quick));
    plan.push(Task::new("server and worker", "debug build", move |step| {
        let mut build = cargo();
        build.current_dir(&workspace.root).env("CARGO_TERM_COLOR", "never");
        // Built as the tests build it, so that little is compiled twice.
        build.args(["build", "--workspace", "--bins"]).args(test_features(false));
        process::logged(&mut build, &workspace.log("build"), step)
    }));
    plan.run()?;
    let mut script = Command::new(setup::node().unwrap_or_else(|| "node".into()));
    script.current_dir(workspace.root.join("tests/browser")).arg("screenshots.mjs");
    script.arg("--out").arg(workspace.target.join("screenshots"));
    script.args(options.only.iter().map(|part| format!("--only={part}")));
    script.args(options.seed.iter().map(|seed| format!("--seed={seed}")));
    script.env("JOBQUEUE_DASHBOARD_DIR", workspace.dist());
    for name in ["server", "worker"] {
        let variable = format!("JOBQUEUE_{}_BIN", name.to_uppercase());
        script.env(variable, workspace.binary("debug", &format!("jobqueue-{name}")));
    }
    script.envs(setup::chromium().map(|chromium| ("CHROMIUM", chromium)));
    let status = process::status(&mut script)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
