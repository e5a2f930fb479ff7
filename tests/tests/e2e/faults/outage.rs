//! Outages of the storage: callers get an error, nothing is half-written, and the server recovers by itself.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use jobqueue_shared::proto::v1::{GetJobRequest, GetMetricsRequest, SubmitJobRequest, SubmitJobsRequest, job::Status};
use jobqueue_test_postgres::{Cluster, Setup};
use jobqueue_tests::{
    api::{Api, job},
    poll::eventually,
    server::Server,
    web::get,
    worker::Worker,
};
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_types::StatusExt as _;

use crate::{deployment::WORKER_ID, faults::crashes::insist};

/// A PostgreSQL of its own, which can be stopped without disturbing other tests, and a server on it.
pub(crate) async fn on_a_cluster_of_its_own() -> (Cluster, Server) {
    on_a_cluster(Setup::default()).await
}

/// A PostgreSQL with the configuration `setup`, and a server on it.
pub(crate) async fn on_a_cluster(setup: Setup) -> (Cluster, Server) {
    let (cluster, url) = blocking(move || {
        let cluster = Cluster::start_with(&setup).unwrap_or_else(|error| panic!("no PostgreSQL to test on: {error}"));
        let url = cluster.create_database("jobs").unwrap();
        (cluster, url)
    })
    .await;
    let server = Server::start(&url).await;
    (cluster, server)
}

pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn health(api: &Api) -> ServingStatus {
    let request = HealthCheckRequest { service: String::new() };
    HealthClient::new(api.channel.clone()).check(request).await.unwrap().into_inner().status()
}

pub(crate) async fn healthy(api: &Api) {
    eventually("health is SERVING", async || (health(api).await == ServingStatus::Serving).then_some(())).await;
}

/// Checks an error after which the caller should repeat the call: it has `code` and a retry delay.
pub(crate) fn tells_when_to_try_again(status: &tonic::Status, code: Code) {
    assert_eq!(status.code(), code, "{status:?}");
    let retry = status.get_details_retry_info().unwrap_or_else(|| panic!("no RetryInfo: {status:?}"));
    assert!(retry.retry_delay.unwrap() > std::time::Duration::ZERO);
    assert!(!status.message().contains("postgres"), "internals stay inside: {}", status.message());
}

pub(crate) async fn not_ready(server: &Server) {
    let api = server.api();
    eventually("health is NOT_SERVING", async || (health(&api).await == ServingStatus::NotServing).then_some(())).await;
    eventually("/readyz says so", async || (get(server.http_addr(), "/readyz").await.status == 503).then_some(()))
        .await;
    assert_eq!(get(server.http_addr(), "/healthz").await.status, 200, "the process itself is well");
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_that_is_gone_is_told_and_its_return_noticed() {
    let (cluster, server) = on_a_cluster_of_its_own().await;
    let cluster = Arc::new(cluster);
    let api = server.api();
    let _worker = Worker::start(&server, WORKER_ID, &["--simulate"]);
    let before = api.submit(job(WORKER_ID, r#"{"sleep_ms": 0}"#)).await;
    api.until(&before, Status::Done).await;
    healthy(&api).await;

    let it = Arc::clone(&cluster);
    blocking(move || it.stop_fast().unwrap()).await;
    let status = api.try_submit(job(WORKER_ID, "{}")).await.unwrap_err();
    tells_when_to_try_again(&status, Code::Unavailable);
    let status = api.jobs().get_metrics(GetMetricsRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    not_ready(&server).await;
    assert!(get(server.http_addr(), "/metrics").await.text().contains("jobqueue_storage_up 0"));

    let it = Arc::clone(&cluster);
    blocking(move || it.restart().unwrap()).await;
    healthy(&api).await;
    assert_eq!(get(server.http_addr(), "/readyz").await.status, 200);
    let after = api.submit(job(WORKER_ID, r#"{"sleep_ms": 0}"#)).await;
    // The worker recovers by itself, too.
    api.until(&after, Status::Done).await;
    let metrics = api.metrics().await;
    assert_eq!((metrics.total, metrics.done), (2, 2), "a refused submit has left nothing");
    server.stop_and_check().await;
    blocking(move || drop(cluster)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_crashes_mid_load_loses_nothing_acknowledged() {
    const EACH: usize = 40;
    let (cluster, server) = on_a_cluster_of_its_own().await;
    let cluster = Arc::new(cluster);
    let acknowledged: Arc<Mutex<HashMap<String, Vec<String>>>> = Arc::default();
    let submitters: Vec<_> = (0..4)
        .map(|n| {
            let (api, acknowledged) = (server.api(), Arc::clone(&acknowledged));
            tokio::spawn(async move {
                for batch in 0..EACH {
                    let keyed = |i: usize| SubmitJobRequest {
                        idempotency_key: format!("{n}/{batch}/{i}"),
                        ..job(WORKER_ID, r#"{"sleep_ms": 0}"#)
                    };
                    let request = SubmitJobsRequest { jobs: (0..5).map(keyed).collect() };
                    let answer = insist(|| {
                        let (mut jobs, request) = (api.jobs(), request.clone());
                        async move { jobs.submit_jobs(request).await }
                    })
                    .await;
                    let ids = answer.into_inner().jobs.into_iter().map(|stored| stored.job_id).collect();
                    acknowledged.lock().unwrap().insert(format!("{n}/{batch}"), ids);
                }
            })
        })
        .collect();
    let count = || acknowledged.lock().unwrap().len();
    let api = server.api();
    let _worker = Worker::start(&server, WORKER_ID, &["--simulate", "--lease-time", "5s"]);
    for crash in 1..=2 {
        eventually("batches are acknowledged", async || (count() >= crash * 40).then_some(())).await;
        let it = Arc::clone(&cluster);
        blocking(move || it.kill9().unwrap()).await;
        let before: Vec<_> = acknowledged.lock().unwrap().values().flatten().cloned().collect();
        let it = Arc::clone(&cluster);
        blocking(move || it.restart().unwrap()).await;
        healthy(&api).await;
        for id in before {
            // This call may be the first one on a connection from before the crash.
            let found = insist(|| {
                let (mut jobs, job_id) = (api.jobs(), id.clone());
                async move { jobs.get_job(GetJobRequest { job_id }).await }
            })
            .await;
            assert_eq!(found.into_inner().job.unwrap().id, id);
        }
    }
    for submitter in submitters {
        submitter.await.unwrap();
    }
    let ids: Vec<_> = acknowledged.lock().unwrap().values().flatten().cloned().collect();
    assert_eq!(ids.len(), 4 * EACH * 5);
    for id in &ids {
        api.until(id, Status::Done).await;
    }
    assert_eq!(api.metrics().await.total, ids.len() as i32);
    server.stop_and_check().await;
    blocking(move || drop(cluster)).await;
}
