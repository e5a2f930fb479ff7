//! History scenario: drain rate in jobs per second, latency from submit to start in ms, and time of each of the
//! dashboard's calls in ms, with up to ten million finished jobs in the database. An empty queue, measured in turns,
//! shows whether finished jobs slow down new ones.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jobqueue_shared::proto::v1::{
    CancelJobRequest, GetJobRequest, GetMetricsRequest, GetThroughputRequest, ListFailedJobsRequest, ListJobsRequest,
    ListWorkersRequest, job::Status,
};

use crate::{
    bench::Bench,
    load::{
        child::{Child, Role},
        in_turns,
        steps::{WORKER_ID_PREFIX, drain, one_worker, preload, progress, warm_up},
        work::{Handled, Handling, WorkPlan},
    },
    measure::{
        report::Report,
        stats::{Percentiles, Times},
        table::Table,
    },
    under_test::api::Api,
};

/// Numbers of finished jobs.
const LEVELS_QUICK: &[u64] = &[1_000_000];
const LEVELS: &[u64] = &[0, 1_000_000, 10_000_000];
/// Jobs of a drain.
const DRAINED_QUICK: u64 = 100_000;
const DRAINED: u64 = 200_000;
const ROUNDS_QUICK: usize = 1;
const ROUNDS: usize = 5;
const SECONDS_QUICK: f64 = 5.0;
const SECONDS: f64 = 15.0;
/// Number of times that each call of the dashboard is made.
const CALLS_QUICK: usize = 50;
const CALLS: usize = 300;
/// Number of dead letters and cancelled jobs, so that each page has something to show.
const FAILED_AND_CANCELLED: u64 = 1_000;
const CANCELLED: i32 = 100;
/// Maximum number of finished jobs made at a time, so that few jobs wait at once.
const PORTION: u64 = 500_000;

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("history");
    let columns = [vec!["store".to_owned(), "finished jobs".to_owned()], in_turns::columns("an empty queue")].concat();
    let mut speed = Table::new("Working", &columns);
    let mut pages =
        Table::new("What the dashboard asks for", &["store", "finished jobs", "call", "p50 ms", "p95 ms", "max ms"]);
    for &store in &bench.stores {
        let (_database, server) = bench.start_server(store).await?;
        let endpoint = server.endpoint.as_str();
        warm_up(endpoint).await?;
        let api = Api::connect(endpoint).await?;
        make_failed_and_cancelled(&api, endpoint).await?;
        let levels = bench.pick(LEVELS_QUICK, LEVELS);
        for &level in levels {
            fill(&api, endpoint, level).await?;
            progress(&format!("{}: with {level} finished jobs", store.name()));
            let (_empty_database, empty) = bench.start_server_apart(store).await?;
            warm_up(&empty.endpoint).await?;
            let (rounds, jobs) = (bench.pick(ROUNDS_QUICK, ROUNDS), bench.pick(DRAINED_QUICK, DRAINED));
            let speeds =
                in_turns::measure([endpoint, &empty.endpoint], rounds, jobs, bench.pick(SECONDS_QUICK, SECONDS))
                    .await?;
            empty.stop().await?;
            speed.row([store.name().into(), (level as f64).into()].into_iter().chain(in_turns::cells(&speeds)));
            for (call, times) in dashboard(bench, &api).await? {
                report.figures.insert(format!("history.{}.{level}.{call}.p95", store.name()), times.p95);
                pages.row([
                    store.name().into(),
                    (level as f64).into(),
                    call.into(),
                    times.p50.into(),
                    times.p95.into(),
                    times.max.into(),
                ]);
            }
        }
        server.stop().await?;
    }
    report.tables.extend([speed, pages]);
    report.notes.push("finished jobs: those made before; the drains that are measured add to them".to_owned());
    report.notes.push("the empty queue is new for each row, in a cluster of its own, and measured in turns".to_owned());
    Ok(report)
}

