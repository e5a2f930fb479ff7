//! Servers behind PgBouncer in transaction mode.

use futures::future::join_all;
use jobqueue_shared::proto::v1::{SubmitJobRequest, job::Status};
use jobqueue_tests::{
    api::job,
    database::{Database, Driver},
    process::Process,
    server::{Server, command},
    worker::Worker,
};

use crate::deployment::{WORKER_ID, history};

const BEHIND: [&str; 2] = ["--database-pooler", "transaction"];

#[tokio::test(flavor = "multi_thread")]
async fn two_servers_behind_a_pooler_do_everything_that_two_servers_do() {
    const JOBS: usize = 150;
    let database = Database::create(Driver::Pooled).await;
    let start = || Server::start_with(database.url(), &BEHIND);
    let (one, mut other) = tokio::join!(start(), start());
    // Each worker runs jobs that were submitted to the other server.
    let args = ["--simulate", "--concurrency", "5", "--lease-time", "5s"];
    let (_first, _second) = (Worker::start(&one, WORKER_ID, &args), Worker::start(&other, WORKER_ID, &args));
    let submits = (0..JOBS).map(|n| {
        let api = if n % 2 == 0 { one.api() } else { other.api() };
        let fail = n % 10 == 0;
        let payload = if fail { r#"{"fail": true, "sleep_ms": 0}"# } else { r#"{"sleep_ms": 5}"# };
        let request =
            SubmitJobRequest { idempotency_key: n.to_string(), max_retries: Some(2), ..job(WORKER_ID, payload) };
        async move {
            let id = api.submit(request.clone()).await;
            assert_eq!(api.submit(request).await, id, "a key is a job");
            (id, fail)
        }
    });
    let ids = join_all(submits).await;
    for (id, fail) in &ids {
        let found = one.api().until(id, if *fail { Status::Failed } else { Status::Done }).await;
        if *fail {
            assert_eq!(history(&found).len(), 2);
        }
    }
    let metrics = other.api().metrics().await;
    assert_eq!((metrics.total as usize, metrics.failed as usize), (JOBS, JOBS / 10));

    // One server dies; the other goes on.
    other.kill9();
    let id = one.api().submit(job(WORKER_ID, r#"{"sleep_ms": 0}"#)).await;
    one.api().until(&id, Status::Done).await;
    one.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_not_told_of_the_pooler_does_not_start_and_says_what_to_set() {
    let database = Database::create(Driver::Pooled).await;
    let mut server = Process::start("jobqueue-server", &mut command(database.url()));
    assert!(!server.ended().await.success());
    let said = server.stderr();
    let line = said.lines().last().unwrap_or_default();
    assert!(line.contains("--database-pooler transaction") && line.contains("--database-direct-url"), "{said}");
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}
