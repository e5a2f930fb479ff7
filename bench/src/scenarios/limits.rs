//! Limits scenario: the disk, PostgreSQL's commits, jobqueue's bare statements, the store without a network, and calls
//! that do nothing. Everything else is given as a share of these.

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

use crate::{
    bench::{BATCH, BATCHES, Bench, progress},
    echo, machine,
    report::{Report, Table},
    server::{Database, Server, Store},
    submit::payload,
};

const CYCLE: &str = include_str!("cycle.sql");
const ROWS: &str =
    "CREATE TABLE bench_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL)";
const ONE_ROW: &str = "INSERT INTO bench_rows (payload) VALUES ('{\"n\":1,\"pad\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}');\n";
const SUBMIT: &str = "SELECT bench_submit(500, 'w' || :client_id);\n";
const TAKE_AND_SETTLE: &str = "SELECT bench_acquire(500, 'w' || :client_id) AS claims \\gset\n\
                               SELECT bench_settle(:claims::uuid[], 'w' || :client_id);\n";
const PLANS: &str = "DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database());
    EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
END $$";

/// Seconds for which each figure is measured.
const SECONDS_QUICK: u32 = 2;
const SECONDS: u32 = 8;
/// Number of batches that a client drains.
const DRAINED_QUICK: u32 = 100;
const DRAINED: u32 = 400;
const CLIENTS: [u32; 3] = [1, 16, 64];
const CALLERS: [usize; 3] = [1, 16, 64];

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("limits");
    report.tables.push(Table::new("", &["limit", "per second"]));
    let mut figure = |what: &str, name: &str, value: f64| {
        report.figures.insert(name.to_owned(), value);
        if let (false, [table]) = (what.is_empty(), report.tables.as_mut_slice()) {
            table.row([what.into(), value.into()]);
        }
    };
    let seconds = bench.pick(SECONDS_QUICK, SECONDS);
    let time = Duration::from_secs(seconds.into());
    let folder = bench.postgres.as_ref().map_or_else(|| Ok(std::env::temp_dir()), |postgres| postgres.folder())?;
    progress("fdatasync");
    figure("fdatasync of 8 KiB", "fdatasync", machine::fdatasyncs(&folder, time)?);

    if bench.postgres.is_some() {
        progress("commits of one row");
        for (what, name, value) in commits(bench, seconds).await? {
            figure(&what, &name, value);
        }
        progress("the bare statements");
        let bare = bare(bench, Store::Postgres).await?;
        figure("PostgreSQL: bare statements, insert, acquire, settle, jobs", "sql_cycle", bare.cycle);
        figure("PostgreSQL: bare statements, insert, jobs", "sql_insert", bare.insert);
        if let Some(drain) = bare.drain {
            figure("PostgreSQL: bare statements, acquire, settle, jobs", "sql_drain", drain);
        }
    }
    for &store in &bench.stores {
        progress(&format!("the store by itself, {}", store.name()));
        let Bare { insert, cycle, .. } = by_itself(bench, store, time).await?;
        let name = store.name();
        figure(
            &format!("{name}: store alone, insert, jobs in batches of {BATCH}, {BATCHES} tasks"),
            &format!("store_insert.{name}"),
            insert,
        );
        figure(&format!("{name}: store alone, insert, acquire, settle, jobs"), &format!("store_cycle.{name}"), cycle);
    }
    for callers in CALLERS {
        progress(&format!("calls that do nothing, {callers} at once"));
        let (rate, times) = echo::measure(callers, time).await?;
        figure(&format!("gRPC call that does nothing, {callers} at once"), &format!("echo.{callers}"), rate);
        figure("", &format!("echo_p50_ms.{callers}"), times.p50);
    }
    Ok(report)
}

/// Measures single-row commits with pgbench.
async fn commits(bench: &Bench, seconds: u32) -> Result<Vec<(String, String, f64)>> {
    let postgres = bench.postgres()?;
    let mut found = Vec::new();
    let database = Database::in_cluster(postgres)?;
    postgres.run(&database.url, ROWS).await?;
    postgres.checkpoint().await?;
    for clients in CLIENTS {
        let rate = postgres.pgbench(&database.url, ONE_ROW, clients, &format!("--time={seconds}")).await?;
        found.push((format!("PostgreSQL: commit of one row, {clients} clients"), format!("commit.{clients}"), rate));
    }
    Ok(found)
}