/// Submits and drains until at least `level` jobs are done.
async fn fill(api: &Api, endpoint: &str, level: u64) -> Result<()> {
    loop {
        let missing = level.saturating_sub(api.done().await?);
        if missing == 0 {
            return Ok(());
        }
        progress(&format!("{missing} more jobs to finish"));
        preload(endpoint, missing.min(PORTION), |_| {}).await?;
        drain(endpoint, one_worker(endpoint)).await?;
    }
}

/// Makes some dead letters and cancelled jobs.
async fn make_failed_and_cancelled(api: &Api, endpoint: &str) -> Result<()> {
    let prefix = "others-";
    preload(endpoint, FAILED_AND_CANCELLED, |plan| prefix.clone_into(&mut plan.worker_id_prefix)).await?;
    for job in api.list(Status::Pending, CANCELLED).await? {
        api.jobs.clone().cancel_job(CancelJobRequest { job_id: job.id, reason: "bench".to_owned() }).await?;
    }
    let plan = WorkPlan { handling: Handling::FailForGood, ..WorkPlan::new(endpoint, prefix, 100) };
    let mut worker = Child::start(&Role::Work(plan)).await?;
    worker.go().await?;
    while api.metrics().await?.pending > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    worker.finish::<Handled>().await?;
    Ok(())
}

/// Times every call that a page makes, one after the other, each many times.
async fn dashboard(bench: &Bench, api: &Api) -> Result<Vec<(&'static str, Percentiles)>> {
    let calls = bench.pick(CALLS_QUICK, CALLS);
    let done = api.list(Status::Done, 1).await?.pop().context("no job is done")?;
    let list = |status: Status| ListJobsRequest { status: status as i32, ..ListJobsRequest::default() };
    let of_one = ListJobsRequest { worker_id: format!("{WORKER_ID_PREFIX}0"), ..list(Status::Done) };
    let of_task = ListJobsRequest { task: "bench".to_owned(), ..list(Status::Done) };
    let second = ListJobsRequest {
        page_token: api.jobs.clone().list_jobs(list(Status::Done)).await?.into_inner().next_page_token,
        ..list(Status::Done)
    };
    let everything_of_one = ListJobsRequest { status: 0, ..of_one.clone() };
    let mut found = Vec::new();
    macro_rules! timed {
        ($name:literal, $api:expr, $call:ident, $request:expr) => {{
            let mut times = Times::new()?;
            for _ in 0..calls {
                let (mut client, request) = ($api.clone(), $request);
                let called = Instant::now();
                client.$call(request).await?;
                times.record(called.elapsed());
            }
            found.push(($name, times.summary()));
        }};
    }
    timed!("overview: counts", api.jobs, get_metrics, GetMetricsRequest::default());
    timed!(
        "overview: an hour of throughput",
        api.jobs,
        get_throughput,
        GetThroughputRequest { minutes: 60, ..Default::default() }
    );
    timed!(
        "overview: a day of throughput",
        api.jobs,
        get_throughput,
        GetThroughputRequest { minutes: 1_440, ..Default::default() }
    );
    timed!("jobs: all", api.jobs, list_jobs, ListJobsRequest::default());
    timed!("jobs: pending", api.jobs, list_jobs, list(Status::Pending));
    timed!("jobs: running", api.jobs, list_jobs, list(Status::Running));
    timed!("jobs: done", api.jobs, list_jobs, list(Status::Done));
    timed!("jobs: done, second page", api.jobs, list_jobs, second.clone());
    timed!("jobs: done of a worker_id", api.jobs, list_jobs, of_one.clone());
    timed!("jobs: done of a task", api.jobs, list_jobs, of_task.clone());
    timed!("jobs: all of a worker_id", api.jobs, list_jobs, everything_of_one.clone());
    timed!("jobs: cancelled", api.jobs, list_jobs, list(Status::Cancelled));
    timed!("dead letters", api.jobs, list_failed_jobs, ListFailedJobsRequest::default());
    timed!("one job", api.jobs, get_job, GetJobRequest { job_id: done.id.clone() });
    timed!("workers", api.admin, list_workers, ListWorkersRequest::default());
    Ok(found)
}
