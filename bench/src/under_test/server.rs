//! Server under test: a release build on a database of its own.

use std::{env, fs::File, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde::Deserialize;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use super::database::Database;

const STARTS_WITHIN: Duration = Duration::from_mins(1);
const ENDS_WITHIN: Duration = Duration::from_mins(1);

/// Running server; killed when this is dropped.
pub struct Server {
    process: Child,
    pub endpoint: String,
    _log: TempDir,
}

#[derive(Deserialize)]
struct Announced {
    listening: Listening,
}

#[derive(Deserialize)]
struct Listening {
    grpc_addr: String,
}

impl Server {
    /// Starts the `jobqueue-server` that was built beside this program, and waits until it listens.
    pub async fn start(database: &Database, options: &[&str]) -> Result<Self> {
        let program = program()?;
        let log = tempfile::Builder::new().prefix("jobqueue-bench-").tempdir()?;
        let errors = log.path().join("stderr");
        let mut command = Command::new(&program);
        for (variable, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("JOBQUEUE_")) {
            command.env_remove(variable);
        }
        command.args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0", "--log", "warn,sqlx=error"]);
        command.args(["--database-url", &database.url]).args(options);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors)?).kill_on_drop(true);
        let mut process = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let output = process.stdout.take().context("no output")?;
        let mut lines = BufReader::new(output).lines();
        let line = timeout(STARTS_WITHIN, lines.next_line()).await.context("the server does not listen")??;
        let Some(line) = line else {
            bail!("the server did not start:\n{}", std::fs::read_to_string(errors).unwrap_or_default());
        };
        let Announced { listening } = serde_json::from_str(&line).with_context(|| format!("the server said {line}"))?;
        Ok(Self { process, endpoint: format!("http://{}", listening.grpc_addr), _log: log })
    }

    pub fn pid(&self) -> u32 {
        self.process.id().unwrap_or_default()
    }

    /// Stops the server in order.
    pub async fn stop(mut self) -> Result<()> {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).context("the server has ended by itself")?;
        kill_process(pid, Signal::TERM)?;
        timeout(ENDS_WITHIN, self.process.wait()).await.context("the server does not stop")??;
        Ok(())
    }
}

/// Path of `jobqueue-server` in the folder of this program.
fn program() -> Result<PathBuf> {
    let program = env::current_exe()?.with_file_name("jobqueue-server");
    if !program.is_file() {
        bail!("{} is missing: cargo xtask bench builds it", program.display());
    }
    Ok(program)
}
