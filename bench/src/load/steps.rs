//! Steps that scenarios share: submit, preload, drain, measure latency, warm up; and the load that they usually make.

use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};

use super::{
    child::{self, Child, Role},
    paced::{Latencies, PacedPlan},
    submit::{Amount, SubmitPlan, Submitted},
    work::{Handled, WorkPlan},
};
use crate::under_test::api::Api;

/// Jobs that a no-op worker runs at once when it has to be as fast as possible.
pub const SLOTS: usize = 500;
/// Jobs in a batch: as many as one call takes.
pub const BATCH: usize = 500;
/// Batches under way at once.
pub const BATCHES: usize = 4;
/// Prefix of a worker_id; a number follows.
pub const WORKER_ID_PREFIX: &str = "bench-";
/// Slots of the worker whose latency is measured; it has few jobs at once.
const PACED_SLOTS: usize = 50;

/// Result of a drain.
#[derive(Clone, Copy, Debug)]
pub struct Drained {
    pub jobs: u64,
    /// Time from the start signal of the workers to the last durable `done`.
    pub seconds: f64,
    /// CPU time of the worker processes, in seconds.
    pub cpu: f64,
    /// Largest memory use of one of them, in MiB.
    pub memory: f64,
}

impl Drained {
    pub fn rate(&self) -> f64 {
        self.jobs as f64 / self.seconds
    }
}

/// Prints to stderr what is being done.
pub fn progress(what: &str) {
    eprintln!("  {what}");
}

/// Submits by a plan, in a process of its own.
pub async fn submit(plan: SubmitPlan) -> Result<Submitted> {
    child::run(&Role::Submit(plan)).await
}

/// Submits `jobs` jobs, in batches, as fast as possible.
pub async fn preload(endpoint: &str, jobs: u64, vary: impl FnOnce(&mut SubmitPlan)) -> Result<Submitted> {
    let mut plan =
        SubmitPlan { batch: BATCH, ..SubmitPlan::new(endpoint, WORKER_ID_PREFIX, BATCHES, Amount::Jobs(jobs)) };
    vary(&mut plan);
    submit(plan).await
}

/// Runs workers on the waiting jobs until all are done.
pub async fn drain(endpoint: &str, plans: Vec<WorkPlan>) -> Result<Drained> {
    let api = Api::connect(endpoint).await?;
    let metrics = api.metrics().await?;
    let (done, jobs) = (metrics.done as u64, metrics.pending as u64);
    let mut workers = Vec::new();
    for plan in plans {
        workers.push(Child::start(&Role::Work(plan)).await?);
    }
    let begun = SystemTime::now();
    for worker in &mut workers {
        worker.go().await?;
    }
    let ended = api.until_done(done + jobs).await?;
    let (mut calls, mut cpu, mut memory) = (0, 0.0, 0.0_f64);
    for worker in workers {
        let handled: Handled = worker.finish().await?;
        calls += handled.calls;
        cpu += handled.cpu;
        memory = memory.max(handled.memory);
    }
    if calls < jobs {
        bail!("{jobs} jobs are done, but handlers were called {calls} times");
    }
    let seconds = ended.duration_since(begun).unwrap_or(Duration::from_millis(1)).as_secs_f64().max(0.001);
    Ok(Drained { jobs, seconds, cpu, memory })
}

/// Plan of one worker process with [`SLOTS`] slots.
pub fn one_worker(endpoint: &str) -> Vec<WorkPlan> {
    vec![WorkPlan::new(endpoint, WORKER_ID_PREFIX, SLOTS)]
}

/// Submits at a steady rate and measures how soon handlers start.
pub async fn measure_latency(endpoint: &str, rate: f64, measure: f64) -> Result<Latencies> {
    let plan = PacedPlan {
        endpoint: endpoint.to_owned(),
        worker_id_prefix: "paced-".to_owned(),
        rate,
        warm_up: 1.0_f64.max(5.0 / rate),
        measure,
        slots: PACED_SLOTS.max((rate / 20.0) as usize),
    };
    let latencies: Latencies = child::run(&Role::Paced(plan)).await?;
    if latencies.missing > 0 {
        bail!("{} jobs were submitted and never started", latencies.missing);
    }
    Ok(latencies)
}

/// Warms a server up. Its first jobs are slower, because connections, plans and caches are made.
pub async fn warm_up(endpoint: &str) -> Result<()> {
    preload(endpoint, 5_000, |_| {}).await?;
    drain(endpoint, one_worker(endpoint)).await?;
    Ok(())
}
