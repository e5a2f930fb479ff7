//! The programs that a run starts many times: they use the queue as people's programs do, and write down what they saw.

pub mod submitter;
pub mod worker;

use std::path::PathBuf;

/// What both programs are told.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Unique in the run; names its history, <name>.jsonl
    #[arg(long)]
    pub name: String,
    /// Where histories are written
    #[arg(long)]
    pub history: PathBuf,
    /// What it does follows from this and its name
    #[arg(long)]
    pub seed: u64,
    /// http://host:port; a submitter with several takes the next one when a call failed
    #[arg(long = "server", required = true)]
    pub servers: Vec<String>,
    /// The jobs' address
    #[arg(long, default_value = "faults")]
    pub worker_id: String,
}
