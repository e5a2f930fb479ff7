//! Mixed scenario: jobs submitted per second and jobs done per second while both happen at once, the jobs then left and
//! the seconds until they are done, and the time of a submit call in ms. As in production, a tenth of the jobs fails
//! once, and there are three priorities and many worker_ids.

use std::time::Instant;

use anyhow::Result;

use crate::{
    bench::Bench,
    load::{
        child::{Child, Role},
        steps::{WORKER_ID_PREFIX, progress},
        submit::{Amount, SubmitPlan, Submitted},
        work::{Handled, Handling, WorkPlan},
    },
    measure::{report::Report, stats::median, table::Table},
    under_test::api::Api,
};

const WORKER_IDS: usize = 100;
const CALLERS: usize = 64;
const WORKER_PROCESSES: usize = 2;
/// Slots of each worker.
const SLOTS: usize = 20;
const WARM_UP: f64 = 2.0;
const SECONDS_QUICK: f64 = 15.0;
const SECONDS: f64 = 60.0;

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("mixed");
    let columns =
        ["store", "submitted/s", "done/s", "left at the end", "then done within s", "submit call p50 ms", "p99 ms"];
    let title = format!(
        "{WORKER_IDS} worker_ids, {CALLERS} submitters, {WORKER_PROCESSES} worker processes, 10 % failing once, 3 priorities"
    );
    let mut table = Table::new(title, &columns);
    let seconds = bench.pick(SECONDS_QUICK, SECONDS);
    for &store in &bench.stores {
        progress(&format!("{}: {seconds} s", store.name()));
        let mut found = Vec::new();
        for _ in 0..bench.repeats() {
            let (_database, server) = bench.start_server(store).await?;
            found.push(measure_once(&server.endpoint, seconds).await?);
            server.stop().await?;
        }
        let all = |value: fn(&Repetition) -> f64| found.iter().map(value).collect::<Vec<f64>>();
        report.figures.insert(format!("mixed.{}.done", store.name()), median(&all(|repetition| repetition.done)));
        table.row([
            store.name().into(),
            (&all(|repetition| repetition.submitted.rate())).into(),
            (&all(|repetition| repetition.done)).into(),
            (&all(|repetition| repetition.left)).into(),
            (&all(|repetition| repetition.rest)).into(),
            (&all(|repetition| repetition.submitted.calls.p50)).into(),
            (&all(|repetition| repetition.submitted.calls.p99)).into(),
        ]);
    }
    report.tables.push(table);
    Ok(report)
}

/// Result of one repetition.
struct Repetition {
    submitted: Submitted,
    /// Jobs done per second while others were submitted.
    done: f64,
    /// Jobs that were not done when the last was submitted.
    left: f64,
    /// Seconds until they were done.
    rest: f64,
}

async fn measure_once(endpoint: &str, seconds: f64) -> Result<Repetition> {
    let api = Api::connect(endpoint).await?;
    let mut workers = start_workers(endpoint, WORKER_IDS, SLOTS).await?;
    for worker in &mut workers {
        worker.go().await?;
    }
    let amount = Amount::Seconds { warm_up: WARM_UP, measure: seconds };
    let plan = SubmitPlan {
        worker_ids: WORKER_IDS,
        mixed: true,
        ..SubmitPlan::new(endpoint, WORKER_ID_PREFIX, CALLERS, amount)
    };
    let mut submitting = Child::start(&Role::Submit(plan)).await?;
    submitting.go().await?;
    let begun = Instant::now();
    let submitted: Submitted = submitting.receive().await?;
    let (done, time) = (api.done().await?, begun.elapsed());
    let ended = Instant::now();
    api.until_done(submitted.all).await?;
    let rest = ended.elapsed().as_secs_f64();
    for worker in workers {
        worker.finish::<Handled>().await?;
    }
    Ok(Repetition {
        submitted,
        done: done as f64 / time.as_secs_f64(),
        left: submitted.all.saturating_sub(done) as f64,
        rest,
    })
}

/// Starts worker processes that share the worker_ids.
async fn start_workers(endpoint: &str, worker_ids: usize, slots: usize) -> Result<Vec<Child>> {
    let each = worker_ids.div_ceil(WORKER_PROCESSES);
    let mut workers = Vec::new();
    for first in (0..worker_ids).step_by(each) {
        let plan = WorkPlan {
            first,
            worker_ids: each.min(worker_ids - first),
            handling: Handling::FailOnceIfAsked,
            ..WorkPlan::new(endpoint, WORKER_ID_PREFIX, slots)
        };
        workers.push(Child::start(&Role::Work(plan)).await?);
    }
    Ok(workers)
}
