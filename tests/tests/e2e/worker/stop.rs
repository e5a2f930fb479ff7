//! Stops: a job that is cancelled or times out stops at once where its worker waits for jobs, and is fenced off where
//! it does not stop.

use std::time::Duration;

use jobqueue_shared::proto::v1::{
    AcquireJobsResponse, CancelJobRequest, ReportProgressRequest, SubmitJobRequest,
    dead_letter::Reason,
    job::Status,
    settlement::{Complete, Outcome},
    stopped_lease,
};
use jobqueue_tests::{
    api::{Api, job},
    database::{Database, Driver},
    poll::eventually,
    process::Signal,
    server::Server,
    worker::Worker,
};
use rustix::process::{Pid, test_kill_process};
use tokio::task::JoinHandle;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID, history},
    scenarios,
};

scenarios!(
    a_cancel_ends_the_long_poll_of_the_session_that_runs_the_job,
    a_timeout_ends_the_long_poll_of_the_session_that_runs_the_job,
    a_worker_that_ignores_what_it_is_told_is_fenced_off,
    a_command_that_ignores_sigterm_is_killed,
    an_attempt_times_out_although_its_worker_is_stuck,
);

/// Starts a long poll that waits for a minute unless there is something to answer. Returns once the server has acquired
/// for it and found no job.
async fn long_poll(server: &Server, worker: &mut ManualWorker) -> JoinHandle<AcquireJobsResponse> {
    let looks = server.acquire_count().await;
    let request = worker.next_acquire(1, 60);
    let mut workers = server.api().workers();
    let poll = tokio::spawn(async move { workers.acquire_jobs(request).await.unwrap().into_inner() });
    eventually("the server has looked", async || (server.acquire_count().await > looks).then_some(())).await;
    poll
}

async fn told(poll: JoinHandle<AcquireJobsResponse>, lease_id: &str, job_id: &str, reason: stopped_lease::Reason) {
    // No heartbeat is sent here, and the poll would go on for a minute.
    let answer = tokio::time::timeout(Duration::from_secs(20), poll).await.expect("it sleeps on").unwrap();
    assert!(answer.jobs.is_empty(), "{answer:?}");
    let stop: Vec<_> = answer.stop.iter().map(|it| (it.lease_id.as_str(), it.job_id.as_str(), it.reason())).collect();
    assert_eq!(stop, [(lease_id, job_id, reason)]);
}

async fn cancel(api: &Api, job_id: &str) {
    let request = CancelJobRequest { job_id: job_id.to_owned(), reason: "enough".to_owned() };
    api.jobs().cancel_job(request).await.unwrap();
}

async fn a_cancel_ends_the_long_poll_of_the_session_that_runs_the_job(deployment: &mut Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    let mut other = ManualWorker::register(&deployment.api).await;
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let lease = worker.acquire_one().await.lease_id;
    let poll = long_poll(&deployment.server, &mut worker).await;
    let others = long_poll(&deployment.server, &mut other).await;
    cancel(&deployment.api, &id).await;
    told(poll, &lease, &id, stopped_lease::Reason::Cancelled).await;
    // A stop is returned once: the next call waits for jobs.
    let mut poll = long_poll(&deployment.server, &mut worker).await;
    let early = tokio::time::timeout(Duration::from_millis(300), &mut poll).await;
    assert!(early.is_err(), "{early:?}");
    // The other session's poll was not ended.
    assert!(!others.is_finished());
    deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.api.submit(job(WORKER_ID, "{}")).await;
    for poll in [poll, others] {
        let answer = tokio::time::timeout(Duration::from_secs(20), poll).await.expect("it sleeps on").unwrap();
        assert_eq!((answer.jobs.len(), answer.stop.len()), (1, 0));
    }
}

async fn a_timeout_ends_the_long_poll_of_the_session_that_runs_the_job(deployment: &mut Deployment) {
    let attempt_timeout = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    let request = SubmitJobRequest { attempt_timeout, max_retries: Some(1), ..job(WORKER_ID, "{}") };
    let mut worker = ManualWorker::register(&deployment.api).await;
    // On a busy machine the attempt may time out before the call waits.
    eventually("a call waits when the time is over", async || {
        let id = deployment.api.submit(request.clone()).await;
        let lease = worker.acquire_one().await.lease_id;
        let poll = long_poll(&deployment.server, &mut worker).await;
        if deployment.api.get(&id).await.job.unwrap().status() != Status::Running {
            poll.abort();
            return None;
        }
        told(poll, &lease, &id, stopped_lease::Reason::TimedOut).await;
        Some(())
    })
    .await;
}

