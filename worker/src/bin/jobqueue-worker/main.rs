//! The worker process: handlers from the command line, run until a signal says stop.

mod args;
mod capture;
mod exec;
mod http;
mod simulate;

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use anyhow::Context as _;
use args::{Args, LogFormat};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::from_command_line();
    start_logging(&args);
    match run(args) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let code = runtime.block_on(serve(args));
    // Drops what still runs, and with it the commands' process groups, without waiting for a stuck DNS look-up.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// The first SIGTERM or SIGINT stops the worker in order, a second one at once.
async fn serve(args: Args) -> anyhow::Result<ExitCode> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut next = async || {
        tokio::select! {
            _ = terminate.recv() => 128 + 15,
            _ = interrupt.recv() => 128 + 2,
        }
    };
    let stop = tokio_util::sync::CancellationToken::new();
    let running = args.worker().run(stop.clone().cancelled_owned());
    tokio::pin!(running);
    tokio::select! {
        result = &mut running => return Ok(result.map(|()| ExitCode::SUCCESS)?),
        _ = next() => stop.cancel(),
    }
    tokio::select! {
        result = &mut running => Ok(result.map(|()| ExitCode::SUCCESS)?),
        code = next() => {
            tracing::warn!("stopped by a second signal; what ran is given to others when the lease has run out");
            Ok(ExitCode::from(code))
        }
    }
}

fn start_logging(args: &Args) {
    let filter = EnvFilter::new(&args.log);
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match args.log_format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    // A panic's text may quote a job; it is told to the server and not logged.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(at, "panicked");
    }));
}
