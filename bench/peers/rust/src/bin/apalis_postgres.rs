//! Peer apalis-postgres 1.0, which keeps finished jobs.
//!
//! Settings: its README and examples/pubsub.rs (NOTIFY by `with_pubsub`, with polling beside it), apalis' README
//! (`concurrency`, `parallelize`), and src/config.rs: "larger batches can improve throughput".

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage, queries::push_tasks};
use jobqueue_bench_peers::{Clock, Payload, Step, arguments, drained, submit};
use sqlx::{PgPool, postgres::PgPoolOptions};

const QUEUE: &str = "bench";
const CONNECTIONS: u32 = 20;
const CONCURRENCY: usize = 500;
const BATCH: usize = 500;
const POLL: Duration = Duration::from_millis(100);

#[derive(Clone)]
enum Seen {
    Counted(Arc<AtomicU64>),
    Timed(Arc<Clock>),
}

async fn handle(job: Payload, seen: Data<Seen>) -> Result<(), BoxDynError> {
    match &*seen {
        Seen::Counted(handled) => {
            handled.fetch_add(1, Ordering::Relaxed);
        }
        Seen::Timed(clock) => clock.started(job.n),
    }
    Ok(())
}

#[tokio::main]
async fn main() -> Result<()> {
    let (url, step) = arguments()?;
    let pool = PgPoolOptions::new().max_connections(CONNECTIONS).connect(&url).await?;
    PostgresStorage::<()>::setup(&pool).await?;
    match step {
        Step::Submit { callers, batch, warm_up, measure } => {
            submit((callers, batch), (warm_up, measure), move |first, count| {
                let pool = pool.clone();
                async move { push(&pool, first, count).await }
            })
            .await
        }
        Step::Drain { jobs } => {
            for first in (0..jobs).step_by(500) {
                push(&pool, first, 500.min(jobs - first) as usize).await?;
            }
            let handled = Arc::new(AtomicU64::new(0));
            let begun = Instant::now();
            let left = || async {
                let left = "SELECT EXISTS (SELECT FROM apalis.jobs WHERE status <> 'Done')";
                Ok(sqlx::query_scalar(left).fetch_one(&pool).await?)
            };
            tokio::select! {
                ended = work(pool.clone(), Seen::Counted(Arc::clone(&handled))) => ended,
                drained = drained(jobs, &handled, begun, left) => drained,
            }
        }
        Step::Latency { rate, warm_up, measure } => {
            let clock = Clock::new(rate, warm_up, measure);
            let working = work(pool.clone(), Seen::Timed(Arc::clone(&clock)));
            let submit = |n| {
                let pool = pool.clone();
                async move { push(&pool, n, 1).await }
            };
            tokio::select! {
                ended = working => ended,
                paced = clock.pace(rate, submit) => paced,
            }
        }
    }
}

async fn work(pool: PgPool, seen: Seen) -> Result<()> {
    let config = Config::default().queue(QUEUE).batch_size(BATCH);
    let backend = PostgresStorage::<Payload>::new(&pool).with_config(config).with_pubsub().poll_with_interval(POLL);
    let worker = WorkerBuilder::new("bench")
        .backend(backend)
        .concurrency(CONCURRENCY)
        .parallelize(tokio::spawn)
        .data(seen)
        .build(handle);
    worker.run().await.context("the worker failed")
}

async fn push(pool: &PgPool, first: u64, count: usize) -> Result<()> {
    let tasks = (first..first + count as u64)
        .map(|n| Ok(TaskBuilder::new(serde_json::to_vec(&Payload::new(n))?).build()))
        .collect::<Result<Vec<_>>>()?;
    let mut connection = pool.acquire().await?;
    push_tasks(&mut *connection, QUEUE, tasks).await?;
    Ok(())
}
