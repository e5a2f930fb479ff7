//! Several servers on one database: each of them serves every client, and none depends on another.

use jobqueue_shared::proto::v1::{SubmitJobRequest, job::Status};
use jobqueue_tests::{
    api::job,
    database::{Database, Driver},
    server::Server,
    worker::Worker,
};

use crate::deployment::{ManualWorker, WORKER_ID, history};

struct Two {
    one: Server,
    other: Server,
    database: Database,
}

impl Two {
    async fn start() -> Self {
        let database = Database::create(Driver::Postgres).await;
        let (one, other) = tokio::join!(Server::start(database.url()), Server::start(database.url()));
        Self { one, other, database }
    }

    async fn over(self) {
        let Self { mut one, other, database } = self;
        if one.has_ended().is_none() {
            assert!(one.terminate().await.success());
        }
        other.stop_and_check().await;
        tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_of_one_runs_what_was_submitted_to_the_other() {
    let two = Two::start().await;
    let mut worker = ManualWorker::register(&two.other.api()).await;
    for _ in 0..3 {
        let request = worker.next_acquire(1, 60);
        let mut workers = two.other.api().workers();
        let poll = tokio::spawn(async move { workers.acquire_jobs(request).await.unwrap().into_inner().jobs });
        let id = two.one.api().submit(job(WORKER_ID, "{}")).await;
        // The other server's notification or a poll ends the call far sooner than its minute.
        let jobs = tokio::time::timeout(std::time::Duration::from_secs(15), poll).await.expect("it sleeps on").unwrap();
        assert_eq!(jobs[0].job.as_ref().unwrap().id, id);
    }
    two.over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_submitted_to_both_is_one_job() {
    let two = Two::start().await;
    for n in 0..10 {
        let request = || SubmitJobRequest { idempotency_key: n.to_string(), ..job(WORKER_ID, "{}") };
        let (one, other) = (two.one.api(), two.other.api());
        let (a, b) = tokio::join!(one.submit(request()), other.submit(request()));
        assert_eq!(a, b);
    }
    assert_eq!(two.other.api().metrics().await.total, 10);
    two.over().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_server_and_its_worker_held_is_rescued_by_the_other() {
    let mut two = Two::start().await;
    let api = two.other.api();
    let mut doomed = Worker::start(&two.one, WORKER_ID, &["--simulate", "--lease-time", "5s"]);
    let id = api.submit(job(WORKER_ID, r#"{"sleep_ms": 8000}"#)).await;
    api.until(&id, Status::Running).await;
    doomed.kill9();
    two.one.kill9();
    let _next = Worker::start(&two.other, WORKER_ID, &["--simulate", "--lease-time", "5s"]);
    let found = api.until(&id, Status::Done).await;
    assert_eq!(history(&found), ["lost"]);
    two.over().await;
}
