//! Submit scenario: jobs per second that are acknowledged as stored, and the time of a submit call in ms, with one job
//! a call from more and more callers, with idempotency keys, and in batches.

use std::time::Duration;

use anyhow::Result;

use crate::{
    bench::Bench,
    limits::{self, echo_calls},
    load::{
        steps::{BATCH, BATCHES, WORKER_ID_PREFIX, progress, submit},
        submit::{Amount, SubmitPlan},
    },
    measure::{
        report::Report,
        stats::median,
        table::{Cell, Table},
    },
    under_test::database::Store,
};

const CALLERS: [usize; 4] = [1, 16, 64, 256];
/// Callers of the run in which each job has an idempotency key.
const KEYED_CALLERS: usize = 64;
const WARM_UP: f64 = 1.0;
const SECONDS_QUICK: f64 = 2.0;
const SECONDS: f64 = 10.0;

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("submit");
    let columns =
        ["store", "submitting", "jobs/s", "call p50 ms", "call p99 ms", "of its limit", "the limit, in turns with it"];
    let mut table = Table::new("64 B of payload", &columns);
    let amount = Amount::Seconds { warm_up: WARM_UP, measure: bench.pick(SECONDS_QUICK, SECONDS) };
    for &store in &bench.stores {
        let mut plans: Vec<(String, SubmitPlan)> = CALLERS
            .iter()
            .map(|&callers| {
                (format!("one a call, {callers} at once"), SubmitPlan::new("", WORKER_ID_PREFIX, callers, amount))
            })
            .collect();
        let keyed = SubmitPlan { keyed: true, ..SubmitPlan::new("", WORKER_ID_PREFIX, KEYED_CALLERS, amount) };
        plans.push((format!("one a call, {KEYED_CALLERS} at once, each with a key"), keyed));
        let batches = SubmitPlan { batch: BATCH, ..SubmitPlan::new("", WORKER_ID_PREFIX, BATCHES, amount) };
        plans.push((format!("batches of {BATCH}, {BATCHES} at once"), batches));
        for (what, plan) in plans {
            progress(&format!("{}: {what}", store.name()));
            let (mut rates, mut p50, mut p99, mut limits) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
            for _ in 0..bench.repeats() {
                let (_database, server) = bench.start_server(store).await?;
                let found = submit(SubmitPlan { endpoints: vec![server.endpoint.clone()], ..plan.clone() }).await?;
                rates.push(found.rate());
                p50.push(found.calls.p50);
                p99.push(found.calls.p99);
                server.stop().await?;
                limits.push(limit(bench, store, &plan).await?);
            }
            let rate = median(&rates);
            let share = Cell::share(rate, Some(median(&limits)));
            let name = match (plan.batch > 1, store) {
                (false, _) => "calls that do nothing",
                (true, Store::Postgres) => "bare inserts",
                (true, Store::Sqlite) => "the store alone",
            };
            report.figures.insert(figure(store, &plan), rate);
            table.row([
                store.name().into(),
                what.into(),
                (&rates).into(),
                (&p50).into(),
                (&p99).into(),
                share,
                name.into(),
            ]);
        }
    }
    report.tables.push(table);
    Ok(report)
}

fn figure(store: Store, plan: &SubmitPlan) -> String {
    let how = match (plan.batch > 1, plan.keyed) {
        (true, _) => "batches".to_owned(),
        (_, true) => "keyed".to_owned(),
        _ => plan.callers.to_string(),
    };
    format!("submit.{}.{how}", store.name())
}

/// Limit of a plan: a call for each job cannot be faster than a call that does nothing, and a batch not faster than
/// bare inserts of its rows.
async fn limit(bench: &Bench, store: Store, plan: &SubmitPlan) -> Result<f64> {
    if plan.batch > 1 {
        return Ok(limits::bare_rates(bench, store).await?.insert);
    }
    let time = Duration::from_secs_f64(bench.pick(SECONDS_QUICK, SECONDS));
    Ok(echo_calls::measure(plan.callers, time).await?.0)
}
