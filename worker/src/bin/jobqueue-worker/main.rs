//! The `jobqueue-worker` program: workers with the handlers of its command line, which run until a signal stops them.

mod args;
mod capture;
mod exec;
mod http;
mod open_files;
mod shortage;
mod signals;
mod simulate;
mod tls;

use std::{io::IsTerminal as _, process::ExitCode, time::Duration};

use anyhow::Context as _;
use args::{Args, LogFormat};
use exec::{guardian, orphans};
use jobqueue_shared::logs::{self, Logs};
use jobqueue_worker::Worker;
use tokio::{signal::unix::Signal, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Interval at which the number of dropped log lines is logged.
const DROPPED_LINES_INTERVAL: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let mut given = std::env::args_os().skip(1);
    if given.next().is_some_and(|first| first == guardian::ARGUMENT) {
        return given.next().map_or(ExitCode::FAILURE, |command| guardian::main(&command));
    }
    let args = Args::from_command_line();
    let logs = start_logging(&args);
    match run(args, &logs) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args, logs: &Logs) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let code = runtime.block_on(async {
        tokio::select! {
            code = serve(args) => code,
            never = log_dropped_lines(logs) => never,
            never = reap_orphans() => never,
        }
    });
    // Drops running handlers, and with them their commands. The limit keeps a stuck DNS look-up from delaying the exit.
    runtime.shutdown_timeout(Duration::from_secs(1));
    code
}

/// Runs the workers. The first signal stops them in order, a second one at once.
async fn serve(args: Args) -> anyhow::Result<ExitCode> {
    let mut signals = signals::stopping().context("cannot listen for signals")?;
    let stop = CancellationToken::new();
    let running = run_all(args.workers(), &stop);
    tokio::pin!(running);
    tokio::select! {
        result = &mut running => return result.map(|()| ExitCode::SUCCESS),
        _ = next(&mut signals) => stop.cancel(),
    }
    tokio::select! {
        result = &mut running => result.map(|()| ExitCode::SUCCESS),
        code = next(&mut signals) => {
            tracing::warn!("stopped by a second signal; what ran is given to others when the lease has run out");
            Ok(ExitCode::from(code))
        }
    }
}

/// Runs workers until all have stopped. One that gives up stops the others; returns the first error.
async fn run_all(workers: Vec<Worker>, stop: &CancellationToken) -> anyhow::Result<()> {
    let mut running = JoinSet::new();
    for worker in workers {
        running.spawn(worker.run(stop.clone().cancelled_owned()));
    }
    let mut result = Ok(());
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended? {
            stop.cancel();
            result = result.and(Err(error.into()));
        }
    }
    result
}

/// Waits for the next signal, and returns the exit status that a shell reports for it.
async fn next(signals: &mut [(i32, Signal)]) -> u8 {
    std::future::poll_fn(|task| {
        for (number, signal) in &mut *signals {
            if signal.poll_recv(task).is_ready() {
                return std::task::Poll::Ready(128 + u8::try_from(*number).unwrap_or_default());
            }
        }
        std::task::Poll::Pending
    })
    .await
}

/// Logs at times how many log lines were dropped; never returns.
async fn log_dropped_lines<T>(logs: &Logs) -> T {
    loop {
        tokio::time::sleep(DROPPED_LINES_INTERVAL).await;
        let lines = logs.newly_dropped();
        if lines > 0 {
            tracing::warn!(lines, "log lines were dropped: standard error is not read fast enough");
        }
    }
}

/// Reaps orphans if this is the first process of a container; never returns.
async fn reap_orphans<T>() -> T {
    if std::process::id() == 1 {
        orphans::reap().await;
    }
    std::future::pending().await
}

fn start_logging(args: &Args) -> Logs {
    let filter = EnvFilter::new(&args.log);
    let (writer, writing) = logs::writer(std::io::stderr());
    // A log line that cannot be written must not cause another one.
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    match args.log_format {
        LogFormat::Text => logs.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => logs.json().flatten_event(true).init(),
    }
    // A panic's text may quote a job's payload: it is reported to the server and not logged.
    std::panic::set_hook(Box::new(|panic| {
        let at = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(at, "panicked");
    }));
    writing
}
