//! WaitJob: answers when a job has finished, however and on whatever server it did.

use std::time::Duration;

use jobqueue_shared::proto::v1::{
    CancelJobRequest, Job, SubmitJobRequest, WaitJobRequest,
    job::Status,
    settlement::{Complete, Fail, Outcome},
};
use jobqueue_tests::{
    api::{Api, job},
    database::Driver,
    poll::eventually,
    server::Server,
};
use tokio::task::JoinHandle;
use tonic::{Code, Status as Failure};
use tonic_types::StatusExt as _;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID},
    scenarios,
};

scenarios!(
    a_wait_ends_when_the_job_is_done_and_not_when_it_is_retried,
    a_wait_ends_when_the_job_is_cancelled_or_times_out,
    a_wait_that_runs_out_answers_with_the_job_as_it_is,
    what_cannot_be_waited_for_is_told,
    a_wait_ends_when_its_server_stops,
);

fn request(job_id: &str, seconds: i64) -> WaitJobRequest {
    let wait = Some(prost_types::Duration { seconds, nanos: 0 });
    WaitJobRequest { job_id: job_id.to_owned(), wait }
}

async fn wait(api: &Api, request: WaitJobRequest) -> Result<Job, Failure> {
    Ok(api.jobs().wait_job(request).await?.into_inner().job.unwrap())
}

/// Waits for a minute in the background. Returns once the server has read the job.
async fn waiting(server: &Server, job_id: &str) -> JoinHandle<Result<Job, Failure>> {
    let reads = server.calls_to_store("get").await;
    let (api, request) = (server.api(), request(job_id, 60));
    let wait = tokio::spawn(async move { wait(&api, request).await });
    eventually("the job has been read", async || (server.calls_to_store("get").await > reads).then_some(())).await;
    wait
}

async fn settle_next(worker: &mut ManualWorker, outcome: Outcome) {
    let lease_id = worker.acquire_one().await.lease_id;
    worker.settle(&lease_id, outcome).await;
}

async fn answer(wait: JoinHandle<Result<Job, Failure>>) -> Result<Job, Failure> {
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("it waits on").unwrap()
}

async fn a_wait_ends_when_the_job_is_done_and_not_when_it_is_retried(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let wait = waiting(&deployment.server, &id).await;
    let mut worker = ManualWorker::register(&deployment.api).await;
    let again = Fail { retry_after: Some(prost_types::Duration::default()), ..Fail::default() };
    settle_next(&mut worker, Outcome::Fail(again)).await;
    let done = Complete { result_json: "[1]".to_owned(), ..Complete::default() };
    settle_next(&mut worker, Outcome::Complete(done)).await;
    let job = answer(wait).await.unwrap();
    assert_eq!((job.status(), job.attempt_count, job.result_json.as_str()), (Status::Done, 2, "[1]"));
}

async fn a_wait_ends_when_the_job_is_cancelled_or_times_out(deployment: &mut Deployment) {
    let attempt_timeout = Some(prost_types::Duration { seconds: 0, nanos: 100_000_000 });
    let late = SubmitJobRequest { max_retries: Some(1), attempt_timeout, ..job(WORKER_ID, "{}") };
    let [cancelled, late] = [deployment.api.submit(job("nobody", "{}")).await, deployment.api.submit(late).await];
    let waits = [waiting(&deployment.server, &cancelled).await, waiting(&deployment.server, &late).await];
    let cancel = CancelJobRequest { job_id: cancelled, reason: String::new() };
    deployment.api.jobs().cancel_job(cancel).await.unwrap();
    let mut worker = ManualWorker::register(&deployment.api).await;
    worker.acquire_one().await;
    let mut ends = Vec::new();
    for wait in waits {
        ends.push(answer(wait).await.unwrap().status());
    }
    assert_eq!(ends, [Status::Cancelled, Status::Failed]);
}

async fn a_wait_that_runs_out_answers_with_the_job_as_it_is(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    for request in [WaitJobRequest { wait: None, ..request(&id, 0) }, request(&id, 1)] {
        assert_eq!(wait(&deployment.api, request).await.unwrap().status(), Status::Pending);
    }
    // The call's own deadline is shorter than the wait.
    let mut short = tonic::Request::new(request(&id, 60));
    short.set_timeout(Duration::from_secs(1));
    let job = deployment.api.jobs().wait_job(short).await.unwrap().into_inner().job.unwrap();
    assert_eq!(job.status(), Status::Pending);
    let mut worker = ManualWorker::register(&deployment.api).await;
    settle_next(&mut worker, Outcome::Complete(Complete::default())).await;
    assert_eq!(wait(&deployment.api, request(&id, 60)).await.unwrap().status(), Status::Done);
}

async fn what_cannot_be_waited_for_is_told(deployment: &mut Deployment) {
    let unknown = "0192f5a6-7b1c-7def-8000-0123456789ab";
    assert_eq!(wait(&deployment.api, request(unknown, 60)).await.unwrap_err().code(), Code::NotFound);
    for (wrong, field) in [(request("x", 1), "job_id"), (request("", 1), "job_id"), (request(unknown, 61), "wait")] {
        let failure = wait(&deployment.api, wrong).await.unwrap_err();
        let violations = failure.get_details_bad_request().unwrap().field_violations;
        let fields: Vec<_> = violations.iter().map(|it| it.field.as_str()).collect();
        assert_eq!((failure.code(), fields), (Code::InvalidArgument, vec![field]));
    }
}

async fn a_wait_ends_when_its_server_stops(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let wait = waiting(&deployment.server, &id).await;
    assert!(deployment.server.terminate().await.success());
    assert_eq!(answer(wait).await.unwrap_err().code(), Code::Unavailable);
    deployment.server = Server::start(deployment.database.url()).await;
    deployment.api = deployment.server.api();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_on_another_server_ends_within_seconds() {
    let deployment = Deployment::new(Driver::Postgres).await;
    let other = Server::start(deployment.database.url()).await;
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let wait = waiting(&other, &id).await;
    let mut worker = ManualWorker::register(&deployment.api).await;
    settle_next(&mut worker, Outcome::Complete(Complete::default())).await;
    assert_eq!(answer(wait).await.unwrap().status(), Status::Done);
    other.stop_and_check().await;
    deployment.stop_and_check().await;
}
