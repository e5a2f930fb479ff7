//! Crashes of every part at any time: nothing acknowledged is lost, and no job is done twice.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{Router, extract::State, routing::post};
use jobqueue_shared::proto::v1::{ListWorkersRequest, SubmitJobRequest, job::Status, worker_session};
use jobqueue_tests::{
    api::{Api, job},
    poll::{PATIENCE, eventually},
    process::Signal,
};
use tokio::sync::mpsc;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID, history, parts},
    scenarios,
};

scenarios!(
    a_killed_workers_job_is_picked_up_by_another_after_its_lease,
    a_server_killed_again_and_again_loses_nothing_acknowledged,
    sigterm_on_both_loses_nothing,
    a_worker_that_is_told_to_stop_finishes_what_it_runs,
    a_worker_that_cannot_finish_in_time_gives_back_uncharged,
    a_server_that_restarts_under_load_charges_nothing,
    a_server_that_is_told_to_stop_ends_long_polls_and_exits,
);

/// Endpoint that reports each call on a channel, and answers from the second call on.
async fn stuck_at_first() -> (String, mpsc::UnboundedReceiver<()>) {
    let (called, calls) = mpsc::unbounded_channel();
    let first = Arc::new(Mutex::new(true));
    let answer = async |State((called, first)): State<(mpsc::UnboundedSender<()>, Arc<Mutex<bool>>)>| {
        called.send(()).unwrap();
        if std::mem::take(&mut *first.lock().unwrap()) {
            std::future::pending::<()>().await;
        }
        "\"done\""
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("email=http://{}/", listener.local_addr().unwrap());
    let router = Router::new().route("/", post(answer)).with_state((called, first));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    (url, calls)
}

async fn a_killed_workers_job_is_picked_up_by_another_after_its_lease(deployment: &mut Deployment) {
    let (url, mut calls) = stuck_at_first().await;
    let args = ["--lease-time", "5s", "--http", &url];
    let mut first = deployment.worker(&args);
    let id = deployment.api.submit(SubmitJobRequest { task: "email".to_owned(), ..job(WORKER_ID, "{}") }).await;
    calls.recv().await.unwrap();
    first.kill9();
    let _second = deployment.worker(&args);
    let found = deployment.api.until(&id, Status::Done).await;
    assert_eq!(history(&found), ["lost"], "the crash counts as an attempt");
    let lost = found.attempts[0].clone();
    let (job, _) = parts(found);
    assert_eq!((job.attempt_count, job.run_no, job.result_json.as_str()), (2, 2, "\"done\""));
    assert_ne!(lost.session_id, job.session_id);
    assert_ne!(lost.error, "");
    let sessions =
        deployment.api.admin().list_workers(ListWorkersRequest::default()).await.unwrap().into_inner().sessions;
    let of_first = sessions.iter().find(|session| session.session_id == lost.session_id).unwrap();
    assert_eq!(of_first.state(), worker_session::State::Lost);
}

/// Acknowledged submits: the job of each key.
pub(crate) type Acknowledged = Arc<Mutex<HashMap<String, String>>>;

/// Repeats a call until it is acknowledged, as a client does that must not lose it.
pub(crate) async fn insist<T, F>(mut call: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, tonic::Status>>,
{
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(status) => assert!(Instant::now() < deadline, "not acknowledged: {status:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Submits its keys one after the other, each until it is acknowledged.
pub(crate) async fn submit_all(api: Api, keys: Vec<String>, acknowledged: Acknowledged) {
    for key in keys {
        let request = SubmitJobRequest { idempotency_key: key.clone(), ..job(WORKER_ID, r#"{"sleep_ms": 0}"#) };
        let id = insist(|| api.try_submit(request.clone())).await;
        acknowledged.lock().unwrap().insert(key, id);
    }
}

async fn a_server_killed_again_and_again_loses_nothing_acknowledged(deployment: &mut Deployment) {
    const SUBMITTERS: usize = 8;
    const EACH: usize = 60;
    let _worker = deployment.simulating();
    let acknowledged = Acknowledged::default();
    let submitters: Vec<_> = (0..SUBMITTERS)
        .map(|n| {
            let keys = (0..EACH).map(|key| format!("{n}/{key}")).collect();
            tokio::spawn(submit_all(deployment.server.api(), keys, Arc::clone(&acknowledged)))
        })
        .collect();
    let count = || acknowledged.lock().unwrap().len();
    for kill in 1..=3 {
        eventually("submits are acknowledged", async || (count() >= kill * 100).then_some(())).await;
        deployment.server.kill9();
        let before: Vec<_> = acknowledged.lock().unwrap().values().cloned().collect();
        deployment.server.start_again().await;
        let api = deployment.server.api();
        for id in before {
            assert_eq!(api.get(&id).await.job.unwrap().id, id);
        }
    }
    for submitter in submitters {
        submitter.await.unwrap();
    }
    let ids: Vec<_> = acknowledged.lock().unwrap().values().cloned().collect();
    assert_eq!(ids.len(), SUBMITTERS * EACH);
    let api = deployment.server.api();
    for id in &ids {
        api.until(id, Status::Done).await;
    }
    // A key makes one job, also where the answer to its first submit was lost.
    let metrics = api.metrics().await;
    assert_eq!((metrics.total, metrics.done), (ids.len() as i32, ids.len() as i32));
}

async fn sigterm_on_both_loses_nothing(deployment: &mut Deployment) {
    let args = ["--simulate", "--concurrency", "5", "--lease-time", "5s", "--grace", "3s"];
    let mut worker = deployment.worker(&args);
    let acknowledged = Acknowledged::default();
    let keys = (0..200).map(|n| n.to_string()).collect();
    let submitter = tokio::spawn(submit_all(deployment.server.api(), keys, Arc::clone(&acknowledged)));
    eventually("half is submitted and some is done", async || {
        let done =
            deployment.api.jobs().get_metrics(jobqueue_shared::proto::v1::GetMetricsRequest::default()).await.ok()?;
        (acknowledged.lock().unwrap().len() >= 100 && done.into_inner().done > 0).then_some(())
    })
    .await;
    worker.signal(Signal::TERM);
    deployment.server.signal(Signal::TERM);
    let (worker_ended, server_ended) = (worker.ended().await, deployment.server.ended().await);
    assert!(worker_ended.success() && server_ended.success(), "{worker_ended}, {server_ended}");

    deployment.server.start_again().await;
    let _next = deployment.worker(&args);
    submitter.await.unwrap();
    let api = deployment.server.api();
    let ids: Vec<_> = acknowledged.lock().unwrap().values().cloned().collect();
    assert_eq!(ids.len(), 200);
    for id in &ids {
        api.until(id, Status::Done).await;
    }
    assert_eq!(api.metrics().await.total, 200);
}

async fn a_worker_that_is_told_to_stop_finishes_what_it_runs(deployment: &mut Deployment) {
    let mut first = deployment.worker(&["--simulate", "--concurrency", "4"]);
    let mut ids = Vec::new();
    for _ in 0..30 {
        ids.push(deployment.api.submit(job(WORKER_ID, r#"{"sleep_ms": 50}"#)).await);
    }
    deployment.api.until(&ids[3], Status::Done).await;
    let status = first.terminate().await;
    assert!(status.success(), "{status}");
    let log = first.stderr();
    assert!(!log.contains("did not take all outcomes"), "it did not know that all were taken: {log}");
    let metrics = deployment.api.metrics().await;
    assert_eq!(metrics.running, 0, "what it held is finished or given back");
    let _second = deployment.simulating();
    for id in &ids {
        let found = deployment.api.until(id, Status::Done).await;
        assert!(history(&found).iter().all(|outcome| *outcome == "released"), "{found:?}");
        assert_eq!(found.job.unwrap().attempt_count, 1, "a planned stop charges nothing");
    }
}

async fn a_worker_that_cannot_finish_in_time_gives_back_uncharged(deployment: &mut Deployment) {
    let started = deployment.file("started");
    let command = format!("long=touch '{}'; while :; do sleep 0.05; done", started.display());
    let mut worker = deployment.worker(&["--grace", "100ms", "--exec", &command]);
    let new = SubmitJobRequest { task: "long".to_owned(), max_retries: Some(1), ..job(WORKER_ID, "{}") };
    let id = deployment.api.submit(new).await;
    eventually("the command runs", async || started.exists().then_some(())).await;
    assert!(worker.terminate().await.success());
    let found = deployment.api.get(&id).await;
    assert_eq!(history(&found), ["released"]);
    let (job, _) = parts(found);
    assert_eq!((job.status(), job.attempt_count, job.run_no), (Status::Pending, 0, 1));
}

async fn a_server_that_restarts_under_load_charges_nothing(deployment: &mut Deployment) {
    const JOBS: usize = 200;
    // The lease outlives the restart.
    let _worker = deployment.worker(&["--simulate", "--concurrency", "4", "--lease-time", "10m"]);
    let acknowledged = Acknowledged::default();
    let keys = (0..JOBS).map(|n| n.to_string()).collect();
    let submitter = tokio::spawn(submit_all(deployment.server.api(), keys, Arc::clone(&acknowledged)));
    eventually("jobs are submitted and done", async || {
        let done = deployment.api.metrics().await.done > 0;
        (done && acknowledged.lock().unwrap().len() >= JOBS / 4).then_some(())
    })
    .await;
    let status = deployment.server.terminate().await;
    assert!(status.success(), "{status}");
    deployment.server.start_again().await;
    submitter.await.unwrap();
    let api = deployment.server.api();
    let ids: Vec<_> = acknowledged.lock().unwrap().values().cloned().collect();
    assert_eq!(ids.len(), JOBS);
    for id in &ids {
        let found = api.until(id, Status::Done).await;
        assert_eq!(history(&found), [""; 0]);
        assert_eq!(found.job.unwrap().attempt_count, 1);
    }
    assert_eq!(api.metrics().await.total as usize, JOBS);
}

async fn a_server_that_is_told_to_stop_ends_long_polls_and_exits(deployment: &mut Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    let request = worker.next_acquire(1, 60);
    let mut workers = deployment.api.workers();
    let poll = tokio::spawn(async move { workers.acquire_jobs(request).await });
    // The poll must wait at the server before the stop; half a second without an answer shows that it does.
    let early = tokio::time::timeout(Duration::from_millis(500), async {
        while !poll.is_finished() {
            tokio::task::yield_now().await;
        }
    });
    assert!(early.await.is_err(), "it did not wait");
    // The stop ends the poll, which would wait for a minute otherwise.
    let status = deployment.server.terminate().await;
    assert!(status.success(), "{status}");
    let answer = poll.await.unwrap().expect("it ends empty, not with an error").into_inner();
    assert_eq!(answer.jobs, []);
}
