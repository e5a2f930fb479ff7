//! Limit of a store: the store in this process, without a network.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use jobqueue_server::database;
use jobqueue_shared::state::Ending;
use jobqueue_store::{
    Acquire, Acquired, ConnectOptions, NewJob, NewSession, Registration, SettleAnswer, Settlement, Start, Unit,
};
use tokio::task::JoinSet;

use super::bare_rates::BareRates;
use crate::{
    bench::Bench,
    load::{
        payload::payload,
        steps::{BATCH, BATCHES},
    },
    under_test::database::Store,
};

/// Measures jobs per second of the store in this process: inserts alone, and whole cycles.
pub(crate) async fn measure(bench: &Bench, store: Store, time: Duration) -> Result<BareRates> {
    let database = bench.empty_database(store).await?;
    let store = database::connect(&ConnectOptions::new(&database.url)).await?;
    let insert = rate(&store, time, false).await?;
    let cycle = rate(&store, time, true).await?;
    store.close().await;
    Ok(BareRates { insert, cycle, drain: None })
}

/// Jobs per second of several tasks at once.
async fn rate(store: &Arc<dyn jobqueue_store::Store>, time: Duration, whole_cycle: bool) -> Result<f64> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..BATCHES {
        let worker_id = format!("{}-{task}", if whole_cycle { "cycle" } else { "insert" });
        tasks.spawn(run_batches(Arc::clone(store), worker_id, begun + time, whole_cycle));
    }
    let mut jobs = 0;
    while let Some(ended) = tasks.join_next().await {
        jobs += ended??;
    }
    Ok(jobs as f64 / begun.elapsed().as_secs_f64())
}

/// Inserts batches until the end, and also acquires and settles them if `whole_cycle`; returns the number of jobs.
async fn run_batches(
    store: Arc<dyn jobqueue_store::Store>,
    worker_id: String,
    until: Instant,
    whole_cycle: bool,
) -> Result<u64> {
    let session = NewSession {
        worker_id: worker_id.clone(),
        host: "bench".to_owned(),
        pid: 0,
        version: String::new(),
        tasks: Vec::new(),
        slots: BATCH as u32,
        lease_ms: 3_600_000,
        predecessors: Vec::new(),
    };
    let Registration::New { session_id, .. } = store.register(&session).await? else { bail!("not registered") };
    let mut jobs = 0;
    for acquire_no in 1.. {
        if Instant::now() >= until {
            break;
        }
        let new = (0..BATCH as u64).map(|number| new_job(&worker_id, number)).collect();
        store.insert(&[Unit { jobs: new }], &[]).await?;
        jobs += BATCH as u64;
        if !whole_cycle {
            continue;
        }
        let request = Acquire { session_id, worker_id: Some(worker_id.clone()), acquire_no, max_jobs: BATCH as u32 };
        let Acquired::Jobs { jobs: leased, .. } = store.acquire(&request).await? else { bail!("the session is gone") };
        let settlements: Vec<_> = leased
            .into_iter()
            .map(|leased| Settlement {
                session_id: Some(session_id),
                lease: leased.lease,
                ending: Ending::Complete,
                text: String::new(),
                result: None,
                note: String::new(),
            })
            .collect();
        let answers = store.settle(&settlements).await?;
        answers.iter().all(|answer| matches!(answer, SettleAnswer::Accepted(_))).then_some(()).context("refused")?;
    }
    Ok(jobs)
}

fn new_job(worker_id: &str, number: u64) -> NewJob {
    NewJob {
        worker_id: worker_id.to_owned(),
        task: "bench".to_owned(),
        priority: 5,
        start: Start::Now,
        payload: payload(number, "", 64),
        max_retries: 3,
        retry: None,
        attempt_timeout_ms: None,
        key: None,
        origin: None,
    }
}
