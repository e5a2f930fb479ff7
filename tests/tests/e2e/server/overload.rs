//! Overload: a server refuses jobs that it has no memory for, and says when to try again.

use std::sync::Arc;

use futures::future::join_all;
use jobqueue_shared::proto::v1::job::Status;
use jobqueue_tests::{
    api::job,
    database::{Database, Driver},
    poll::PATIENCE,
    server::Server,
};
use tokio::{sync::Notify, time::timeout};
use tonic::Code;

use crate::{deployment::WORKER_ID, faults::outage::tells_when_to_try_again};

/// Number of large submits: more than the 64 MiB that may wait.
const LARGE: usize = 100;
const SMALL: usize = 20;
/// Failpoint that makes each group take at least this long, so that other submits have to wait.
const SLOW: &str = "before_insert=return(wait 300)";

async fn large_payloads_are_bounded_and_do_not_starve_small_ones(driver: Driver) {
    let database = Database::create(driver).await;
    let server = Server::start_failing(database.url(), &["--max-payload-bytes", "1048576"], SLOW).await;
    let payload = format!("\"{}\"", "x".repeat(1024 * 1024 - 2));
    // Several connections, since each carries only a few MiB at a time.
    let connections: Vec<_> = (0..LARGE / 10).map(|_| server.api()).collect();
    let full = Arc::new(Notify::new());
    let calls: Vec<_> = (0..LARGE)
        .map(|n| {
            let (api, job) = (connections[n % connections.len()].clone(), job(WORKER_ID, &payload));
            let full = Arc::clone(&full);
            tokio::spawn(async move { api.try_submit(job).await.inspect_err(|_| full.notify_one()) })
        })
        .collect();
    timeout(PATIENCE, full.notified()).await.expect("everything is taken");
    let api = server.api();
    let mut ids = join_all((0..SMALL).map(|_| api.submit(job(WORKER_ID, "{}")))).await;
    // A group has at most 8 MiB: the large jobs take eight groups, one after the other.
    assert!(calls.iter().any(|call| !call.is_finished()), "the small ones waited for all large ones");
    let answers: Vec<_> = join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    for status in &refused {
        tells_when_to_try_again(status, Code::ResourceExhausted);
    }
    ids.extend(answers.iter().filter_map(|answer| answer.as_ref().ok().cloned()));
    assert_eq!(ids.len(), LARGE + SMALL - refused.len());
    for id in &ids {
        assert_eq!(api.get(id).await.job.unwrap().status(), Status::Pending);
    }
    assert_eq!(api.metrics().await.total, ids.len() as i32, "a refused one has left something");
    // The server accepts submits again.
    api.submit(job(WORKER_ID, &payload)).await;
    server.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_are_bounded_and_do_not_starve_small_ones_on_sqlite() {
    large_payloads_are_bounded_and_do_not_starve_small_ones(Driver::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_payloads_are_bounded_and_do_not_starve_small_ones_on_postgres() {
    large_payloads_are_bounded_and_do_not_starve_small_ones(Driver::Postgres).await;
}
