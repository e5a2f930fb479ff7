//! Common part of the peers' programs, each of which does one step on a fresh database and prints one line of JSON.

use std::{
    env,
    future::Future,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;

/// Size of a payload in bytes, as in jobqueue's own jobs.
const PAYLOAD: usize = 64;
/// Time limit of a drain, or of the last job to start.
const PATIENCE: Duration = Duration::from_secs(600);

/// Step to do, as the bench passes it.
#[derive(Debug, Deserialize)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum Step {
    Submit { callers: usize, batch: usize, warm_up: f64, measure: f64 },
    Drain { jobs: u64 },
    Latency { rate: f64, warm_up: f64, measure: f64 },
}

/// Reads the database's URL and the step from the command line.
pub fn arguments() -> Result<(String, Step)> {
    let mut arguments = env::args().skip(1);
    let url = arguments.next().context("the first argument is the database's URL")?;
    let step = arguments.next().context("the second argument is the step, as JSON")?;
    Ok((url, serde_json::from_str(&step)?))
}

#[derive(Serialize)]
struct Rate {
    jobs: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Latency {
    p50: f64,
    p95: f64,
    p99: f64,
    count: usize,
}

/// Payload with the text that jobqueue's own jobs carry.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Payload {
    pub n: u64,
    pub pad: String,
}

impl Payload {
    pub fn new(n: u64) -> Self {
        let rest = format!("{{\"n\":{n},\"pad\":\"\"}}").len();
        Self { n, pad: "x".repeat(PAYLOAD - rest) }
    }
}

/// Calls `submit` with the number of its first job and the number of jobs, by `callers` callers at once, and prints the
/// rate.
pub async fn submit<F>(
    (callers, batch): (usize, usize),
    (warm_up, measure): (f64, f64),
    submit: impl Fn(u64, usize) -> F + Clone + Send + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let (next, stored) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let stop = Arc::new(AtomicBool::new(false));
    let mut calling = JoinSet::new();
    for _ in 0..callers {
        let (next, stored, stop, submit) = (Arc::clone(&next), Arc::clone(&stored), Arc::clone(&stop), submit.clone());
        calling.spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                submit(next.fetch_add(batch as u64, Ordering::Relaxed), batch).await?;
                stored.fetch_add(batch as u64, Ordering::Relaxed);
            }
            Ok::<(), anyhow::Error>(())
        });
    }
    tokio::time::sleep(Duration::from_secs_f64(warm_up)).await;
    let (from, begun) = (stored.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(Duration::from_secs_f64(measure)).await;
    let jobs = stored.load(Ordering::Relaxed) - from;
    let seconds = begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    while let Some(ended) = calling.join_next().await {
        ended??;
    }
    say(&Rate { jobs, seconds })
}

/// Waits until all jobs are done in the database, and prints the rate since `begun`.
pub async fn drained<F>(jobs: u64, handled: &AtomicU64, begun: Instant, any_left: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    // The database is queried only once the handlers have seen all jobs, because a query costs it something.
    while handled.load(Ordering::Relaxed) < jobs {
        patience(begun)?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    while any_left().await? {
        patience(begun)?;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    say(&Rate { jobs, seconds: begun.elapsed().as_secs_f64() })
}

fn patience(begun: Instant) -> Result<()> {
    if begun.elapsed() > PATIENCE {
        bail!("not done within {PATIENCE:?}");
    }
    Ok(())
}

/// Times at which jobs were submitted, and how long each took until its handler started.
#[derive(Debug)]
pub struct Clock {
    base: Instant,
    submitted: Vec<AtomicU64>,
    first: u64,
    seen: AtomicU64,
    times: Mutex<Vec<f64>>,
}

impl Clock {
    pub fn new(rate: f64, warm_up: f64, measure: f64) -> Arc<Self> {
        let count = ((warm_up + measure) * rate).ceil() as usize;
        Arc::new(Self {
            base: Instant::now(),
            submitted: (0..count).map(|_| AtomicU64::new(0)).collect(),
            first: (warm_up * rate) as u64,
            seen: AtomicU64::new(0),
            times: Mutex::new(Vec::with_capacity(count)),
        })
    }

    /// Records that the handler of job `n` has started.
    pub fn started(&self, n: u64) {
        let now = self.base.elapsed().as_nanos() as u64;
        if let (true, Some(submitted)) = (n >= self.first, self.submitted.get(n as usize)) {
            let time = now.saturating_sub(submitted.load(Ordering::Acquire)) as f64 / 1e6;
            self.times.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(time);
        }
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    /// Submits at a steady pace, and prints the latencies once all jobs have started.
    pub async fn pace<F>(self: Arc<Self>, rate: f64, submit: impl Fn(u64) -> F) -> Result<()>
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let mut calls = JoinSet::new();
        let begun = Instant::now();
        for n in 0..self.submitted.len() as u64 {
            let due = begun + Duration::from_secs_f64(n as f64 / rate);
            tokio::time::sleep_until(due.into()).await;
            let (clock, call) = (Arc::clone(&self), submit(n));
            calls.spawn(async move {
                clock.submitted[n as usize].store(clock.base.elapsed().as_nanos() as u64, Ordering::Release);
                call.await
            });
        }
        while let Some(ended) = calls.join_next().await {
            ended??;
        }
        while self.seen.load(Ordering::Relaxed) < self.submitted.len() as u64 {
            patience(begun)?;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let mut times = self.times.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        times.sort_by(f64::total_cmp);
        let at = |share: f64| times[((times.len() as f64 * share) as usize).min(times.len() - 1)];
        say(&Latency { p50: at(0.5), p95: at(0.95), p99: at(0.99), count: times.len() })
    }
}

fn say(what: &impl Serialize) -> Result<()> {
    println!("{}", serde_json::to_string(what)?);
    Ok(())
}
