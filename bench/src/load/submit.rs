//! Submit load: many callers that submit as fast as the server answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use jobqueue_worker::{Client, NewJob, RetryPolicy};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

use super::{
    parent::Parent,
    payload::{FAIL_ONCE, payload, worker_id},
};
use crate::measure::{
    resources,
    stats::{Percentiles, Times},
};

/// Maximum number of calls at once on a connection: half of what HTTP/2 servers usually allow.
const CALLERS_PER_CONNECTION: usize = 64;
/// Minimum number of connections: in production several programs submit, and the load is never on one connection alone.
const CONNECTIONS_MIN: usize = 2;

/// Pause before a job that was refused is submitted again.
const REFUSAL_PAUSE: Duration = Duration::from_millis(100);

/// Calls of a submit load, and when they end.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubmitPlan {
    /// One or more servers, used in turn.
    pub endpoints: Vec<String>,
    /// Jobs go to `worker_id_prefix` followed by 0 to `worker_ids` - 1, in turn.
    pub worker_id_prefix: String,
    pub worker_ids: usize,
    /// Calls under way at once.
    pub callers: usize,
    /// Jobs in a call; 1 uses SubmitJob.
    pub batch: usize,
    pub payload_bytes: usize,
    pub amount: Amount,
    /// Whether every job carries an idempotency key of its own.
    pub keyed: bool,
    /// Whether a tenth of the jobs asks to fail once, and there are three priorities.
    pub mixed: bool,
}

/// End of a submit load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Amount {
    Jobs(u64),
    /// Counts the jobs that are acknowledged in `measure` seconds after a warm-up.
    Seconds {
        warm_up: f64,
        measure: f64,
    },
}

/// Result of a submit load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Submitted {
    /// Jobs acknowledged during the measurement.
    pub jobs: u64,
    pub seconds: f64,
    /// Jobs acknowledged in all, including the warm-up and the end.
    pub all: u64,
    /// Submits refused during the measurement, because the server had too much to do; each was repeated.
    pub refused: u64,
    pub calls: Percentiles,
    /// CPU time that this process used for all of it, in seconds.
    pub cpu: f64,
}

impl Submitted {
    pub fn rate(&self) -> f64 {
        self.jobs as f64 / self.seconds
    }
}

impl SubmitPlan {
    /// Plan that submits 64-byte payloads from `callers` callers at once to one worker_id.
    pub fn new(endpoint: &str, worker_id_prefix: &str, callers: usize, amount: Amount) -> Self {
        Self {
            endpoints: vec![endpoint.to_owned()],
            worker_id_prefix: worker_id_prefix.to_owned(),
            worker_ids: 1,
            callers,
            batch: 1,
            payload_bytes: 64,
            amount,
            keyed: false,
            mixed: false,
        }
    }
}

/// State that all callers share.
struct Shared {
    plan: SubmitPlan,
    /// Number of the next job.
    next: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    measuring: AtomicBool,
    stop: AtomicBool,
}

