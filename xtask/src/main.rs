//! Commands for people who work on this repository: `cargo xtask up`, `test`, `faults`, `bench`, `screenshots`, `setup`
//! and `build-dashboard`.
//!
//! Reading order: `workspace` (folders), `cargo` (how it is called), `progress` and `process` (how long work is shown
//! and logged), `interrupt` (what a signal ends), `setup` (what is installed, and how), `dashboard` (trunk and the
//! steps after it), then the commands `up`, `test`, `faults`, `bench` and `screenshots`. A file of a folder never imports
//! its `mod.rs`, so that imports go one way.

mod bench;
mod cargo;
mod dashboard;
mod faults;
mod interrupt;
mod process;
mod progress;
mod screenshots;
mod setup;
mod test;
mod up;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::setup::Need;
use crate::workspace::Workspace;

/// Builds, runs and tests jobqueue; installs what is missing, into target/tools where it can.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Builds everything and runs server, dashboard and one worker until Ctrl-C
    Up(up::Options),
    /// Runs the tests, all or the named parts, on a PostgreSQL cluster of their own
    Test(test::Options),
    /// Runs everything under faults for a while, on PostgreSQL and on SQLite, and checks the result
    Faults(faults::Options),
    /// Measures jobqueue on this machine, beside its limits and its peers; or profiles it
    Bench(bench::Options),
    /// Takes pictures of every page of the dashboard, in its states, themes and widths
    Screenshots(screenshots::Options),
    /// Only installs what the other commands need
    Setup,
    /// Only builds the dashboard into dist/
    BuildDashboard,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = interrupt::listen().and_then(|()| Workspace::load()).and_then(|workspace| match arguments.command {
        Command::Up(options) => up::run(&workspace, &options),
        Command::Test(options) => test::run(&workspace, &options),
        Command::Faults(options) => faults::run(&workspace, &options),
        Command::Bench(options) => bench::run(&workspace, &options),
        Command::Screenshots(options) => screenshots::run(&workspace, &options),
        Command::Setup => setup::run(&workspace),
        Command::BuildDashboard => build_dashboard(&workspace),
    });
    interrupt::wait_if_asked();
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build_dashboard(workspace: &Workspace) -> anyhow::Result<ExitCode> {
    let mut plan = setup::plan(workspace, &Need::DASHBOARD)?;
    match dashboard::task(workspace, dashboard::BuildKind::Release) {
        Some(build) => plan.push(build),
        None => eprintln!("dist/ is up to date"),
    }
    plan.run()?;
    Ok(ExitCode::SUCCESS)
}
