//! Operations under crashes: whatever dies, each job is changed once and counted once.

use jobqueue_shared::proto::v1::{GetOperationRequest, OperationSpec, operation::State, operation_spec::Kind};
use jobqueue_tests::{
    api::Api,
    database::{Database, Driver},
    poll::eventually,
    server::Server,
};

use crate::{
    api::operations::{dead_letters, of, operation, spec, start, until},
    deployment::{Deployment, WORKER_ID},
    scenarios,
};

scenarios!(a_server_killed_in_the_middle_of_an_operation_neither_repeats_nor_loses_a_job);

/// Waits until the operation has changed that many jobs; a server that has just died is asked again.
async fn until_changed(api: &Api, id: &str, jobs: i32) {
    eventually(&format!("{jobs} jobs are changed"), async || {
        let request = GetOperationRequest { operation_id: id.to_owned() };
        let found = api.operations().get_operation(request).await.ok()?.into_inner().operation?;
        (found.changed >= jobs).then_some(())
    })
    .await;
}

async fn a_server_killed_in_the_middle_of_an_operation_neither_repeats_nor_loses_a_job(deployment: &mut Deployment) {
    const JOBS: i32 = 10_000;
    dead_letters(&deployment.api, JOBS as usize).await;
    // The rate leaves time to kill the server in the middle.
    let spec = OperationSpec { rate: 5_000, ..spec(Kind::Retry, of(WORKER_ID)) };
    let id = start(&deployment.api, spec).await;
    for jobs in [1_000, 5_000] {
        until_changed(&deployment.api, &id, jobs).await;
        deployment.server.kill9();
        deployment.server.start_again().await;
        let found = operation(&deployment.server.api(), &id).await;
        assert_eq!(found.state(), State::Running, "{found:?}");
    }
    let api = deployment.server.api();
    let done = until(&api, &id, State::Done).await;
    assert_eq!((done.matched, done.changed, done.refused, done.total), (JOBS, JOBS, 0, Some(JOBS)));
    let counts = api.metrics().await;
    assert_eq!((counts.pending, counts.failed, counts.total), (JOBS, 0, JOBS));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_goes_on_with_the_operation_of_one_that_died() {
    const JOBS: i32 = 4_000;
    let database = Database::create(Driver::Postgres).await;
    let mut one = Server::start(database.url()).await;
    dead_letters(&one.api(), JOBS as usize).await;
    let id = start(&one.api(), OperationSpec { rate: 2_000, ..spec(Kind::Retry, of(WORKER_ID)) }).await;
    let other = Server::start(database.url()).await;
    until_changed(&other.api(), &id, 500).await;
    one.kill9();
    let done = until(&other.api(), &id, State::Done).await;
    assert_eq!((done.changed, done.refused), (JOBS, 0));
    assert_eq!(other.api().metrics().await.pending, JOBS);
    other.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_in_order_gives_its_operation_to_another_at_once() {
    let database = Database::create(Driver::Postgres).await;
    let (mut one, other) = (Server::start(database.url()).await, Server::start(database.url()).await);
    dead_letters(&one.api(), 400).await;
    let id = start(&one.api(), OperationSpec { rate: 100, ..spec(Kind::Retry, of(WORKER_ID)) }).await;
    until_changed(&other.api(), &id, 20).await;
    assert!(one.terminate().await.success());
    let done = until(&other.api(), &id, State::Done).await;
    assert_eq!((done.changed, done.refused), (400, 0));
    other.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}