pub(crate) async fn play(plan: SubmitPlan, mut parent: Parent) -> Result<()> {
    let connections = plan.callers.div_ceil(CALLERS_PER_CONNECTION).max(CONNECTIONS_MIN).max(plan.endpoints.len());
    let clients: Vec<Client> = (0..connections)
        .map(|n| Client::connect(&plan.endpoints[n % plan.endpoints.len()]).map(Client::without_repeats))
        .collect::<Result<_, _>>()?;
    let clients: Vec<Client> = clients.into_iter().map(|client| client.deadline(Duration::from_mins(1))).collect();
    for client in &clients {
        // Makes the connection; the job need not exist.
        let _ = client.get("00000000-0000-7000-8000-000000000000").await;
    }
    let amount = plan.amount;
    let callers = plan.callers;
    let shared = Arc::new(Shared {
        plan,
        next: AtomicU64::new(0),
        acknowledged: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        measuring: AtomicBool::new(matches!(amount, Amount::Jobs(_))),
        stop: AtomicBool::new(false),
    });
    parent.ready("submit").await?;
    let cpu = resources::cpu(std::process::id())?;
    let begun = Instant::now();
    let mut calling = JoinSet::new();
    for caller in 0..callers {
        calling.spawn(call(Arc::clone(&shared), clients[caller % clients.len()].clone()));
    }
    let mut measured = None;
    if let Amount::Seconds { warm_up, measure } = amount {
        tokio::time::sleep(Duration::from_secs_f64(warm_up)).await;
        shared.measuring.store(true, Ordering::Relaxed);
        let (from, started) = (shared.acknowledged.load(Ordering::Relaxed), Instant::now());
        tokio::time::sleep(Duration::from_secs_f64(measure)).await;
        let jobs = shared.acknowledged.load(Ordering::Relaxed) - from;
        measured = Some((jobs, started.elapsed()));
        shared.measuring.store(false, Ordering::Relaxed);
        shared.stop.store(true, Ordering::Relaxed);
    }
    let mut times = Times::new()?;
    while let Some(caller) = calling.join_next().await {
        times.add(&caller??);
    }
    let all = shared.acknowledged.load(Ordering::Relaxed);
    let (jobs, time) = measured.unwrap_or((all, begun.elapsed()));
    let cpu = resources::cpu(std::process::id())?.saturating_sub(cpu).as_secs_f64();
    let refused = shared.refused.load(Ordering::Relaxed);
    Parent::send(&Submitted { jobs, seconds: time.as_secs_f64(), all, refused, calls: times.summary(), cpu })
}

async fn call(shared: Arc<Shared>, client: Client) -> Result<Times> {
    let plan = &shared.plan;
    let most = if let Amount::Jobs(jobs) = plan.amount { jobs } else { u64::MAX };
    let batch = plan.batch as u64;
    let mut times = Times::new()?;
    while !shared.stop.load(Ordering::Relaxed) {
        let first = shared.next.fetch_add(batch, Ordering::Relaxed);
        let count = batch.min(most.saturating_sub(first));
        if count == 0 {
            break;
        }
        let called = loop {
            let mut jobs: Vec<NewJob> = (first..first + count).map(|number| job(plan, number)).collect();
            let called = Instant::now();
            let answer = if plan.batch == 1 {
                client.submit(jobs.pop().context("no job")?).await.map(drop)
            } else {
                client.submit_many(jobs).await.map(drop)
            };
            match answer {
                Ok(()) => break called,
                Err(error) if error.status().is_some_and(|it| it.code() == tonic::Code::ResourceExhausted) => {
                    if shared.measuring.load(Ordering::Relaxed) {
                        shared.refused.fetch_add(1, Ordering::Relaxed);
                    }
                    tokio::time::sleep(REFUSAL_PAUSE).await;
                }
                Err(error) => return Err(error.into()),
            }
        };
        if shared.measuring.load(Ordering::Relaxed) {
            times.record(called.elapsed());
        }
        shared.acknowledged.fetch_add(count, Ordering::Relaxed);
    }
    Ok(times)
}

fn job(plan: &SubmitPlan, number: u64) -> NewJob {
    let fails = plan.mixed && number.is_multiple_of(10);
    let payload = payload(number, if fails { FAIL_ONCE } else { "" }, plan.payload_bytes);
    let worker_id = worker_id(&plan.worker_id_prefix, number % plan.worker_ids as u64);
    let mut job = NewJob::from_json(worker_id, payload).task("bench");
    if plan.keyed {
        job = job.idempotency_key(format!("key-{number}"));
    }
    if plan.mixed {
        job = job.priority([2, 5, 8][(number / 10 % 3) as usize]);
    }
    if fails {
        job = job.retry_policy(RetryPolicy::new().initial(Duration::from_millis(100)));
    }
    job
}
