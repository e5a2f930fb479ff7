//! Work load: workers whose handlers do next to nothing. They use the library as programs do, with a call of a handler
//! for each job.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::Result;
use async_trait::async_trait;
use jobqueue_worker::{Context, Handler, HandlerError, HandlerResult, Output, Worker};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    parent::Parent,
    payload::{FAIL_ONCE, worker_id},
};
use crate::measure::resources;

/// Workers of one process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WorkPlan {
    /// One or more servers; the workers are spread over them.
    pub endpoints: Vec<String>,
    /// One worker for each of `worker_id_prefix` followed by `first` to `first + worker_ids - 1`.
    pub worker_id_prefix: String,
    pub first: usize,
    pub worker_ids: usize,
    /// Workers, a session each, for every worker_id.
    pub workers: usize,
    /// Jobs that each worker runs at once.
    pub slots: usize,
    pub handling: Handling,
}

/// Behaviour of the handlers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Handling {
    /// Does nothing and returns nothing.
    NoOp,
    /// Fails at the first attempt if the payload asks for it.
    FailOnceIfAsked,
    /// Fails for good, so that every job becomes a dead letter.
    FailForGood,
}

/// Result of the worker processes: the calls of handlers, and their cost.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Handled {
    pub calls: u64,
    /// CPU time that this process used for it, in seconds.
    pub cpu: f64,
    /// Largest memory use of this process, in MiB.
    pub memory: f64,
}

impl WorkPlan {
    /// Plan of one worker, for the first worker_id with that prefix.
    pub fn new(endpoint: &str, worker_id_prefix: &str, slots: usize) -> Self {
        Self {
            endpoints: vec![endpoint.to_owned()],
            worker_id_prefix: worker_id_prefix.to_owned(),
            first: 0,
            worker_ids: 1,
            workers: 1,
            slots,
            handling: Handling::NoOp,
        }
    }
}

/// Handler that counts its calls.
struct CountingHandler {
    handling: Handling,
    calls: Arc<AtomicU64>,
}

#[async_trait]
impl Handler for CountingHandler {
    async fn handle(&self, context: Context) -> HandlerResult {
        self.calls.fetch_add(1, Ordering::Relaxed);
        match self.handling {
            Handling::FailOnceIfAsked if context.attempt() == 1 && context.payload_json().contains(FAIL_ONCE) => {
                Err(HandlerError::retry("asked to fail once"))
            }
            Handling::NoOp | Handling::FailOnceIfAsked => Ok(Output::none()),
            Handling::FailForGood => Err(HandlerError::permanent("asked to fail")),
        }
    }
}

pub(crate) async fn play(plan: WorkPlan, mut parent: Parent) -> Result<()> {
    let calls = Arc::new(AtomicU64::new(0));
    let stop = CancellationToken::new();
    let count = plan.worker_ids * plan.workers;
    let workers: Vec<Worker> = (0..count)
        .map(|n| {
            let endpoint = &plan.endpoints[n % plan.endpoints.len()];
            let name = worker_id(&plan.worker_id_prefix, (plan.first + n % plan.worker_ids) as u64);
            let handler = CountingHandler { handling: plan.handling, calls: Arc::clone(&calls) };
            Worker::builder(endpoint.as_str(), name).fallback(handler).concurrency(plan.slots).build()
        })
        .collect::<Result<_, _>>()?;
    parent.ready("work").await?;
    let cpu = resources::cpu(std::process::id())?;
    let mut running = JoinSet::new();
    for worker in workers {
        running.spawn(worker.run(stop.clone().cancelled_owned()));
    }
    parent.closed().await?;
    stop.cancel();
    while let Some(ended) = running.join_next().await {
        ended??;
    }
    let pid = std::process::id();
    let (cpu, memory) = (resources::cpu(pid)?.saturating_sub(cpu).as_secs_f64(), resources::memory(pid)?.most);
    Parent::send(&Handled { calls: calls.load(Ordering::Relaxed), cpu, memory })
}
