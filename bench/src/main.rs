//! The `jobqueue-bench` program: parses the command line and runs a command. `cargo xtask bench` builds what it needs
//! and calls it.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use jobqueue_bench::{load::child::Role, profile, pure, run};

/// Measures jobqueue on this machine, beside its limits and its peers.
#[derive(Parser)]
#[command(name = "jobqueue-bench", version, max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measures, prints Markdown, writes JSON
    Run(run::Options),
    /// Plays a part of the load; started by a run
    #[command(hide = true)]
    Child { role: String },
    /// Records where the time goes under a load, with perf
    Profile(profile::Options),
    /// Calls one pure function COUNT times, for a tool that counts instructions; without a name, lists the functions
    Pure { name: Option<String>, count: Option<u64> },
}

fn main() -> ExitCode {
    match execute(Arguments::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("jobqueue-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn execute(command: Command) -> anyhow::Result<()> {
    let runtime = || tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match command {
        Command::Run(options) => runtime()?.block_on(run::run(options)),
        Command::Child { role } => runtime()?.block_on(serde_json::from_str::<Role>(&role)?.play()),
        Command::Profile(options) => runtime()?.block_on(profile::run(options)),
        // Runs without a runtime, whose threads would be counted, too.
        Command::Pure { name, count } => pure::call(name.as_deref(), count.unwrap_or(1)),
    }
}
