//! The `jobqueue-server` binary: parses settings, binds addresses, runs the server or a command.

use std::{pin::pin, process::ExitCode};

use jobqueue_server::{
    Server,
    config::{Cli, Command, Common},
    database, log, shutdown,
    transport::bind::Listeners,
};
use jobqueue_shared::settings;
use tracing::info;

/// mimalloc returns memory after a burst of load; glibc keeps most of it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    match run(settings::parse()).await {
        Ok(code) => code,
        Err(error) => {
            log::last_words(format!("jobqueue-server: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

async fn run(Cli { common, serve, command }: Cli) -> anyhow::Result<ExitCode> {
    let _log = log::init(&common.log, common.log_format)?;
    let Some(command) = command else {
        let mut signal = pin!(shutdown::requested()?);
        let listeners = Listeners::bind(&serve).await?;
        // A database that does not answer must not keep the server from stopping.
        let server = tokio::select! {
            server = Server::open(&common, serve) => server?,
            () = &mut signal => {
                info!("stopped before the database was open");
                return Ok(ExitCode::SUCCESS);
            }
        };
        server.run(listeners, signal).await?;
        return Ok(ExitCode::SUCCESS);
    };
    once(&common, command).await
}

async fn once(common: &Common, command: Command) -> anyhow::Result<ExitCode> {
    let url = &common.database_url;
    if let Command::Backup { file } = command {
        database::backup(url.as_str(), &file).await?;
        log::print(&format_args!("{} is a copy of {url}", file.display()));
        return Ok(ExitCode::SUCCESS);
    }
    if let Command::SetClockBack = command {
        match database::set_clock_back(&common.connect_options()).await? {
            0 => println!("{url}: no stored time is ahead of this machine's clock"),
            ms => println!("{url}: times that were still to come are {} s earlier now", ms / 1_000),
        }
        return Ok(ExitCode::SUCCESS);
    }
    let store = database::connect(&common.connect_options()).await?;
    let wrong = if let Command::Check = command { store.audit().await? } else { Vec::new() };
    store.close().await;
    for it in &wrong {
        log::print(it);
    }
    if !wrong.is_empty() {
        anyhow::bail!("{url} contradicts itself in {} places", wrong.len());
    }
    let found = if let Command::Check = command { "no contradictions" } else { "the schema is up to date" };
    log::print(&format_args!("{url}: {found}"));
    Ok(ExitCode::SUCCESS)
}