/// Rates in jobs per second of jobqueue's statements, or of the store that makes them, without a network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bare {
    pub insert: f64,
    /// Insert, acquire and settle.
    pub cycle: f64,
    /// Acquire and settle; measured for PostgreSQL only.
    pub drain: Option<f64>,
}

/// Measures what a store can do at this moment with nothing around it: with PostgreSQL, pgbench with jobqueue's
/// statements; with SQLite, the store in this process.
pub(crate) async fn bare(bench: &Bench, store: Store) -> Result<Bare> {
    let seconds = bench.pick(SECONDS_QUICK, SECONDS);
    match store {
        Store::Postgres => statements(bench, seconds).await,
        Store::Sqlite => by_itself(bench, store, Duration::from_secs(seconds.into())).await,
    }
}

async fn statements(bench: &Bench, seconds: u32) -> Result<Bare> {
    let postgres = bench.postgres()?;
    let database = Database::in_cluster(postgres)?;
    // Starting the server makes the tables.
    Server::start(&database, &[]).await?.stop().await?;
    for script in [CYCLE, PLANS] {
        postgres.run(&database.url, script).await?;
    }
    let clients = BATCHES as u32;
    let batches = format!("--transactions={}", bench.pick(DRAINED_QUICK, DRAINED));
    let cycle = format!("{SUBMIT}{TAKE_AND_SETTLE}");
    postgres.checkpoint().await?;
    let cycle = postgres.pgbench(&database.url, &cycle, clients, &format!("--time={seconds}")).await?;
    postgres.checkpoint().await?;
    let insert = postgres.pgbench(&database.url, SUBMIT, clients, &batches).await?;
    let drain = postgres.pgbench(&database.url, TAKE_AND_SETTLE, clients, &batches).await?;
    let batch = BATCH as f64;
    Ok(Bare { insert: insert * batch, cycle: cycle * batch, drain: Some(drain * batch) })
}

/// Measures jobs per second of the store in this process: inserts alone, and whole cycles.
async fn by_itself(bench: &Bench, store: Store, time: Duration) -> Result<Bare> {
    let database = bench.database(store).await?;
    let store = database::connect(&ConnectOptions::new(&database.url)).await?;
    let insert = together(&store, time, false).await?;
    let cycle = together(&store, time, true).await?;
    store.close().await;
    Ok(Bare { insert, cycle, drain: None })
}

async fn together(store: &Arc<dyn jobqueue_store::Store>, time: Duration, whole: bool) -> Result<f64> {
    let begun = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..BATCHES {
        let worker_id = format!("{}-{task}", if whole { "cycle" } else { "insert" });
        tasks.spawn(cycles(Arc::clone(store), worker_id, begun + time, whole));
    }
    let mut jobs = 0;
    while let Some(ended) = tasks.join_next().await {
        jobs += ended??;
    }
    Ok(jobs as f64 / begun.elapsed().as_secs_f64())
}

/// Inserts batches until the end, and also acquires and settles them if `whole`; returns the number of jobs.
async fn cycles(store: Arc<dyn jobqueue_store::Store>, worker_id: String, until: Instant, whole: bool) -> Result<u64> {
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
        if !whole {
            continue;
        }
        let request = Acquire { session_id, worker_id: Some(worker_id.clone()), acquire_no, max_jobs: BATCH as u32 };
        let Acquired::Jobs { jobs: leased, .. } = store.acquire(&request).await? else { bail!("the session is gone") };
        let settlements: Vec<_> = leased
            .into_iter()
            .map(|leased| Settlement {
                session_id,
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
    }
}

/// Minimum time in ms from a submit to a start, if both were nothing but their commits and calls: one commit for the
/// submit (an acquire is not waited for), and the two calls in which a job comes and goes.
pub(crate) fn least_latency(bench: &Bench, store: Store) -> Option<f64> {
    let commit = match store {
        Store::Postgres => bench.limit("commit.1")?,
        Store::Sqlite => bench.limit("fdatasync")?,
    };
    Some(1_000.0 / commit + 2.0 * bench.limit("echo_p50_ms.1")?)
}
