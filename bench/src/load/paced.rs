//! Paced load: submits at a steady rate to a worker in the same process, whose single clock measures the time from
//! the submit call to the start of the handler.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
use async_trait::async_trait;
use jobqueue_worker::{Client, Context, Handler, HandlerError, HandlerResult, NewJob, Output, Worker};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    parent::Parent,
    payload::{number, payload, worker_id},
};
use crate::measure::stats::{Percentiles, Times};

/// Time limit from the last submit to the start of the last handler.
const START_WITHIN: Duration = Duration::from_secs(30);
const CONNECTIONS: usize = 2;

/// Rate and times of a paced load.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PacedPlan {
    pub endpoint: String,
    pub worker_id_prefix: String,
    /// Jobs per second.
    pub rate: f64,
    /// Seconds of jobs that run before those that count.
    pub warm_up: f64,
    pub measure: f64,
    pub slots: usize,
}

/// Result of a paced load.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Latencies {
    /// Time from before the submit call to the handler's first line.
    pub start: Percentiles,
    /// Time that the submit call took.
    pub submit: Percentiles,
    /// Jobs per second that were actually submitted.
    pub rate: f64,
    /// Number of jobs that were submitted and never reached a handler.
    pub missing: u64,
}

/// Clock of the submits and the handlers, with the times that it has measured.
struct Clock {
    base: Instant,
    /// Nanoseconds after `base` at which each job was submitted.
    submitted: Vec<AtomicU64>,
    /// Number of the first job that counts; those before it warm up.
    first: u64,
    started: AtomicU64,
    start: Mutex<Times>,
    submit: Mutex<Times>,
}

impl Clock {
    fn now(&self) -> u64 {
        self.base.elapsed().as_nanos() as u64
    }

    fn record(&self, number: u64, since: u64, times: &Mutex<Times>) {
        if number >= self.first {
            let time = Duration::from_nanos(self.now().saturating_sub(since));
            times.lock().record(time);
        }
    }
}

/// Handler that records when it starts.
struct RecordStart(Arc<Clock>);

#[async_trait]
impl Handler for RecordStart {
    async fn handle(&self, context: Context) -> HandlerResult {
        let Self(clock) = self;
        let number = number(context.payload_json()).ok_or_else(|| HandlerError::permanent("not one of ours"))?;
        let submitted = clock.submitted.get(number as usize).map(|at| at.load(Ordering::Acquire));
        let submitted = submitted.ok_or_else(|| HandlerError::permanent("not one of ours"))?;
        clock.record(number, submitted, &clock.start);
        clock.started.fetch_add(1, Ordering::Relaxed);
        Ok(Output::none())
    }
}

pub(crate) async fn play(plan: PacedPlan, mut parent: Parent) -> Result<()> {
    let count = ((plan.warm_up + plan.measure) * plan.rate).ceil() as u64;
    let clock = Arc::new(Clock {
        base: Instant::now(),
        submitted: (0..count).map(|_| AtomicU64::new(0)).collect(),
        first: (plan.warm_up * plan.rate) as u64,
        started: AtomicU64::new(0),
        start: Mutex::new(Times::new()?),
        submit: Mutex::new(Times::new()?),
    });
    let stop = CancellationToken::new();
    let name = worker_id(&plan.worker_id_prefix, 0);
    let worker = Worker::builder(plan.endpoint.as_str(), name.as_str())
        .fallback(RecordStart(Arc::clone(&clock)))
        .concurrency(plan.slots)
        .build()?;
    let clients: Vec<Client> = (0..CONNECTIONS)
        .map(|_| Client::connect(&plan.endpoint).map(Client::without_repeats))
        .collect::<Result<_, _>>()?;
    parent.ready("paced").await?;
    let working = tokio::spawn(worker.run(stop.clone().cancelled_owned()));

    let mut calls = JoinSet::new();
    let begun = Instant::now();
    for number in 0..count {
        // Timers have a resolution of a millisecond; at a higher rate, jobs of one millisecond are submitted together.
        let due = begun + Duration::from_secs_f64(number as f64 / plan.rate);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await;
        }
        let (clock, client) = (Arc::clone(&clock), clients[number as usize % CONNECTIONS].clone());
        let job = NewJob::from_json(&name, payload(number, "", 64)).task("bench");
        calls.spawn(async move {
            let called = clock.now();
            clock.submitted[number as usize].store(called, Ordering::Release);
            let result = client.submit(job).await;
            clock.record(number, called, &clock.submit);
            result
        });
        while let Some(ended) = calls.try_join_next() {
            ended??;
        }
    }
    let time = begun.elapsed();
    while let Some(ended) = calls.join_next().await {
        ended??;
    }
    let deadline = Instant::now() + START_WITHIN;
    while clock.started.load(Ordering::Relaxed) < count && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    stop.cancel();
    working.await??;
    let summary = |times: &Mutex<Times>| times.lock().summary();
    Parent::send(&Latencies {
        start: summary(&clock.start),
        submit: summary(&clock.submit),
        rate: count as f64 / time.as_secs_f64(),
        missing: count.saturating_sub(clock.started.load(Ordering::Relaxed)),
    })
}
