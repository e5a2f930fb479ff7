//! `cargo xtask faults`: builds the fault suite with all that it needs, and runs it for a chosen time.

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::cargo::{cargo, test_features};
use crate::process;
use crate::progress::Task;
use crate::setup::{self, Need};
use crate::workspace::Workspace;

#[derive(Args)]
pub(crate) struct Options {
    /// Minutes of faults on each store [default: 10]
    #[arg(long, value_name = "N")]
    minutes: Option<String>,
    /// Seed that determines what happens, and when; a new one each time when it is not given
    #[arg(long, value_name = "S")]
    seed: Option<String>,
    /// Store of the jobs: sqlite, postgres or both [default: both]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mut plan = setup::plan(workspace, &Need::FAULTS)?;
    plan.push(Task::new("server and fault suite", "debug build, with failpoints", move |step| {
        let mut build = cargo();
        build.current_dir(&workspace.root).env("CARGO_TERM_COLOR", "never");
        // Built as the tests build it, so that little is compiled twice.
        build.args(["build", "--workspace", "--bins"]).args(test_features(false));
        process::logged(&mut build, &workspace.log("build"), step)
    }));
    plan.run()?;
    let mut suite = Command::new(workspace.binary("debug", "jobqueue-faults"));
    suite.arg("run").env("JOBQUEUE_SERVER_BIN", workspace.binary("debug", "jobqueue-server"));
    // The suite checks the values itself.
    for (name, value) in [("minutes", &options.minutes), ("seed", &options.seed), ("store", &options.store)] {
        suite.args(value.iter().map(|value| format!("--{name}={value}")));
    }
    let status = process::status(&mut suite)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
