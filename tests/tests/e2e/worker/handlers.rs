//! Workers of one worker_id that handle different tasks: each job goes to one that handles it.

use jobqueue_shared::proto::v1::{
    RegisterSessionRequest, SubmitJobRequest, SubmitJobsRequest,
    job::Status,
    settlement::{Complete, Outcome, Release},
};
use jobqueue_tests::{
    api::job,
    database::{Database, Driver},
    poll::{PATIENCE, eventually},
    server::Server,
};

use sqlx::{Connection as _, PgConnection, SqliteConnection};

use tokio::time::timeout;

use crate::deployment::{Deployment, ManualWorker, WORKER_ID, history};

fn task(name: &str) -> SubmitJobRequest {
    SubmitJobRequest { task: name.to_owned(), max_retries: Some(1), ..job(WORKER_ID, "{}") }
}

fn handles(task: &str) -> RegisterSessionRequest {
    RegisterSessionRequest { tasks: vec![task.to_owned()], slots: 10, ..Default::default() }
}

/// Stores the run number of a job that was given back twenty times: the next time it waits for a minute, longer than a
/// test's patience.
async fn give_back_often(database: &Database, driver: Driver) {
    if driver == Driver::Sqlite {
        let mut connection = SqliteConnection::connect(database.url()).await.unwrap();
        sqlx::raw_sql("UPDATE ready SET run_no = 20").execute(&mut connection).await.unwrap();
        return connection.close().await.unwrap();
    }
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    sqlx::raw_sql("UPDATE jobqueue.ready SET run_no = 20").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn each_job_finds_its_worker(driver: Driver) {
    let deployment = Deployment::new(driver).await;
    let jobs: Vec<_> = (0..100).map(|n| task(if n < 90 { "t2" } else { "t1" })).collect();
    let response = deployment.api.jobs().submit_jobs(SubmitJobsRequest { jobs }).await.unwrap().into_inner();
    let ids: Vec<_> = response.jobs.into_iter().map(|job| job.job_id).collect();
    give_back_often(&deployment.database, driver).await;
    let _first = deployment.worker(&["--exec", "t1=true"]);
    for id in &ids[90..] {
        deployment.api.until(id, Status::Done).await;
    }
    for id in &ids[..90] {
        eventually("it waits for a handler", async || {
            deployment.api.get(id).await.job?.waits_for_handler.then_some(())
        })
        .await;
    }
    let _second = deployment.worker(&["--exec", "t2=true"]);
    // The jobs that were given back are done, and new ones while both workers run.
    for id in &ids[..90] {
        assert_eq!(history(&deployment.api.until(id, Status::Done).await), ["no_handler"]);
    }
    for name in ["t1", "t2", "t2", "t2", "t1", "t2"] {
        let id = deployment.api.submit(task(name)).await;
        deployment.api.until(&id, Status::Done).await;
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_hundred_jobs_finds_the_worker_that_handles_it_on_sqlite() {
    each_job_finds_its_worker(Driver::Sqlite).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_a_hundred_jobs_finds_the_worker_that_handles_it_on_postgres() {
    each_job_finds_its_worker(Driver::Postgres).await;
}

/// The worker without the handler gives the job back at one server; the one that handles it waits at another.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_given_back_to_one_server_reaches_a_worker_that_waits_at_another() {
    let database = Database::create(Driver::Postgres).await;
    let (mut one, other) = tokio::join!(Server::start(database.url()), Server::start(database.url()));
    let mut third = Server::start(database.url()).await;
    let mut first = ManualWorker::register_as(&one.api(), handles("t1")).await;
    let mut second = ManualWorker::register_as(&other.api(), handles("t2")).await;
    let id = one.api().submit(task("t2")).await;
    give_back_often(&database, Driver::Postgres).await;
    let leased = first.acquire_one().await;
    let acquires = other.acquire_count().await;
    // Longer than the test's patience, so that the end of the call does not find the job.
    let request = second.next_acquire(1, 60);
    let mut waiting = other.api().workers();
    let poll = tokio::spawn(async move { waiting.acquire_jobs(request).await.unwrap().into_inner().jobs });
    // From its acquire on the poll hears notifications.
    eventually("the poll has found nothing", async || (other.acquire_count().await > acquires).then_some(())).await;
    // To a server that has not seen the session before.
    first.on(&third.api()).settle(&leased.lease_id, Outcome::Release(Release { no_handler: true })).await;
    let leased = timeout(PATIENCE, poll).await.expect("the poll is not woken").unwrap().remove(0);
    assert_eq!(leased.job.as_ref().unwrap().id, id);
    second.settle(&leased.lease_id, Outcome::Complete(Complete::default())).await;
    assert_eq!(history(&one.api().finished(&id).await), ["no_handler"]);
    for server in [&mut one, &mut third] {
        assert!(server.terminate().await.success());
    }
    other.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}
