//! Peer graphile_worker 0.14, which deletes finished jobs and cannot keep them.
//!
//! Settings: docs/src/guides/local-queue.md (a local queue for many small jobs),
//! docs/src/configuration/worker-options.md (completions in batches "for high-throughput workers"), with the numbers of
//! its own throughput benchmark, benches/perf_test.rs. For latency the local queue is left out: the guide calls the
//! direct path "usually simpler" for rare jobs, and NOTIFY wakes it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RawJobSpec, TaskHandler, WorkerContext, WorkerOptions,
    WorkerUtils,
};
use jobqueue_bench_peers::{Clock, Payload, Step, arguments, drained, submit};
use serde::{Deserialize, Serialize};
use sqlx::{PgPool, postgres::PgPoolOptions};

const SCHEMA: &str = "graphile_worker";
const CONNECTIONS: u32 = 20;
const CONCURRENCY: usize = 500;
const LOCAL_QUEUE: usize = 5_000;
const BATCH_DELAY: Duration = Duration::from_millis(5);

#[derive(Clone, Debug)]
struct Counter(Arc<AtomicU64>);

#[derive(Clone, Debug)]
struct Started(Arc<Clock>);

#[derive(Deserialize, Serialize)]
struct NoOp {
    #[serde(flatten)]
    payload: Payload,
}

impl TaskHandler for NoOp {
    const IDENTIFIER: &'static str = "no_op";

    async fn run(self, context: WorkerContext) -> impl IntoTaskHandlerResult {
        if let Some(Counter(handled)) = context.get_ext::<Counter>() {
            handled.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(Started(clock)) = context.get_ext::<Started>() {
            clock.started(self.payload.n);
        }
        Ok::<(), String>(())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let (url, step) = arguments()?;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(&url).await?;
    let utils = WorkerUtils::new(pool.clone(), SCHEMA);
    utils.migrate().await?;
    match step {
        Step::Submit { callers, batch, warm_up, measure } => {
            let utils = Arc::new(utils);
            submit((callers, batch), (warm_up, measure), move |first, count| {
                let utils = Arc::clone(&utils);
                async move { add(&utils, first, count).await }
            })
            .await
        }
        Step::Drain { jobs } => {
            for first in (0..jobs).step_by(500) {
                add(&utils, first, 500.min(jobs - first) as usize).await?;
            }
            drain(&pool, jobs).await
        }
        Step::Latency { rate, warm_up, measure } => {
            let clock = Clock::new(rate, warm_up, measure);
            let options = WorkerOptions::default().concurrency(50).complete_job_batch_delay(BATCH_DELAY);
            let options = options.add_extension(Started(Arc::clone(&clock)));
            let worker = options.define_job::<NoOp>().schema(SCHEMA).pg_pool(pool).init().await?;
            let worker = Arc::new(worker);
            let working = Arc::clone(&worker);
            let working = tokio::spawn(async move { working.run().await });
            let utils = Arc::new(utils);
            clock
                .pace(rate, |n| {
                    let utils = Arc::clone(&utils);
                    async move { add(&utils, n, 1).await }
                })
                .await?;
            worker.request_shutdown();
            working.await??;
            Ok(())
        }
    }
}

async fn add(utils: &WorkerUtils, first: u64, count: usize) -> Result<()> {
    if count == 1 {
        utils.add_job(NoOp { payload: Payload::new(first) }, JobSpec::default()).await?;
        return Ok(());
    }
    let jobs: Vec<RawJobSpec> = (first..first + count as u64)
        .map(|n| {
            Ok(RawJobSpec {
                identifier: NoOp::IDENTIFIER.to_owned(),
                payload: serde_json::to_value(Payload::new(n))?,
                spec: JobSpec::default(),
            })
        })
        .collect::<Result<_>>()?;
    utils.add_raw_jobs(&jobs).await?;
    Ok(())
}

async fn drain(pool: &PgPool, jobs: u64) -> Result<()> {
    let handled = Arc::new(AtomicU64::new(0));
    let options = WorkerOptions::default()
        .concurrency(CONCURRENCY)
        .complete_job_batch_delay(BATCH_DELAY)
        .local_queue(LocalQueueConfig::default().with_size(LOCAL_QUEUE))
        .add_extension(Counter(Arc::clone(&handled)));
    let worker = Arc::new(options.define_job::<NoOp>().schema(SCHEMA).pg_pool(pool.clone()).init().await?);
    let begun = Instant::now();
    let working = Arc::clone(&worker);
    let working = tokio::spawn(async move { working.run().await });
    let left = || async {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT FROM graphile_worker._private_jobs)").fetch_one(pool).await?)
    };
    drained(jobs, &handled, begun, left).await?;
    worker.request_shutdown();
    working.await??;
    Ok(())
}
