//! Cost scenario: what a job costs to submit and to work off: bytes of WAL, commits, dead rows, and microseconds of CPU
//! of server, database and client; also the server's memory in MiB.

use std::time::Duration;

use anyhow::Result;

use crate::{
    bench::Bench,
    load::{
        steps::{BATCH, BATCHES, SLOTS, WORKER_ID_PREFIX, drain, one_worker, progress, submit},
        submit::{Amount, SubmitPlan},
    },
    measure::{
        report::Report,
        resources,
        table::{Cell, Table},
    },
    under_test::{
        database::{Database, Store},
        postgres::Counters,
        server::Server,
    },
};

const JOBS_QUICK: u64 = 50_000;
const JOBS: u64 = 200_000;
/// Callers that submit one job a call.
const CALLERS: [usize; 2] = [1, 64];
/// Divisor of the number of jobs for a lone caller, who needs long.
const ALONE: u64 = 10;

/// Resources that one step used in total.
struct Spent {
    jobs: u64,
    counters: Option<Counters>,
    server: Duration,
    database: Option<Duration>,
    /// CPU time of the program that submits or works.
    client: Duration,
    memory: resources::Memory,
}

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("cost");
    let columns = [
        "store",
        "step",
        "WAL B a job",
        "commits a job",
        "rows that died a job",
        "server CPU µs a job",
        "database µs",
        "client µs",
        "server MiB",
        "most MiB",
    ];
    let mut table = Table::new("64 B of payload", &columns);
    let jobs = bench.pick(JOBS_QUICK, JOBS);
    for &store in &bench.stores {
        let mut steps: Vec<(String, SubmitPlan)> = Vec::new();
        for callers in CALLERS {
            let jobs = if callers == 1 { jobs / ALONE } else { jobs };
            steps.push((
                format!("submit, one a call, {callers} at once"),
                SubmitPlan::new("", WORKER_ID_PREFIX, callers, Amount::Jobs(jobs)),
            ));
        }
        let batches = SubmitPlan { batch: BATCH, ..SubmitPlan::new("", WORKER_ID_PREFIX, BATCHES, Amount::Jobs(jobs)) };
        steps.push((format!("submit, batches of {BATCH}"), batches.clone()));
        let mut life = Vec::new();
        for (what, plan) in steps {
            progress(&format!("{}: {what}", store.name()));
            let database = bench.empty_database(store).await?;
            let spent = measure_step(&database, async |server: &Server| {
                let plan = SubmitPlan { endpoints: vec![server.endpoint.clone()], ..plan.clone() };
                let submitted = submit(plan).await?;
                Ok((submitted.all, Duration::from_secs_f64(submitted.cpu)))
            })
            .await?;
            table.row(spent.row(store, what));
            if plan.batch > 1 {
                progress(&format!("{}: drain", store.name()));
                let drained = measure_step(&database, async |server: &Server| {
                    let drained = drain(&server.endpoint, one_worker(&server.endpoint)).await?;
                    Ok((drained.jobs, Duration::from_secs_f64(drained.cpu)))
                })
                .await?;
                table.row(drained.row(store, format!("drain, {SLOTS} slots")));
                life = vec![spent, drained];
            }
        }
        let wal: f64 = life.iter().filter_map(|spent| Some(spent.counters?.wal_bytes / spent.jobs as f64)).sum();
        if store == Store::Postgres {
            report.figures.insert("cost.wal_a_job".to_owned(), wal);
            report.notes.push(format!("a whole life, submitted in batches and drained: {wal:.0} B of WAL"));
        }
    }
    report.tables.push(table);
    report.notes.push("each step has a server of its own, and begins after a checkpoint: the pages that it touches first go into the log whole".to_owned());
    Ok(report)
}

/// Does `work` on a new server, and measures what that costs, up to the end of the server.
async fn measure_step(
    database: &Database,
    work: impl AsyncFnOnce(&Server) -> Result<(u64, Duration)>,
) -> Result<Spent> {
    let cluster = database.cluster();
    let server = Server::start(database, &[]).await?;
    let before = match cluster {
        Some(cluster) => {
            cluster.checkpoint().await?;
            Some((cluster.counters(&database.url).await?, resources::cpu(cluster.pid()?)?))
        }
        None => None,
    };
    let cpu_before = resources::cpu(server.pid())?;
    let (jobs, client) = work(&server).await?;
    let spent = resources::cpu(server.pid())?.saturating_sub(cpu_before);
    let memory = resources::memory(server.pid())?;
    let database_spent = match (cluster, before) {
        (Some(cluster), Some((_, cpu))) => Some(resources::cpu(cluster.pid()?)?.saturating_sub(cpu)),
        _ => None,
    };
    // The server's connections report their statistics when they close.
    server.stop().await?;
    let counters = match (cluster, before) {
        (Some(cluster), Some((counters, _))) => Some(cluster.counters(&database.url).await?.since(&counters)),
        _ => None,
    };
    Ok(Spent { jobs, counters, server: spent, database: database_spent, client, memory })
}

impl Spent {
    fn row(&self, store: Store, what: String) -> Vec<Cell> {
        let jobs = self.jobs as f64;
        let micros = |time: Duration| Cell::from(time.as_secs_f64() * 1e6 / jobs);
        let nothing = || Cell::from("");
        let counter =
            |value: fn(&Counters) -> f64| self.counters.as_ref().map_or_else(nothing, |it| (value(it) / jobs).into());
        vec![
            store.name().into(),
            what.into(),
            counter(|counters| counters.wal_bytes),
            counter(|counters| counters.commits),
            counter(|counters| counters.dead_rows_made),
            micros(self.server),
            self.database.map_or_else(nothing, micros),
            micros(self.client),
            self.memory.now.into(),
            self.memory.most.into(),
        ]
    }
}
