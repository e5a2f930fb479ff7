//! The `jobqueue-server` binary: parses settings, binds addresses, runs the server or a command.

use std::process::ExitCode;

use jobqueue_server::{
    Server,
    config::{Cli, Command, Common},
    shutdown, store, telemetry,
    transport::listen::Listeners,
};
use jobqueue_shared::settings;

/// mimalloc returns memory after a burst of load; glibc keeps most of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run(settings::parse()).await {
        Ok(code) => code,
        Err(error) => {
            telemetry::last_words(format!("jobqueue-server: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(Cli { common, serve, command }: Cli) -> anyhow::Result<ExitCode> {
    let _log = telemetry::init(&common.log, common.log_format)?;
    let Some(command) = command else {
        let signal = shutdown::requested()?;
        let listeners = Listeners::bind(&serve).await?;
        Server::open(&common, serve).await?.run(listeners, signal).await?;
        return Ok(ExitCode::SUCCESS);
    };
    once(&common, command).await
}

async fn once(common: &Common, command: Command) -> anyhow::Result<ExitCode> {
    let url = &common.database_url;
    if let Command::Backup { file } = command {
        store::backup(url.as_str(), &file).await?;
        telemetry::print(&format_args!("{} is a copy of {url}", file.display()));
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::SetClockBack = command {
        match store::set_clock_back(&common.connect_options()).await? {
            0 => println!("{url}: no stored time is ahead of this machine's clock"),
            ms => println!("{url}: times that were still to come are {} s earlier now", ms / 1_000),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let store = store::connect(&common.connect_options()).await?;
    let wrong = if let Command::Check = command { store.audit().await? } else { Vec::new() };
    store.close().await;
    for it in &wrong {
        telemetry::print(it);
    }
    if !wrong.is_empty() {
        anyhow::bail!("{url} contradicts itself in {} places", wrong.len());
    }
    let found = if let Command::Check = command { "no contradictions" } else { "the schema is up to date" };
    telemetry::print(&format_args!("{url}: {found}"));
    Ok(ExitCode::SUCCESS)
}
