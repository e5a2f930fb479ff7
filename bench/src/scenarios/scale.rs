//! Scale scenario: jobs drained per second with more and more servers, workers and worker_ids, jobs submitted per
//! second with more servers, and what a thousand idle sessions cost: percent of a core of server and database, and the
//! server's memory in MiB.

use std::time::{Duration, Instant};

use anyhow::Result;

use crate::{
    bench::Bench,
    load::{
        child::{Child, Role},
        steps::{SLOTS, WORKER_ID_PREFIX, drain, preload, progress, submit, warm_up},
        submit::{Amount, SubmitPlan},
        work::{Handled, WorkPlan},
    },
    measure::{report::Report, resources, table::Table},
    under_test::{
        database::{Database, Store},
        server::Server,
    },
};

const SERVERS: [usize; 3] = [1, 2, 4];
const WORKERS_QUICK: &[usize] = &[1, 64];
const WORKERS: &[usize] = &[1, 2, 4, 8, 16, 32, 64];
const WORKER_IDS_QUICK: &[usize] = &[1_000];
const WORKER_IDS: &[usize] = &[1, 10, 100, 1_000];
const DRAINED_QUICK: u64 = 50_000;
const DRAINED: u64 = 200_000;
/// Slots of all workers together.
const SLOTS_IN_ALL: usize = 1_000;
const WORKER_PROCESSES: usize = 2;
const CALLERS: usize = 64;
const SUBMIT_SECONDS_QUICK: f64 = 2.0;
const SUBMIT_SECONDS: f64 = 10.0;
const IDLE_SESSIONS: usize = 1_000;
/// Time until every session has registered, has a parked poll, and sends heartbeats in its turn.
const IDLE_WARM_UP: Duration = Duration::from_secs(12);
/// Seconds for which idle sessions are measured: at least a whole turn of the calls that wait for jobs.
const IDLE_SECONDS_QUICK: u64 = 50;
const IDLE_SECONDS: u64 = 150;
const ALONE_SECONDS: u64 = 20;
/// Options of the server for runs in which each session has a connection of its own.
const MANY_CONNECTIONS: [&str; 2] = ["--max-connections", "4000"];

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("scale");
    if bench.stores.contains(&Store::Postgres) {
        report.tables.push(servers(bench).await?);
    }
    let title = format!("One server, {SLOTS_IN_ALL} slots in all");
    let mut workers = Table::new(title.clone(), &["store", "workers of one worker_id", "drain, jobs/s"]);
    let mut ids = Table::new(title, &["store", "worker_ids, a worker each", "drain, jobs/s"]);
    let columns = ["store", "sessions", "server, % of a core", "database, % of a core", "server MiB", "most MiB"];
    let mut idle = Table::new("Nothing to do", &columns);
    for &store in bench.stores_for_idle_scenarios() {
        for &count in bench.pick(WORKERS_QUICK, WORKERS) {
            progress(&format!("{}: {count} workers", store.name()));
            let rates = drain_rates(bench, store, 1, count).await?;
            workers.row([store.name().into(), (count as f64).into(), (&rates).into()]);
        }
        for &count in bench.pick(WORKER_IDS_QUICK, WORKER_IDS) {
            progress(&format!("{}: {count} worker_ids", store.name()));
            let rates = drain_rates(bench, store, count, 1).await?;
            ids.row([store.name().into(), (count as f64).into(), (&rates).into()]);
        }
        for sessions in [0, IDLE_SESSIONS] {
            progress(&format!("{}: {sessions} idle sessions", store.name()));
            let found = measure_idle(bench, store, sessions).await?;
            if sessions > 0 {
                report.figures.insert(format!("idle.{}.server", store.name()), found.server);
                report.figures.insert(format!("idle.{}.mib", store.name()), found.memory.now);
            }
            idle.row([
                store.name().into(),
                (sessions as f64).into(),
                (found.server * 100.0).into(),
                found.database.map_or_else(|| "".into(), |share| (share * 100.0).into()),
                found.memory.now.into(),
                found.memory.most.into(),
            ]);
        }
    }
    report.tables.extend([workers, ids, idle]);
    report.notes.push(format!("idle workers: one process with a connection a session, at most {MANY_CONNECTIONS:?}"));
    Ok(report)
}

/// Measures servers on one database: a drain by four worker processes spread over them, and submits to all of them.
async fn servers(bench: &Bench) -> Result<Table> {
    let mut table = Table::new("Servers on one PostgreSQL", &["servers", "drain, jobs/s", "submits/s, 64 at once"]);
    for count in SERVERS {
        progress(&format!("{count} servers"));
        let (mut drains, mut submits) = (Vec::new(), Vec::new());
        for _ in 0..bench.repeats() {
            let database = bench.empty_database(Store::Postgres).await?;
            let mut running = Vec::new();
            for _ in 0..count {
                running.push(Server::start(&database, &[]).await?);
            }
            let endpoints: Vec<String> = running.iter().map(|server| server.endpoint.clone()).collect();
            warm_up(&endpoints[0]).await?;
            preload(&endpoints[0], bench.pick(DRAINED_QUICK, DRAINED), |_| {}).await?;
            drains.push(drain(&endpoints[0], worker_plans(&endpoints, 4, SLOTS)).await?.rate());
            let measure = bench.pick(SUBMIT_SECONDS_QUICK, SUBMIT_SECONDS);
            let plan = SubmitPlan::new("", WORKER_ID_PREFIX, CALLERS, Amount::Seconds { warm_up: 1.0, measure });
            submits.push(submit(SubmitPlan { endpoints, ..plan }).await?.rate());
            for server in running {
                server.stop().await?;
            }
        }
        table.row([(count as f64).into(), (&drains).into(), (&submits).into()]);
    }
    Ok(table)
}

