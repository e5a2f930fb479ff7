//! `cargo xtask bench`: builds release programs, prepares the peers, and hands over to `jobqueue-bench`; or profiles,
//! or measures pure functions alone.

mod instructions;
mod profile;
mod programs;

use std::process::{Command, ExitCode};

use anyhow::Result;
use clap::{Args, Subcommand};

use crate::cargo::cargo;
use crate::process;
use crate::setup::{self, Need};
use crate::workspace::Workspace;

/// Scenario that needs the programs of the peers, which are built first.
const PEERS: &str = "peers";

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Options {
    #[command(subcommand)]
    mode: Option<Mode>,
    #[command(flatten)]
    run: Run,
}

#[derive(Args)]
struct Run {
    /// Scenarios to measure, besides the limits of this machine: submit, drain, mixed, latency, history, pinned, scale,
    /// cost, storm, peers; all of them when none is named
    #[arg(value_name = "SCENARIO")]
    scenarios: Vec<String>,
    /// Store that keeps the jobs
    #[arg(long, value_name = "STORE", value_parser = ["sqlite", "postgres", "both"], default_value = "both")]
    store: String,
    /// Smaller sizes, shorter times, no repetitions: all of it within 15 minutes once it is built,
    /// `pinned` and `scale` of one store only
    #[arg(long)]
    quick: bool,
    /// Keep the results that an earlier run of the same kind has written to target/bench, and go on with the rest
    #[arg(long)]
    resume: bool,
}

#[derive(Subcommand)]
enum Mode {
    /// Records where the time goes, and draws a picture of it into target/bench for each process
    Profile(profile::Options),
    /// Measures pure functions by themselves: times by criterion, and instructions by callgrind
    Pure {
        /// Only count instructions, which are the same on a busy machine
        #[arg(long)]
        instructions: bool,
    },
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    match &options.mode {
        None => measure(workspace, &options.run),
        Some(Mode::Profile(options)) => profile::run(workspace, options),
        Some(Mode::Pure { instructions }) => pure(workspace, *instructions),
    }
}

fn measure(workspace: &Workspace, options: &Run) -> Result<ExitCode> {
    let with_peers = options.scenarios.is_empty() || options.scenarios.iter().any(|name| name == PEERS);
    let mut needs = vec![Need::Postgres];
    if with_peers {
        needs.extend([Need::Node, Need::BenchPeers]);
    }
    let mut plan = setup::plan(workspace, &needs)?;
    plan.push(programs::build_task(workspace));
    if with_peers {
        plan.push(programs::build_peers_task(workspace));
    }
    plan.run()?;
    let mut bench = Command::new(programs::program(workspace));
    bench.current_dir(&workspace.root).arg("run").args(&options.scenarios).args(["--store", &options.store]);
    bench.arg("--folder").arg(programs::results(workspace)).arg("--peers").arg(workspace.root.join("bench/peers"));
    bench.args(options.quick.then_some("--quick")).args(options.resume.then_some("--resume"));
    let status = process::status(&mut bench)?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn pure(workspace: &Workspace, instructions_only: bool) -> Result<ExitCode> {
    programs::prepare(workspace, &[Need::Valgrind])?;
    print!("{}", instructions::table(&instructions::count(workspace)?));
    if !instructions_only {
        let mut bench = cargo();
        bench.current_dir(&workspace.root).args(["bench", "--package", "jobqueue-bench"]);
        let status = process::status(&mut bench)?;
        return Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &[&str]) -> Result<Options, clap::Error> {
        let words = std::iter::once("bench").chain(line.iter().copied());
        Line::try_parse_from(words).map(|line| line.options)
    }

    #[test]
    fn scenarios_and_flags_are_told_from_the_other_things_to_do() {
        let options = parse(&["drain", "peers", "--quick", "--store", "postgres"]).unwrap();
        assert_eq!(
            (options.run.scenarios, options.run.store.as_str()),
            (vec!["drain".into(), "peers".into()], "postgres")
        );
        assert!(options.mode.is_none() && options.run.quick && !options.run.resume);
        assert!(parse(&[]).unwrap().run.scenarios.is_empty());
        assert!(matches!(parse(&["pure", "--instructions"]).unwrap().mode, Some(Mode::Pure { instructions: true })));
        assert!(matches!(parse(&["profile", "drain"]).unwrap().mode, Some(Mode::Profile(_))));
        assert!(parse(&["--store", "oracle"]).is_err());
    }
}
