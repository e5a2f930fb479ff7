//! `jobqueue-faults`: the programs of the fault suite.

use clap::{Parser, Subcommand};
use jobqueue_faults::programs::{submitter, worker};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Submits jobs until SIGTERM, and writes down what it saw
    Submitter(submitter::Args),
    /// Runs jobs until SIGTERM, and writes down what it saw
    Worker(worker::Args),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Submitter(args) => submitter::run(args).await,
        Command::Worker(args) => worker::run(args).await,
    }
}
