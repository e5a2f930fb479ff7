//! Programs of a run without any fault: all of their actions are recorded, and no promise is broken. The wrong outcomes
//! of the bare worker are refused.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use clap::Parser;
use jobqueue_faults::{
    check::check,
    history::{FinalJob, FinalState, History, Kind, Outcome, Status},
    programs::{submitter, worker},
};
use jobqueue_shared::proto::v1::{GetJobRequest, ListJobsRequest};
use jobqueue_tests::{
    api::Api,
    database::{Database, Driver},
    poll::eventually,
    server::Server,
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(Parser)]
enum Program {
    Submitter(submitter::Args),
    Worker(worker::Args),
}

/// A program that runs in this process until it is told to stop.
struct Running {
    stop: CancellationToken,
    ended: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    fn start(history: &Path, server: &Server, arguments: &[&str]) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let url = format!("http://{}", server.grpc_addr());
        let common = ["--history", history.to_str().unwrap(), "--seed", "7", "--server", &url];
        let program = Program::parse_from([&["program"][..], arguments, &common].concat());
        let ended = tokio::spawn(async move {
            match program {
                Program::Submitter(args) => submitter::run_until(args, stopped).await,
                Program::Worker(args) => worker::run_until(args, stopped).await,
            }
        });
        Self { stop, ended }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended.await.unwrap().unwrap();
    }
}

async fn final_state(api: &Api) -> FinalState {
    let mut jobs = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListJobsRequest { page_size: 500, page_token, ..ListJobsRequest::default() };
        let page = api.jobs().list_jobs(request).await.unwrap().into_inner();
        for job in page.jobs {
            let shown = api.jobs().get_job(GetJobRequest { job_id: job.id }).await.unwrap().into_inner();
            jobs.push(FinalJob::try_from(shown).unwrap());
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return FinalState { jobs };
        }
    }
}

/// True if a worker reported as failed a job that it had completed, and settled leases in the name of another session.
fn misbehaved(history: &History) -> bool {
    let (mut sessions, mut completed) = (HashMap::new(), HashSet::new());
    let (mut contradicted, mut foreign) = (false, false);
    for kind in history.kinds() {
        match kind {
            Kind::Acquired { session, lease, .. } => drop(sessions.insert(lease, session)),
            Kind::SettleInvoke { lease, outcome: Outcome::Complete, session, .. } => {
                foreign |= sessions.get(lease).is_some_and(|own| *own != session);
                completed.insert(lease);
            }
            Kind::SettleInvoke { lease, outcome: Outcome::Fail, .. } => contradicted |= completed.contains(lease),
            _ => {}
        }
    }
    contradicted && foreign
}

async fn keeps_every_promise(driver: Driver) {
    let database = Database::create(driver).await;
    let server = Server::start(database.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let start = |arguments: &[&str]| Running::start(folder.path(), &server, arguments);
    let submitters = [
        start(&["submitter", "--name", "submitter-1.1", "--pause-ms", "80"]),
        start(&["submitter", "--name", "submitter-2.1", "--pause-ms", "80"]),
    ];
    let library = start(&["worker", "--name", "worker-1.1", "--slots", "32"]);
    let bare = start(&["worker", "--name", "worker-2.1", "--slots", "2", "--bare"]);
    let api = server.api();
    eventually("enough has happened", async || (api.metrics().await.done > 500).then_some(())).await;
    eventually("the bare worker has misbehaved", async || {
        misbehaved(&History::read(folder.path()).unwrap()).then_some(())
    })
    .await;
    for submitter in submitters {
        submitter.stop().await;
    }
    eventually("all jobs are finished", async || {
        let now = api.metrics().await;
        (now.pending == 0 && now.running == 0).then_some(())
    })
    .await;
    bare.stop().await;
    library.stop().await;
    let state = final_state(&api).await;
    let history = History::read(folder.path()).unwrap();
    let report = check(&history, &state);
    let told: String = report.violations.iter().map(ToString::to_string).collect();
    assert!(report.violations.is_empty(), "{told}");

    let figures = report.figures;
    assert_eq!(figures.jobs_acknowledged, state.jobs.len(), "{figures:?}");
    assert_eq!((figures.submits_unknown, figures.outcomes_unknown), (0, 0), "{figures:?}");
    assert!(figures.submits_deduplicated > 0 && figures.submits_failed > 0 && figures.outcomes_refused > 0);
    for status in [Status::Done, Status::Failed, Status::Cancelled] {
        assert!(state.jobs.iter().any(|job| job.status == status), "no job is {status:?}");
    }
    let told: HashSet<_> = state.jobs.iter().flat_map(|it| &it.attempts).map(|it| it.outcome.as_str()).collect();
    for outcome in ["failed", "snoozed", "refused", "retried"] {
        assert!(told.contains(outcome), "{outcome} is in no timeline: {told:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_on_sqlite_break_no_promise_and_do_all_that_they_are_for() {
    keeps_every_promise(Driver::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_on_postgres_break_no_promise_and_do_all_that_they_are_for() {
    keeps_every_promise(Driver::Postgres).await;
}
