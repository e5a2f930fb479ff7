//! Outages of all servers: the time in which no server could receive heartbeats does not count against leases.

use std::fs;

use jobqueue_shared::proto::v1::{RegisterSessionRequest, SubmitJobRequest, job::Status};
use jobqueue_tests::{
    api::job,
    database::{Database, Driver},
    poll::{PATIENCE, eventually, within},
    server::Server,
    worker::Worker,
};
use prost_types::Duration;
use rustix::process::Signal;

use crate::deployment::{Deployment, ManualWorker, WORKER_ID, history, parts};

/// A job with one attempt whose command runs until it is let go.
struct OneAttempt {
    deployment: Deployment,
    worker: Worker,
    id: String,
}

impl OneAttempt {
    async fn begin(driver: Driver) -> Self {
        let deployment = Deployment::new(driver).await;
        let (begun, go) = (deployment.file("begun"), deployment.file("go"));
        let command = format!(
            "t=touch {begun}; until [ -e {go} ]; do sleep 0.05; done",
            begun = begun.display(),
            go = go.display()
        );
        let worker = deployment.worker(&["--lease-time", "5s", "--exec", &command]);
        let request = SubmitJobRequest { task: "t".to_owned(), max_retries: Some(1), ..job(WORKER_ID, "{}") };
        let id = deployment.api.submit(request).await;
        eventually("the command has begun", async || begun.exists().then_some(())).await;
        Self { deployment, worker, id }
    }

    /// Waits until the server has been away for longer than the lease.
    async fn outlasts_the_lease(&self) {
        within(2 * PATIENCE, "the worker has given its lease up", async || {
            self.worker.stderr().contains("the lease ran out while the server was away").then_some(())
        })
        .await;
    }

    async fn ends_well(self) {
        let Self { deployment, mut worker, id } = self;
        fs::write(deployment.file("go"), "").unwrap();
        let found = deployment.api.until(&id, Status::Done).await;
        assert!(history(&found).iter().all(|outcome| *outcome == "released"), "{found:?}");
        assert_eq!(parts(found).0.attempt_count, 1);
        assert!(
            deployment.server.stderr().contains("no server could hear the workers"),
            "{}",
            deployment.server.stderr()
        );
        assert!(worker.terminate().await.success());
        deployment.stop_and_check().await;
    }
}

async fn a_server_that_was_killed(driver: Driver) {
    let mut it = OneAttempt::begin(driver).await;
    it.deployment.server.kill9();
    it.outlasts_the_lease().await;
    it.deployment.server.start_again().await;
    it.ends_well().await;
}

async fn a_server_that_was_stopped_by_a_signal(driver: Driver) {
    let mut it = OneAttempt::begin(driver).await;
    it.deployment.server.signal(Signal::STOP);
    it.outlasts_the_lease().await;
    it.deployment.server.signal(Signal::CONT);
    it.ends_well().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_for_longer_than_a_lease_costs_no_attempt_on_sqlite() {
    a_server_that_was_killed(Driver::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_killed_for_longer_than_a_lease_costs_no_attempt_on_postgres() {
    a_server_that_was_killed(Driver::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_stopped_for_longer_than_a_lease_costs_no_attempt_on_sqlite() {
    a_server_that_was_stopped_by_a_signal(Driver::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_stopped_for_longer_than_a_lease_costs_no_attempt_on_postgres() {
    a_server_that_was_stopped_by_a_signal(Driver::Postgres).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_one_server_of_two_does_not_delay_what_its_workers_have_lost() {
    let database = Database::create(Driver::Postgres).await;
    let one = Server::start(database.url()).await;
    let mut other = Server::start(database.url()).await;
    let lease_time = Some(Duration { seconds: 5, nanos: 0 });
    let mut lost = ManualWorker::register_as(
        &other.api(),
        RegisterSessionRequest { lease_time, ..RegisterSessionRequest::default() },
    )
    .await;
    let id = one.api().submit(job(WORKER_ID, "{}")).await;
    lost.acquire_one().await;
    other.kill9();
    let mut next = ManualWorker::register(&one.api()).await;
    let taken = within(2 * PATIENCE, "the job is handed to another", async || next.acquire(1).await.pop()).await;
    assert_eq!(taken.job.unwrap().id, id);
    assert!(!one.stderr().contains("no server could hear"), "{}", one.stderr());
    one.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}