async fn a_worker_that_ignores_what_it_is_told_is_fenced_off(deployment: &mut Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let lease_id = worker.acquire_one().await.lease_id;
    let poll = long_poll(&deployment.server, &mut worker).await;
    cancel(&deployment.api, &id).await;
    told(poll, &lease_id, &id, stopped_lease::Reason::Cancelled).await;
    let before = deployment.api.get(&id).await.job;
    let request = ReportProgressRequest {
        session_id: worker.session_id.clone(),
        lease_id: lease_id.clone(),
        fraction: 0.9,
        ..ReportProgressRequest::default()
    };
    let status = deployment.api.workers().report_progress(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
    assert_eq!(worker.settle(&lease_id, Outcome::Complete(Complete::default())).await.code, 9);
    let found = deployment.api.get(&id).await;
    assert_eq!(found.job, before);
    assert!(history(&found).contains(&"refused"), "{found:?}");
}

async fn a_command_that_ignores_sigterm_is_killed(deployment: &mut Deployment) {
    let (pid, told) = (deployment.file("pid"), deployment.file("told"));
    // The shell itself ignores the signal; its sleeps end with it.
    let command =
        format!("long=trap 'touch {}' TERM; echo $$ > {}; while :; do sleep 0.05; done", told.display(), pid.display());
    // The next heartbeat comes too late for this test.
    let mut worker = deployment.worker(&["--lease-time", "1h", "--concurrency", "2", "--exec", &command]);
    let id = deployment.api.submit(SubmitJobRequest { task: "long".to_owned(), ..job(WORKER_ID, "{}") }).await;
    let pid = eventually("the command runs", async || {
        let text = std::fs::read_to_string(&pid).ok()?;
        text.strip_suffix('\n')?.parse().ok().and_then(Pid::from_raw)
    })
    .await;
    cancel(&deployment.api, &id).await;
    eventually("it gets SIGTERM", async || told.exists().then_some(())).await;
    eventually("it gets SIGKILL", async || test_kill_process(pid).is_err().then_some(())).await;
    assert_eq!(history(&deployment.api.get(&id).await), ["cancelled"]);
    assert!(worker.terminate().await.success());
}

async fn an_attempt_times_out_although_its_worker_is_stuck(deployment: &mut Deployment) {
    let mut worker = deployment.worker(&["--simulate", "--lease-time", "1h", "--concurrency", "1"]);
    let attempt_timeout = Some(prost_types::Duration { seconds: 2, nanos: 0 });
    let timed =
        SubmitJobRequest { attempt_timeout, max_retries: Some(1), ..job(WORKER_ID, r#"{"sleep_ms": 3600000}"#) };
    let id = deployment.api.submit(timed).await;
    deployment.api.until(&id, Status::Running).await;
    worker.signal(Signal::STOP);
    let found = deployment.api.until(&id, Status::Failed).await;
    assert_eq!(found.job.as_ref().unwrap().failure_reason(), Reason::TimedOut);
    assert_eq!(history(&found), ["timed_out"]);
    worker.signal(Signal::CONT);
    assert!(worker.terminate().await.success());
    assert_eq!(deployment.api.get(&id).await.job, found.job, "whatever it said afterwards");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_through_another_server_ends_the_long_poll() {
    let database = Database::create(Driver::Postgres).await;
    let (one, other) = tokio::join!(Server::start(database.url()), Server::start(database.url()));
    let mut worker = ManualWorker::register(&one.api()).await;
    let id = other.api().submit(job(WORKER_ID, "{}")).await;
    let lease = worker.acquire_one().await.lease_id;
    let poll = long_poll(&one, &mut worker).await;
    cancel(&other.api(), &id).await;
    told(poll, &lease, &id, stopped_lease::Reason::Cancelled).await;

    // A real worker whose next heartbeat is far away is told, too.
    let file = tempfile::tempdir().unwrap();
    let (started, stopped) = (file.path().join("started"), file.path().join("stopped"));
    let command = format!(
        "long=trap 'touch {}; exit 1' TERM; touch {}; while :; do sleep 0.05; done",
        stopped.display(),
        started.display()
    );
    let arguments = ["--lease-time", "1h", "--concurrency", "2", "--exec", &command];
    let mut worker = Worker::start(&one, WORKER_ID, &arguments);
    let id = one.api().submit(SubmitJobRequest { task: "long".to_owned(), ..job(WORKER_ID, "{}") }).await;
    eventually("the command runs", async || started.exists().then_some(())).await;
    cancel(&other.api(), &id).await;
    eventually("the command is stopped", async || stopped.exists().then_some(())).await;
    assert!(worker.terminate().await.success());
    one.stop_and_check().await;
    other.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}
