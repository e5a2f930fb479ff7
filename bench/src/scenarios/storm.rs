//! Storm scenario: submits acknowledged and refused per second, time of a call in ms, and the server's memory in MiB,
//! with ten times as many callers as can be served. It fails if an acknowledged job is not stored; the latency from
//! submit to start in ms, before and right after, shows whether the overload passes.

use anyhow::{Result, bail};

use crate::{
    bench::Bench,
    load::{
        steps::{WORKER_ID_PREFIX, measure_latency, progress, submit, warm_up},
        submit::{Amount, SubmitPlan},
    },
    measure::{report::Report, resources, table::Table},
    under_test::api::Api,
};

/// Number of callers: more than the calls that may wait, which are 8,192 and those of the group under way.
const CALLERS: usize = 12_800;
const SECONDS_QUICK: f64 = 5.0;
const SECONDS: f64 = 30.0;
const RATE: f64 = 100.0;
const LATENCY_SECONDS: f64 = 5.0;

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("storm");
    let columns = [
        "store",
        "callers",
        "acknowledged/s",
        "refused/s",
        "call p50 ms",
        "call p99 ms",
        "server MiB before",
        "most MiB",
        "p50 ms at 100/s before",
        "right after",
        "p99 ms before",
        "right after",
    ];
    let mut table = Table::new("64 B of payload, a pause of 100 ms after each refusal", &columns);
    for &store in &bench.stores {
        progress(store.name());
        let (_database, server) = bench.start_server(store).await?;
        warm_up(&server.endpoint).await?;
        let before = measure_latency(&server.endpoint, RATE, LATENCY_SECONDS).await?;
        let api = Api::connect(&server.endpoint).await?;
        let (memory, stored) = (resources::memory(server.pid())?.now, api.metrics().await?.total as u64);
        let amount = Amount::Seconds { warm_up: 1.0, measure: bench.pick(SECONDS_QUICK, SECONDS) };
        let stormed = submit(SubmitPlan::new(&server.endpoint, WORKER_ID_PREFIX, CALLERS, amount)).await?;
        let found = api.metrics().await?.total as u64 - stored;
        if found != stormed.all {
            bail!("{} jobs were acknowledged and {found} are there", stormed.all);
        }
        let after = measure_latency(&server.endpoint, RATE, LATENCY_SECONDS).await?;
        table.row([
            store.name().into(),
            (CALLERS as f64).into(),
            stormed.rate().into(),
            (stormed.refused as f64 / stormed.seconds).into(),
            stormed.calls.p50.into(),
            stormed.calls.p99.into(),
            memory.into(),
            resources::memory(server.pid())?.most.into(),
            before.start.p50.into(),
            after.start.p50.into(),
            before.start.p99.into(),
            after.start.p99.into(),
        ]);
        server.stop().await?;
    }
    report.tables.push(table);
    Ok(report)
}
