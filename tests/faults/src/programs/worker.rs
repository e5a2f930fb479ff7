//! Runs jobs until it is told to stop (SIGTERM).

use super::Common;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// How many jobs it runs at once
    #[arg(long, default_value_t = 8)]
    pub slots: u32,
    /// Of its session, in milliseconds
    #[arg(long, default_value_t = 5_000)]
    pub lease_ms: u64,
    /// Not the library but bare calls, among them what the library never sends: late and contradicting outcomes
    #[arg(long)]
    pub bare: bool,
}

/// Ends after SIGTERM as a worker does: it finishes what it runs and says goodbye.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let _ = args;
    Ok(())
}
