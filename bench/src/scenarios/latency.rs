//! Latency scenario: time from the submit of a job to the start of its handler, as percentiles in ms, at several rates
//! of submits. One process submits and works, so that both times are by one clock.

use anyhow::Result;

use super::limits::least_latency;
use crate::{
    bench::Bench,
    load::{
        child::{Child, Role},
        paced::Latencies,
        steps::{WORKER_ID_PREFIX, measure_latency, one_worker, progress, submit},
        submit::{Amount, SubmitPlan},
        work::Handled,
    },
    measure::{
        report::Report,
        stats::median,
        table::{Cell, Table},
    },
    under_test::database::Store,
};

/// Rates in jobs per second.
const RATES: [f64; 3] = [10.0, 100.0, 1_000.0];
const SECONDS_QUICK: f64 = 6.0;
const SECONDS: f64 = 30.0;
/// Submitters in the run that finds the highest rate of one server and one worker.
const CALLERS: usize = 64;
const FIND_SECONDS_QUICK: f64 = 2.0;
const FIND_SECONDS: f64 = 10.0;

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("latency");
    let columns = ["store", "jobs/s", "p50 ms", "p95 ms", "p99 ms", "p99.9 ms", "submit call p50 ms", "least, of p50"];
    let mut table = Table::new("From the submit call to the first line of the handler", &columns);
    for &store in &bench.stores {
        progress(&format!("{}: the most that goes", store.name()));
        let highest = highest_rate(bench, store).await?;
        for rate in RATES.into_iter().chain([highest / 2.0]) {
            progress(&format!("{}: {rate:.0} jobs/s", store.name()));
            let mut found: Vec<Latencies> = Vec::new();
            for _ in 0..bench.repeats() {
                let (_database, server) = bench.start_server(store).await?;
                found.push(measure_latency(&server.endpoint, rate, bench.pick(SECONDS_QUICK, SECONDS)).await?);
                server.stop().await?;
            }
            let all = |value: fn(&Latencies) -> f64| found.iter().map(value).collect::<Vec<f64>>();
            let p50 = all(|latencies| latencies.start.p50);
            let name = if (rate - highest / 2.0).abs() < 0.5 { "half".to_owned() } else { format!("{rate:.0}") };
            report.figures.insert(format!("latency.{}.{name}.p50", store.name()), median(&p50));
            report
                .figures
                .insert(format!("latency.{}.{name}.p99", store.name()), median(&all(|latencies| latencies.start.p99)));
            table.row([
                store.name().into(),
                (&all(|latencies| latencies.rate)).into(),
                (&p50).into(),
                (&all(|latencies| latencies.start.p95)).into(),
                (&all(|latencies| latencies.start.p99)).into(),
                (&all(|latencies| latencies.start.p999)).into(),
                (&all(|latencies| latencies.submit.p50)).into(),
                least_latency(bench, store).map_or_else(|| "".into(), |least| Cell::share(least, Some(median(&p50)))),
            ]);
        }
    }
    report.tables.push(table);
    report.notes.push("the last rate of each store is half of the most that one server and one worker did".to_owned());
    report.notes.push("least: one commit and two calls that do nothing, as the limits found them".to_owned());
    Ok(report)
}

/// Highest rate in jobs per second through one server and one worker, with jobs submitted one a call by many callers at
/// once.
async fn highest_rate(bench: &Bench, store: Store) -> Result<f64> {
    let (_database, server) = bench.start_server(store).await?;
    let mut workers = Vec::new();
    for plan in one_worker(&server.endpoint) {
        workers.push(Child::start(&Role::Work(plan)).await?);
    }
    for worker in &mut workers {
        worker.go().await?;
    }
    let amount = Amount::Seconds { warm_up: 1.0, measure: bench.pick(FIND_SECONDS_QUICK, FIND_SECONDS) };
    let found = submit(SubmitPlan::new(&server.endpoint, WORKER_ID_PREFIX, CALLERS, amount)).await?;
    for worker in workers {
        worker.finish::<Handled>().await?;
    }
    server.stop().await?;
    Ok(found.rate())
}
