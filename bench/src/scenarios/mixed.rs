//! Mixed scenario: submitting and working at once, as in production: a tenth of the jobs fails once, and there are
//! three priorities and many worker_ids.

use anyhow::Result;

use crate::{
    api::Api,
    bench::{Bench, WORKER_ID, progress},
    child::{Child, Role},
    report::{Report, Table},
    stats::median,
    submit::{self, Amount, Submitted},
    work::{self, Handled, Handlers},
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
            let (_database, server) = bench.fresh(store).await?;
            found.push(once(&server.endpoint, seconds).await?);
            server.stop().await?;
        }
        let all = |value: fn(&Once) -> f64| found.iter().map(value).collect::<Vec<f64>>();
        report.figures.insert(format!("mixed.{}.done", store.name()), median(&all(|once| once.done)));
        table.row([
            store.name().into(),
            (&all(|once| once.submitted.rate())).into(),
            (&all(|once| once.done)).into(),
            (&all(|once| once.left)).into(),
            (&all(|once| once.rest)).into(),
            (&all(|once| once.submitted.calls.p50)).into(),
            (&all(|once| once.submitted.calls.p99)).into(),
        ]);
    }
    report.tables.push(table);
    Ok(report)
}

struct Once {
    submitted: Submitted,
    /// Jobs done per second while others were submitted.
    done: f64,
    left: f64,
    rest: f64,
}

async fn once(endpoint: &str, seconds: f64) -> Result<Once> {
    let api = Api::connect(endpoint).await?;
    let mut workers = start_workers(endpoint, WORKER_IDS, SLOTS).await?;
    for worker in &mut workers {
        worker.go().await?;
    }
    let amount = Amount::Seconds { warm_up: WARM_UP, measure: seconds };
    let plan =
        submit::Plan { worker_ids: WORKER_IDS, mixed: true, ..submit::Plan::new(endpoint, WORKER_ID, CALLERS, amount) };
    let mut submitting = Child::start(&Role::Submit(plan)).await?;
    submitting.go().await?;
    let begun = std::time::Instant::now();
    let submitted: Submitted = submitting.line().await?;
    let (done, time) = (api.done().await?, begun.elapsed());
    let ended = std::time::Instant::now();
    api.until_done(submitted.all).await?;
    let rest = ended.elapsed().as_secs_f64();
    for worker in workers {
        worker.finish::<Handled>().await?;
    }
    Ok(Once {
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
        let plan = work::Plan {
            first,
            worker_ids: each.min(worker_ids - first),
            handlers: Handlers::AsAsked,
            ..work::Plan::new(endpoint, WORKER_ID, slots)
        };
        workers.push(Child::start(&Role::Work(plan)).await?);
    }
    Ok(workers)
}
