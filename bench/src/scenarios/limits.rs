//! Limits scenario: how often per second this machine can do what jobs are made of: syncs of the disk, PostgreSQL's
//! commits, and gRPC calls that do nothing; and how many jobs per second jobqueue's bare statements and its store
//! without a network handle. Submits, drains and latencies are also given as shares of these.

use std::time::Duration;

use anyhow::Result;

use crate::{
    bench::Bench,
    limits::{self, bare_rates::BareRates, disk, echo_calls, statements, store_alone},
    load::steps::{BATCH, BATCHES, progress},
    measure::{report::Report, table::Table},
    under_test::database::Store,
};

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
    let seconds = limits::seconds(bench);
    let time = Duration::from_secs(seconds.into());
    let folder = bench.postgres.as_ref().map_or_else(|| Ok(std::env::temp_dir()), |postgres| postgres.folder())?;
    progress("fdatasync");
    figure("fdatasync of 8 KiB", "fdatasync", disk::fdatasyncs(&folder, time)?);

    if bench.postgres.is_some() {
        progress("commits of one row");
        for (clients, rate) in statements::commits(bench, seconds).await? {
            figure(&format!("PostgreSQL: commit of one row, {clients} clients"), &format!("commit.{clients}"), rate);
        }
        progress("the bare statements");
        let bare = limits::bare_rates(bench, Store::Postgres).await?;
        figure("PostgreSQL: bare statements, insert, acquire, settle, jobs", "sql_cycle", bare.cycle);
        figure("PostgreSQL: bare statements, insert, jobs", "sql_insert", bare.insert);
        if let Some(drain) = bare.drain {
            figure("PostgreSQL: bare statements, acquire, settle, jobs", "sql_drain", drain);
        }
    }
    for &store in &bench.stores {
        progress(&format!("the store by itself, {}", store.name()));
        let BareRates { insert, cycle, .. } = store_alone::measure(bench, store, time).await?;
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
        let (rate, times) = echo_calls::measure(callers, time).await?;
        figure(&format!("gRPC call that does nothing, {callers} at once"), &format!("echo.{callers}"), rate);
        figure("", &format!("echo_p50_ms.{callers}"), times.p50);
    }
    Ok(report)
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