/// Plans of worker processes for one worker_id, spread over servers.
fn worker_plans(endpoints: &[String], count: usize, slots: usize) -> Vec<WorkPlan> {
    let endpoint = |n: usize| endpoints[n % endpoints.len()].as_str();
    (0..count).map(|n| WorkPlan::new(endpoint(n), WORKER_ID_PREFIX, slots)).collect()
}

/// Drain rates in jobs per second with `worker_ids` worker_ids, and `workers` workers for each.
async fn drain_rates(bench: &Bench, store: Store, worker_ids: usize, workers: usize) -> Result<Vec<f64>> {
    let mut rates = Vec::new();
    for _ in 0..bench.repeats() {
        let database = bench.empty_database(store).await?;
        let server = Server::start(&database, &MANY_CONNECTIONS).await?;
        let endpoint = server.endpoint.as_str();
        preload(endpoint, bench.pick(DRAINED_QUICK, DRAINED), |plan| plan.worker_ids = worker_ids).await?;
        let slots = (SLOTS_IN_ALL / (worker_ids * workers)).clamp(1, SLOTS);
        let plan = WorkPlan { worker_ids, workers, ..WorkPlan::new(endpoint, WORKER_ID_PREFIX, slots) };
        rates.push(drain(endpoint, split_between_processes(&plan)).await?.rate());
        server.stop().await?;
    }
    Ok(rates)
}

/// Splits the work of a plan between several processes, where there is enough of it.
fn split_between_processes(plan: &WorkPlan) -> Vec<WorkPlan> {
    let halves = |count: usize| [count.div_ceil(WORKER_PROCESSES), count / WORKER_PROCESSES];
    if plan.worker_ids > 1 {
        let [first, second] = halves(plan.worker_ids);
        let one = WorkPlan { worker_ids: first, ..plan.clone() };
        return vec![one, WorkPlan { first: first + plan.first, worker_ids: second, ..plan.clone() }];
    }
    let halves = halves(plan.workers).into_iter().filter(|&workers| workers > 0);
    halves.map(|workers| WorkPlan { workers, ..plan.clone() }).collect()
}

/// Cost of sessions that have nothing to do.
struct Idle {
    /// CPU use, in cores.
    server: f64,
    database: Option<f64>,
    memory: resources::Memory,
}

/// Measures a server with `sessions` idle sessions.
async fn measure_idle(bench: &Bench, store: Store, sessions: usize) -> Result<Idle> {
    let database: Database = bench.empty_database(store).await?;
    let server = Server::start(&database, &MANY_CONNECTIONS).await?;
    let plan = WorkPlan { worker_ids: sessions, ..WorkPlan::new(&server.endpoint, "idle-", 1) };
    let mut workers = Child::start(&Role::Work(plan)).await?;
    workers.go().await?;
    tokio::time::sleep(if sessions > 0 { IDLE_WARM_UP } else { Duration::ZERO }).await;
    let postmaster = database.cluster().map(|cluster| cluster.pid()).transpose()?;
    let cpu = |pid: Option<u32>| pid.map(resources::cpu).transpose();
    let (before, database_before, since) = (resources::cpu(server.pid())?, cpu(postmaster)?, Instant::now());
    let seconds = if sessions > 0 { bench.pick(IDLE_SECONDS_QUICK, IDLE_SECONDS) } else { ALONE_SECONDS };
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let time = since.elapsed().as_secs_f64();
    let used = resources::cpu(server.pid())?.saturating_sub(before).as_secs_f64() / time;
    let database_used = match (database_before, cpu(postmaster)?) {
        (Some(before), Some(after)) => Some((after.saturating_sub(before)).as_secs_f64() / time),
        _ => None,
    };
    let memory = resources::memory(server.pid())?;
    workers.finish::<Handled>().await?;
    server.stop().await?;
    Ok(Idle { server: used, database: database_used, memory })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_split_between_processes_without_loss() {
        let plan = WorkPlan { first: 3, worker_ids: 101, ..WorkPlan::new("", "w", 1) };
        let parts = split_between_processes(&plan);
        assert_eq!(parts.iter().map(|part| (part.first, part.worker_ids)).collect::<Vec<_>>(), [(3, 51), (54, 50)]);
        let lone = split_between_processes(&WorkPlan::new("", "w", 1));
        assert_eq!(lone.len(), 1);
        let many = split_between_processes(&WorkPlan { workers: 5, ..WorkPlan::new("", "w", 1) });
        assert_eq!(many.iter().map(|part| part.workers).collect::<Vec<_>>(), [3, 2]);
    }
}
