//! `jobqueue-faults`: runs the fault suite; its other subcommands are the programs that a run starts.

use std::{path::PathBuf, process::ExitCode};

use anyhow::ensure;
use clap::{Parser, Subcommand, ValueEnum};
use jobqueue_faults::{
    programs::{submitter, worker},
    run::{self, Options, Programs, Store},
};

#[derive(Parser)]
#[command(name = "jobqueue-faults", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Kills, stalls and cuts off the parts of a queue, and checks the recorded histories
    Run(Run),
    /// Submits jobs until SIGTERM, and records its calls and their answers
    Submitter(submitter::Args),
    /// Runs jobs until SIGTERM, and records its calls and their answers
    Worker(worker::Args),
}

#[derive(clap::Args)]
struct Run {
    /// Minutes of faults on each store
    #[arg(long, default_value_t = 10.0, value_name = "N", value_parser = minutes)]
    minutes: f64,
    /// Seed that determines the faults and their times; a new one each time when it is not given
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// Database of the jobs
    #[arg(long, value_enum, default_value_t = Stores::Both)]
    store: Stores,
    /// jobqueue-server, built with its feature `failpoints`
    #[arg(long, env = "JOBQUEUE_SERVER_BIN", value_name = "FILE")]
    server: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Stores {
    Sqlite,
    Postgres,
    Both,
}

#[tokio::main]
async fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Run(arguments) => run(arguments).await,
        Command::Submitter(args) => submitter::run(args).await,
        Command::Worker(args) => worker::run(args).await,
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn minutes(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(minutes) if (0.25..=1_440.0).contains(&minutes) => Ok(minutes),
        _ => Err("it must be a number from 0.25 to 1440".to_owned()),
    }
}

async fn run(arguments: Run) -> anyhow::Result<()> {
    let clients = std::env::current_exe()?;
    let beside = clients.with_file_name("jobqueue-server");
    let server = arguments.server.unwrap_or(beside);
    ensure!(server.is_file(), "{} is missing: build jobqueue-server first", server.display());
    let stores = match arguments.store {
        Stores::Sqlite => vec![Store::Sqlite],
        Stores::Postgres => vec![Store::Postgres],
        Stores::Both => vec![Store::Sqlite, Store::Postgres],
    };
    let seed = arguments.seed.unwrap_or_else(|| rand::random_range(0..1_000_000));
    for store in stores {
        let programs = Programs { server: server.clone(), clients: clients.clone() };
        let options = Options { store, seed, seconds: (arguments.minutes * 60.0).round() as u64, programs };
        let outcome = run::run(&options, &mut |line| println!("{line}")).await?;
        println!("\n{outcome}");
    }
    Ok(())
}
