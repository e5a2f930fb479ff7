//! Program that runs jobs until it is told to stop (SIGTERM).

use std::{panic, time::Duration};

use async_trait::async_trait;
use jobqueue_worker::{Context, Handler, HandlerError, HandlerResult, Output, Worker};

use super::{
    Common, bare, channel, say_on_stderr,
    scribe::{Scribe, id},
    tap::Tap,
    told_to_stop,
    work::{End, Task, Work},
};

#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub common: Common,
    /// Number of jobs that it runs at once
    #[arg(long, default_value_t = 16)]
    pub slots: u32,
    /// Lease time of its session, in milliseconds
    #[arg(long, default_value_t = 5_000)]
    pub lease_ms: u64,
    /// Time for running jobs to finish once it is told to stop, in milliseconds
    #[arg(long, default_value_t = 1_500)]
    pub grace_ms: u64,
    /// Use plain calls instead of the library, among them what the library never sends: late and contradicting outcomes
    #[arg(long)]
    pub bare: bool,
}

/// Runs until SIGTERM, then finishes the running jobs and ends the session.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // Some jobs make their handler panic: one log line each is enough.
    panic::set_hook(Box::new(|info| tracing::info!("{info}")));
    run_until(args, async { drop(told_to_stop().await) }).await
}

/// Runs until `stop` completes.
pub async fn run_until(args: Args, stop: impl Future<Output = ()> + Send) -> anyhow::Result<()> {
    say_on_stderr();
    let common = &args.common;
    let scribe = Scribe::new(common.recorder()?);
    let server = channel(&common.servers[0])?;
    if args.bare {
        return bare::run(&args, server, scribe, stop).await;
    }
    let tap = Tap::before(server, scribe.clone()).await?;
    let mut worker = Worker::builder(&tap.endpoint, &common.worker_id)
        .concurrency(args.slots as usize)
        .lease_time(Duration::from_millis(args.lease_ms))
        .grace(Duration::from_millis(args.grace_ms))
        .version(&common.name);
    for task in Task::ALL {
        worker = worker.raw_handler(task.name(), Doing(scribe.clone()));
    }
    worker.build()?.run(stop).await?;
    Ok(())
}

/// Handler that acts as the payload says, and records its start and end.
struct Doing(Scribe);

#[async_trait]
impl Handler for Doing {
    async fn handle(&self, context: Context) -> HandlerResult {
        let (job, run_no) = (id(context.job_id()), context.job().run_no);
        self.0.started(job, run_no);
        let work: Work = serde_json::from_str(context.payload_json())?;
        tokio::time::sleep(Duration::from_millis(work.sleep_ms)).await;
        let end = work.end(context.job().attempt_count, run_no);
        self.0.finished(job, run_no, &format!("{end:?}"));
        match end {
            End::Works => Ok(Output::of(&work.nonce)),
            End::Fails { delay_ms: None } => Err(HandlerError::retry("it was to fail")),
            End::Fails { delay_ms: Some(delay) } => {
                Err(HandlerError::retry_after(Duration::from_millis(delay), "it was to fail"))
            }
            End::Panics => panic!("it was to panic"),
            End::FailsForGood => Err(HandlerError::permanent("it was to fail for good")),
            End::Snoozes { delay_ms } => Err(HandlerError::snooze(Duration::from_millis(delay_ms), "it was to snooze")),
        }
    }
}
