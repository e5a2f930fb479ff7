//! The programs that a run starts many times: they use the queue as ordinary clients do, and record their calls and the
//! answers.
//!
//! `submitter` submits the jobs that `work` generates; `worker` runs them, by the library behind a `tap` that sees
//! every call, or by the plain calls of `bare`, which sends requests that the library never would. `scribe` records for
//! both the calls between a worker and a server.

mod bare;
mod calls;
mod scribe;
pub mod submitter;
mod tap;
mod work;
pub mod worker;

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    io,
    path::PathBuf,
    process,
    time::Duration,
};

use rand::{SeedableRng as _, rngs::StdRng};
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::{Channel, Endpoint};

use crate::history::{Kind, Recorder};

/// Arguments of both programs.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Unique in the run; names its history, `<name>.jsonl`
    #[arg(long)]
    pub name: String,
    /// Folder of the histories
    #[arg(long)]
    pub history: PathBuf,
    /// Seed that determines, with the name, what the program does
    #[arg(long)]
    pub seed: u64,
    /// http://host:port; a submitter with several takes the next one when a call failed
    #[arg(long = "server", required = true)]
    pub servers: Vec<String>,
    /// worker_id of the jobs
    #[arg(long, default_value = "faults")]
    pub worker_id: String,
}

impl Common {
    fn recorder(&self) -> io::Result<Recorder> {
        Recorder::create(&self.history, &self.name)
    }

    /// Random number generator of one part of the program.
    fn random(&self, part: u64) -> StdRng {
        let mut hasher = DefaultHasher::new();
        (self.seed, &self.name, part).hash(&mut hasher);
        StdRng::seed_from_u64(hasher.finish())
    }
}

/// Records events without blocking the runtime's other tasks. Exits when that fails: a program must not continue
/// unrecorded.
fn note(recorder: &Recorder, kinds: impl IntoIterator<Item = Kind>) {
    if let Err(error) = tokio::task::block_in_place(|| recorder.record_all(kinds)) {
        tracing::error!(%error, "the history cannot be written");
        process::exit(74);
    }
}

/// Channel with the library's settings: it connects again whenever the connection is lost, and keep-alive pings detect
/// a peer that vanishes silently.
fn channel(server: &str) -> anyhow::Result<Channel> {
    Ok(Endpoint::from_shared(server.to_owned())?
        .connect_timeout(Duration::from_secs(2))
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(4))
        .keep_alive_timeout(Duration::from_secs(2))
        .keep_alive_while_idle(true)
        .connect_lazy())
}

fn say_on_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(false);
    // Fails when a subscriber is set already: a test runs several programs in its own process.
    let _ = lines.try_init();
}

/// Returns when the program receives SIGTERM.
async fn told_to_stop() -> io::Result<()> {
    signal(SignalKind::terminate())?.recv().await;
    Ok(())
}
