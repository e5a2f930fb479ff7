//! Drain scenario: jobs per second that workers finish when all jobs wait already at the start. Each job is a call of a
//! handler that does nothing; the time ends with the last durable `done`.

use anyhow::Result;

use crate::{
    bench::Bench,
    limits,
    load::steps::{SLOTS, drain, one_worker, preload, progress, warm_up},
    measure::{
        report::Report,
        stats::median,
        table::{Cell, Table},
    },
    under_test::database::Store,
};

/// Payload in bytes, worker processes, and jobs in a quick run and in a full one.
const CASES: [(usize, usize, u64, u64); 4] = [
    (64, 1, 100_000, 200_000),
    (64, 4, 100_000, 200_000),
    (2 * 1024, 1, 50_000, 200_000),
    // As many bytes as 600,000 jobs of 2 KiB.
    (64 * 1024, 1, 4_000, 20_000),
];

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("drain");
    let columns = [
        "store",
        "payload B",
        "worker processes",
        "jobs",
        "jobs/s",
        "of bare acquire and settle",
        "with its submits, of the bare cycle",
    ];
    let mut table = Table::new(format!("No-op handlers, {SLOTS} slots a process"), &columns);
    for &store in &bench.stores {
        for (bytes, processes, quick, full) in CASES {
            let jobs = bench.pick(quick, full);
            progress(&format!("{}: {jobs} jobs of {bytes} B, {processes} worker processes", store.name()));
            let (mut rates, mut cycles, mut bare) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..bench.repeats() {
                let (_database, server) = bench.start_server(store).await?;
                warm_up(&server.endpoint).await?;
                let submitted = preload(&server.endpoint, jobs, |plan| {
                    plan.payload_bytes = bytes;
                    // A batch is at most 4 MiB.
                    plan.batch = plan.batch.min(2 * 1024 * 1024 / bytes);
                })
                .await?;
                let plans = (0..processes).flat_map(|_| one_worker(&server.endpoint)).collect();
                let drained = drain(&server.endpoint, plans).await?;
                rates.push(drained.rate());
                cycles.push(jobs as f64 / (submitted.seconds + drained.seconds));
                server.stop().await?;
                // Measured in turns, because a machine's speed changes within minutes.
                if bytes == 64 {
                    bare.push(limits::bare_rates(bench, store).await?);
                }
            }
            let bare_cycles: Vec<_> = bare.iter().map(|bare| bare.cycle).collect();
            let bare_drains: Vec<_> = bare.iter().filter_map(|bare| bare.drain).collect();
            let middle = |values: &[f64]| (!values.is_empty()).then(|| median(values));
            report.figures.insert(format!("drain.{}.{bytes}.{processes}", store.name()), median(&rates));
            table.row([
                store.name().into(),
                (bytes as f64).into(),
                (processes as f64).into(),
                (jobs as f64).into(),
                (&rates).into(),
                Cell::share(median(&rates), middle(&bare_drains)),
                Cell::share(median(&cycles), middle(&bare_cycles)),
            ]);
        }
    }
    report.tables.push(table);
    if bench.stores.contains(&Store::Sqlite) {
        report.notes.push("sqlite: the bare cycle is the store alone, in one process without a network".to_owned());
    }
    Ok(report)
}
