//! Submit load: submits as fast as the server answers, from many callers at once.

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

use crate::{
    child::Parent,
    procs,
    stats::{Percentiles, Times},
};

/// Maximum number of calls at once on a connection: half of what HTTP/2 servers usually allow.
const CALLERS_PER_CONNECTION: usize = 64;
/// Minimum number of connections: in production several programs submit, and the load is never on one connection alone.
const CONNECTIONS_MIN: usize = 2;

/// Pause before a job that was refused is submitted again.
const REFUSED: Duration = Duration::from_millis(100);

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// One or more servers, used in turn.
    pub endpoints: Vec<String>,
    /// Jobs go to `worker_id` followed by 0 to `worker_ids` - 1, in turn.
    pub worker_id: String,
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

impl Plan {
    /// Plan that submits 64-byte payloads from `callers` callers at once to one worker_id.
    pub fn new(endpoint: &str, worker_id: &str, callers: usize, amount: Amount) -> Self {
        Self {
            endpoints: vec![endpoint.to_owned()],
            worker_id: worker_id.to_owned(),
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

/// Name of one of the `worker_ids` of a plan.
pub fn worker_id(base: &str, number: u64) -> String {
    format!("{base}{number}")
}

/// JSON object of exactly `bytes` bytes, at least 32, with its number and `mark`.
pub fn payload(number: u64, mark: &str, bytes: usize) -> String {
    let mut text = format!("{{\"n\":{number}{mark},\"pad\":\"");
    let pad = bytes.saturating_sub(text.len() + 2);
    text.reserve(pad + 2);
    text.extend(std::iter::repeat_n('x', pad));
    text.push_str("\"}");
    text
}

/// Part of the payload of a job that has to fail once.
pub const FAIL_ONCE: &str = ",\"fail\":1";

struct Shared {
    plan: Plan,
    /// Number of the next job.
    next: AtomicU64,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    measuring: AtomicBool,
    stop: AtomicBool,
}

pub(crate) async fn play(plan: Plan, mut parent: Parent) -> Result<()> {
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
    let cpu = procs::cpu(std::process::id())?;
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
    let cpu = procs::cpu(std::process::id())?.saturating_sub(cpu).as_secs_f64();
    let refused = shared.refused.load(Ordering::Relaxed);
    Parent::say(&Submitted { jobs, seconds: time.as_secs_f64(), all, refused, calls: times.summary(), cpu })
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
                    tokio::time::sleep(REFUSED).await;
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

fn job(plan: &Plan, number: u64) -> NewJob {
    let fails = plan.mixed && number.is_multiple_of(10);
    let payload = payload(number, if fails { FAIL_ONCE } else { "" }, plan.payload_bytes);
    let worker_id = worker_id(&plan.worker_id, number % plan.worker_ids as u64);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_are_json_of_the_size_asked_for() {
        for (number, mark, bytes) in [(0, "", 64), (1_234_567, FAIL_ONCE, 64), (7, "", 65_536)] {
            let text = payload(number, mark, bytes);
            assert_eq!(text.len(), bytes);
            let value: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!((value["n"].as_u64(), value["fail"].as_u64().is_some()), (Some(number), !mark.is_empty()));
        }
    }
}
