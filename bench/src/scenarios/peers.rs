//! Peers scenario: jobs submitted per second, jobs drained per second, and latency from submit to start in ms, of
//! jobqueue and of other durable queues on the same PostgreSQL in the same run. Each is driven as its documents
//! recommend.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::process::Command;

use crate::{
    bench::Bench,
    load::{
        steps::{self, BATCH, BATCHES, WORKER_ID_PREFIX, one_worker, preload, progress, warm_up},
        submit::{Amount, SubmitPlan},
    },
    measure::{
        report::Report,
        stats::median,
        table::{Cell, Table, number},
    },
    under_test::database::{Database, Store},
};

const CALLERS: [usize; 2] = [16, 64];
const WARM_UP: f64 = 1.0;
const SECONDS_QUICK: f64 = 3.0;
const SECONDS: f64 = 10.0;
const DRAINED_QUICK: u64 = 100_000;
const DRAINED: u64 = 200_000;
const RATE: f64 = 100.0;
const LATENCY_SECONDS_QUICK: f64 = 5.0;
const LATENCY_SECONDS: f64 = 30.0;

/// Queue to compare with.
struct Peer {
    name: &'static str,
    /// Text that says whether finished jobs are kept or deleted.
    finished: &'static str,
    program: Program,
}

enum Program {
    Rust(&'static str),
    Node(&'static str),
}

const PEERS: [Peer; 4] = [
    Peer { name: "graphile_worker (crates.io)", finished: "deleted", program: Program::Rust("graphile_worker") },
    Peer { name: "apalis-postgres (crates.io)", finished: "kept", program: Program::Rust("apalis_postgres") },
    Peer { name: "graphile-worker (npm)", finished: "deleted", program: Program::Node("graphile-worker.mjs") },
    Peer { name: "pg-boss (npm)", finished: "kept", program: Program::Node("pg-boss.mjs") },
];

/// Step that a peer's program is told to do.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(tag = "step", rename_all = "snake_case")]
enum Step {
    Submit { callers: usize, batch: usize, warm_up: f64, measure: f64 },
    Drain { jobs: u64 },
    Latency { rate: f64, warm_up: f64, measure: f64 },
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Rate {
    jobs: f64,
    seconds: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
struct Latency {
    p50: f64,
    p99: f64,
}

/// Row of the table, with a value for each repetition.
#[derive(Debug, Default)]
struct Row {
    submit: [Vec<f64>; CALLERS.len()],
    batches: Vec<f64>,
    drain: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("peers");
    let folder = bench.peers.as_deref().context("cargo xtask bench prepares the peers; this was run without it")?;
    let mut columns: Vec<String> = vec!["queue".into(), "finished jobs".into()];
    columns.extend(CALLERS.map(|callers| format!("submits/s, {callers} at once")));
    columns.push(format!("batches of {BATCH}, jobs/s"));
    columns.push(format!("drain of {}, jobs/s", bench.pick(DRAINED_QUICK, DRAINED)));
    columns.extend([format!("p50 ms at {RATE}/s"), "p99 ms".to_owned()]);
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new("", &columns);
    let mut versus = Table::new("jobqueue against the best of each column, medians over the rounds", &columns);

    let mut rows: [Row; PEERS.len()] = Default::default();
    let mut jobqueue_rows: Vec<Row> = bench.stores.iter().map(|_| Row::default()).collect();
    // Measured in turns, because a machine's speed changes within the hour that this takes.
    for round in 1..=bench.repeats() {
        for (peer, row) in PEERS.iter().zip(&mut rows) {
            progress(&format!("{}, round {round}", peer.name));
            measure_peer(bench, folder, peer, row).await?;
        }
        for (&store, row) in bench.stores.iter().zip(&mut jobqueue_rows) {
            progress(&format!("jobqueue on {}, round {round}", store.name()));
            measure_jobqueue(bench, store, row).await?;
        }
    }
    for (peer, row) in PEERS.iter().zip(&rows) {
        table.row(row.cells(peer.name, peer.finished));
    }
    for (&store, row) in bench.stores.iter().zip(&jobqueue_rows) {
        let name = format!("**jobqueue** on {}", store.name());
        table.row(row.cells(&name, "kept"));
        let ratios = row.ratios_to_best(&rows);
        for (column, ratio) in ["submit.16", "submit.64", "batches", "drain", "p50", "p99"].iter().zip(ratios) {
            report.figures.insert(format!("peers.{}.{column}", store.name()), ratio);
        }
        let cells = ratios.map(|ratio| Cell::from(format!("× {}", number(ratio))));
        versus.row([Cell::from(name), "kept".into()].into_iter().chain(cells));
    }
    report.tables.extend([table, versus]);
    report.notes.push("latency: from the submit call to the handler's first line, submitter and worker in one process; below × 1 is sooner".to_owned());
    report.notes.push("pg-boss calls a handler with a batch, all others with one job".to_owned());
    Ok(report)
}

/// Runs every step of a peer once.
async fn measure_peer(bench: &Bench, folder: &Path, peer: &Peer, row: &mut Row) -> Result<()> {
    let measure = bench.pick(SECONDS_QUICK, SECONDS);
    let submit = |callers, batch| Step::Submit { callers, batch, warm_up: WARM_UP, measure };
    let rate = |rate: Rate| rate.jobs / rate.seconds;
    for (values, callers) in row.submit.iter_mut().zip(CALLERS) {
        values.push(rate(run_step(bench, folder, peer, submit(callers, 1)).await?));
    }
    row.batches.push(rate(run_step(bench, folder, peer, submit(BATCHES, BATCH)).await?));
    let jobs = bench.pick(DRAINED_QUICK, DRAINED);
    row.drain.push(rate(run_step(bench, folder, peer, Step::Drain { jobs }).await?));
    let measure = bench.pick(LATENCY_SECONDS_QUICK, LATENCY_SECONDS);
    let latency: Latency =
        run_step(bench, folder, peer, Step::Latency { rate: RATE, warm_up: WARM_UP, measure }).await?;
    row.p50.push(latency.p50);
    row.p99.push(latency.p99);
    Ok(())
}

/// Runs one step of a peer's program on a fresh database.
async fn run_step<T: DeserializeOwned>(bench: &Bench, folder: &Path, peer: &Peer, step: Step) -> Result<T> {
    let database = bench.empty_database(Store::Postgres).await?;
    let mut command = peer.command(folder);
    command.arg(&database.url).arg(serde_json::to_string(&step)?);
    let output = command.output().await.with_context(|| format!("cannot run {}", peer.name))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().last() {
        Some(line) if output.status.success() => {
            serde_json::from_str(line).with_context(|| format!("{} printed {line}", peer.name))
        }
        _ => bail!("{}: {step:?} failed: {}", peer.name, String::from_utf8_lossy(&output.stderr)),
    }
}

/// Runs the steps of the peers with jobqueue.
async fn measure_jobqueue(bench: &Bench, store: Store, row: &mut Row) -> Result<()> {
    let amount = Amount::Seconds { warm_up: WARM_UP, measure: bench.pick(SECONDS_QUICK, SECONDS) };
    let plan = |callers, batch| SubmitPlan { batch, ..SubmitPlan::new("", WORKER_ID_PREFIX, callers, amount) };
    for (values, callers) in row.submit.iter_mut().zip(CALLERS) {
        values.push(submit_rate(bench, store, plan(callers, 1)).await?);
    }
    row.batches.push(submit_rate(bench, store, plan(BATCHES, BATCH)).await?);
    let (_database, server): (Database, _) = bench.start_server(store).await?;
    warm_up(&server.endpoint).await?;
    preload(&server.endpoint, bench.pick(DRAINED_QUICK, DRAINED), |_| {}).await?;
    row.drain.push(steps::drain(&server.endpoint, one_worker(&server.endpoint)).await?.rate());
    server.stop().await?;
    let (_database, server) = bench.start_server(store).await?;
    let latencies =
        steps::measure_latency(&server.endpoint, RATE, bench.pick(LATENCY_SECONDS_QUICK, LATENCY_SECONDS)).await?;
    row.p50.push(latencies.start.p50);
    row.p99.push(latencies.start.p99);
    server.stop().await
}

async fn submit_rate(bench: &Bench, store: Store, plan: SubmitPlan) -> Result<f64> {
    let (_database, server) = bench.start_server(store).await?;
    let found = steps::submit(SubmitPlan { endpoints: vec![server.endpoint.clone()], ..plan }).await?;
    server.stop().await?;
    Ok(found.rate())
}

impl Peer {
    fn command(&self, folder: &Path) -> Command {
        match self.program {
            Program::Rust(name) => Command::new(folder.join("rust/target/release").join(name)),
            Program::Node(script) => {
                let node = folder.join("node");
                let mut command = Command::new(node.join("node_modules/node/bin/node"));
                command.arg(node.join(script)).current_dir(node);
                command
            }
        }
    }
}

impl Row {
    fn values(&self) -> [&Vec<f64>; 6] {
        let [few, many] = &self.submit;
        [few, many, &self.batches, &self.drain, &self.p50, &self.p99]
    }

    fn cells(&self, name: &str, finished: &str) -> Vec<Cell> {
        let values = self.values().map(Cell::from);
        [Cell::from(name), finished.into()].into_iter().chain(values).collect()
    }

    /// Median over the rounds of this row's multiple of the best of the others: the largest rate, or the smallest time.
    fn ratios_to_best(&self, others: &[Self]) -> [f64; 6] {
        let times = 4;
        std::array::from_fn(|column| {
            let best = |round: usize| {
                let all = others.iter().map(|row| row.values()[column][round]);
                if column < times { all.fold(0.0, f64::max) } else { all.fold(f64::INFINITY, f64::min) }
            };
            let ratios = self.values()[column].iter().enumerate().map(|(round, value)| value / best(round));
            median(&ratios.collect::<Vec<_>>())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<const N: usize>(rates: [f64; N], times: [f64; N]) -> Row {
        let (rates, times) = (|| rates.to_vec(), || times.to_vec());
        Row { submit: [rates(), rates()], batches: rates(), drain: rates(), p50: times(), p99: times() }
    }

    #[test]
    fn rates_are_compared_with_the_fastest_and_times_with_the_soonest() {
        let ratios = row([300.0], [1.0]).ratios_to_best(&[row([100.0], [2.0]), row([50.0], [4.0])]);
        assert_eq!(ratios.map(|ratio| (ratio * 10.0) as i64), [30, 30, 30, 30, 5, 5]);
    }

    #[test]
    fn each_round_is_compared_by_itself() {
        // The machine slows down from round to round, and the last round happens to favour another queue.
        let ours = row([300.0, 30.0, 3.0], [1.0, 10.0, 100.0]);
        let ratios = ours
            .ratios_to_best(&[row([100.0, 10.0, 3.0], [2.0, 20.0, 100.0]), row([90.0, 9.0, 1.0], [3.0, 30.0, 300.0])]);
        assert_eq!(ratios.map(|ratio| (ratio * 10.0) as i64), [30, 30, 30, 30, 5, 5]);
    }

    #[test]
    fn peers_are_told_their_step_as_their_programs_read_it() {
        let submit = Step::Submit { callers: 16, batch: 1, warm_up: 1.0, measure: 3.0 };
        let text = r#"{"step":"submit","callers":16,"batch":1,"warm_up":1.0,"measure":3.0}"#;
        assert_eq!(serde_json::to_string(&submit).unwrap(), text);
    }
}
