//! Context of every scenario: the options of the run, the databases, the limits, and steps that recur.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    api::Api,
    child::{self, Child, Role},
    machine,
    paced::{self, Paced},
    postgres::Postgres,
    report::Report,
    server::{Database, Server, Store},
    submit::{self, Amount, Submitted},
    work::{self, Handled},
};

/// Jobs that a no-op worker runs at once when it has to be as fast as possible.
pub const SLOTS: usize = 500;
/// Jobs in a batch: as many as one call takes.
pub const BATCH: usize = 500;
/// Batches under way at once.
pub const BATCHES: usize = 4;
/// Prefix of a worker_id; a number follows.
pub const WORKER_ID: &str = "bench-";
/// Slots of the worker whose latency is measured; it has few jobs at once.
const PACED_SLOTS: usize = 50;

/// Run of the bench.
pub struct Bench {
    pub quick: bool,
    pub stores: Vec<Store>,
    pub postgres: Option<Arc<Postgres>>,
    /// Folder in which results are written.
    pub folder: PathBuf,
    /// Folder with the programs of the peers; without it they are not measured.
    pub peers: Option<PathBuf>,
    pub machine: BTreeMap<String, String>,
    /// Figures that the limits scenario measured in this run, by name.
    pub limits: BTreeMap<String, f64>,
}

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

impl Bench {
    /// Returns `quick` in a quick run, else `full`.
    pub fn pick<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Number of times that each figure is measured.
    pub fn repeats(&self) -> usize {
        self.pick(1, 3)
    }

    /// Stores for scenarios that wait more than they work; a quick run has time for only one of them.
    pub fn stores_to_wait_for(&self) -> &[Store] {
        let count = self.pick(1, self.stores.len());
        self.stores.get(..count).unwrap_or(&self.stores)
    }

    pub fn limit(&self, name: &str) -> Option<f64> {
        self.limits.get(name).copied()
    }

    pub fn report(&self, scenario: &str) -> Report {
        let stores = self.stores.iter().map(|store| store.name().to_owned()).collect();
        let mut machine = self.machine.clone();
        if let Some(load) = machine::load() {
            machine.insert("load before".to_owned(), format!("{load:.2}"));
        }
        Report { quick: self.quick, stores, machine, ..Report::new(scenario) }
    }

    pub fn postgres(&self) -> Result<&Arc<Postgres>> {
        self.postgres.as_ref().context("this needs PostgreSQL")
    }

    /// Makes an empty database.
    pub async fn database(&self, store: Store) -> Result<Database> {
        match store {
            Store::Sqlite => Database::in_file(),
            Store::Postgres => {
                let postgres = self.postgres()?;
                let database = Database::in_cluster(postgres)?;
                postgres.checkpoint().await?;
                Ok(database)
            }
        }
    }

    /// Starts a server on an empty database.
    pub async fn fresh(&self, store: Store) -> Result<(Database, Server)> {
        served(self.database(store).await?).await
    }

    /// Starts a server on an empty database that shares nothing with others: in PostgreSQL, it has a cluster of its
    /// own.
    pub async fn apart(&self, store: Store) -> Result<(Database, Server)> {
        served(match store {
            Store::Sqlite => Database::in_file()?,
            Store::Postgres => Database::in_cluster(&Arc::new(Postgres::start().await?))?,
        })
        .await
    }
}

async fn served(database: Database) -> Result<(Database, Server)> {
    let server = Server::start(&database, &[]).await?;
    Ok((database, server))
}

/// Prints to stderr what is being done.
pub fn progress(what: &str) {
    eprintln!("  {what}");
}

pub async fn submit(plan: submit::Plan) -> Result<Submitted> {
    child::run(&Role::Submit(plan)).await
}

/// Submits `jobs` jobs, in batches, as fast as possible.
pub async fn preload(endpoint: &str, jobs: u64, vary: impl FnOnce(&mut submit::Plan)) -> Result<Submitted> {
    let mut plan = submit::Plan { batch: BATCH, ..submit::Plan::new(endpoint, WORKER_ID, BATCHES, Amount::Jobs(jobs)) };
    vary(&mut plan);
    submit(plan).await
}

/// Runs workers on the waiting jobs until all are done.
pub async fn drain(endpoint: &str, plans: Vec<work::Plan>) -> Result<Drained> {
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
pub fn one_worker(endpoint: &str) -> Vec<work::Plan> {
    vec![work::Plan::new(endpoint, WORKER_ID, SLOTS)]
}

/// Submits at a steady pace and measures how soon handlers start.
pub async fn paced(endpoint: &str, rate: f64, measure: f64) -> Result<Paced> {
    let plan = paced::Plan {
        endpoint: endpoint.to_owned(),
        worker_id: "paced-".to_owned(),
        rate,
        warm_up: 1.0_f64.max(5.0 / rate),
        measure,
        slots: PACED_SLOTS.max((rate / 20.0) as usize),
    };
    let paced: Paced = child::run(&Role::Paced(plan)).await?;
    if paced.missing > 0 {
        bail!("{} jobs were submitted and never started", paced.missing);
    }
    Ok(paced)
}

/// Warms a server up. Its first jobs are slower, because connections, plans and caches are made.
pub async fn warm_up(endpoint: &str) -> Result<()> {
    preload(endpoint, 5_000, |_| {}).await?;
    drain(endpoint, one_worker(endpoint)).await?;
    Ok(())
}
