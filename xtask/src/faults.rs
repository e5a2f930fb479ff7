//! `cargo xtask faults`: builds what the fault suite needs and runs it for as long as one likes.

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::Args;

use crate::progress::Task;
use crate::setup::{self, Need};
use crate::workspace::{Workspace, cargo};
use crate::{process, test};

#[derive(Args)]
pub(crate) struct Options {
    /// How long there are faults, on each store [default: 10]
    #[arg(long, value_name = "N")]
    minutes: Option<String>,
    /// What happens, and when, follows from it; a new one each time when it is not given
    #[arg(long, value_name = "S")]
    seed: Option<String>,
    /// What the jobs are kept in: sqlite, postgres or both [default: both]
    #[arg(long, value_name = "STORE")]
    store: Option<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let mut plan = setup::plan(workspace, &Need::FAULTS)?;
    plan.push(Task::new("server and fault suite", "debug build, with failpoints", move |step| {
        let mut build = cargo();
        build.current_dir(&workspace.root).env("CARGO_TERM_COLOR", "never");
        // As the tests do, so that little is compiled twice.
        build.args(["build", "--workspace", "--bins"]).args(test::features(false));
        process::logged(&mut build, &workspace.log("build"), step)
    }));
    plan.run()?;
    let mut suite = Command::new(workspace.binary("debug", "jobqueue-faults"));
    suite.arg("run").env("JOBQUEUE_SERVER_BIN", workspace.binary("debug", "jobqueue-server"));
    // Checked by the program itself.
    for (name, value) in [("minutes", &options.minutes), ("seed", &options.seed), ("store", &options.store)] {
        suite.args(value.iter().map(|value| format!("--{name}={value}")));
    }
    let status = process::status(&mut suite)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
