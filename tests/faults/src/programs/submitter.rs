//! Submits jobs of every kind until it is told to stop (SIGTERM).

use super::Common;

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
}

/// Ends after SIGTERM, when every submit with a key has been acknowledged or given up.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let _ = args;
    Ok(())
}
