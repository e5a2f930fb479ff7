//! Connections whose peer has vanished silently: to the database, and of a worker to its server.

use std::time::Duration;

use futures::future::join_all;
use jobqueue_server::database::connect;
use jobqueue_shared::proto::v1::{GetJobRequest, GetMetricsRequest, job::Status};
use jobqueue_store::{ConnectOptions, Notification};
use jobqueue_tests::{
    api::{Api, job},
    database::{Database, Driver},
    poll::{PATIENCE, eventually, within},
    proxy::Proxy,
    server::Server,
    worker::Worker,
};
use sqlx::{Connection as _, PgConnection};
use tokio::time::timeout;

use crate::{
    deployment::{ManualWorker, WORKER_ID, history},
    faults::outage::healthy,
};

/// Proxy before the shared PostgreSQL, and the database's URL through it.
async fn through_a_proxy(database: &Database) -> (Proxy, String) {
    let (before, after) = database.url().split_once('@').unwrap();
    let (address, name) = after.split_once('/').unwrap();
    let target = tokio::net::lookup_host(address).await.unwrap().next().unwrap();
    let proxy = Proxy::start(target).await.unwrap();
    let url = format!("{before}@{}/{name}", proxy.addr());
    (proxy, url)
}

/// Number of connections: more than a server's background work could find dead within a moment.
const CONNECTIONS: usize = 32;

/// Opens as many connections as the server may have, and its listener; all of them are idle afterwards.
async fn fill(api: &Api, proxy: &Proxy, connections: usize) {
    eventually("its pool is full", async || {
        join_all((0..2 * connections).map(|_| api.metrics())).await;
        (proxy.counts().accepted > connections as u64).then_some(())
    })
    .await;
}

/// Checks that every acknowledged job is stored, and stops the server.
async fn well(server: Server, ids: [String; 2]) {
    let api = server.api();
    healthy(&api).await;
    for id in ids {
        assert_eq!(api.get(&id).await.job.unwrap().id, id);
    }
    server.stop_and_check().await;
}

async fn over(database: Database) {
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_connections_are_half_open_gives_them_all_up_at_once() {
    let database = Database::create(Driver::Postgres).await;
    let (proxy, url) = through_a_proxy(&database).await;
    let server = Server::start_with(&url, &["--database-max-connections", &CONNECTIONS.to_string()]).await;
    let api = server.api();
    let before = api.submit(job(WORKER_ID, "{}")).await;
    fill(&api, &proxy, CONNECTIONS).await;
    assert!(proxy.half_open() > CONNECTIONS as u64, "its connections and its listener");
    let after = within(PATIENCE, "submits go on", async || {
        let call = api.try_submit(job(WORKER_ID, "{}"));
        timeout(PATIENCE, call).await.expect("a submit hangs").ok()
    })
    .await;
    // The failed call has closed all dead connections, so that no other call meets one.
    let count = async || api.jobs().get_metrics(GetMetricsRequest::default()).await;
    for answer in join_all((0..CONNECTIONS).map(|_| count())).await {
        answer.unwrap();
    }
    well(server, [before, after]).await;
    over(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_die_in_use_are_given_up_with_their_calls() {
    let database = Database::create(Driver::Postgres).await;
    let (proxy, url) = through_a_proxy(&database).await;
    let server = Server::start(&url).await;
    let api = server.api();
    let before = api.submit(job(WORKER_ID, "{}")).await;
    fill(&api, &proxy, 8).await;
    // The calls wait for an answer when the network breaks.
    let mut other = PgConnection::connect(database.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE").execute(&mut other).await.unwrap();
    let calls: Vec<_> = (0..8)
        .map(|_| {
            let (api, request) = (api.clone(), GetJobRequest { job_id: before.clone() });
            tokio::spawn(async move { api.jobs().get_job(request).await })
        })
        .collect();
    eventually("all wait", async || {
        let sql =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        let waiting: i64 = sqlx::query_scalar(sql).fetch_one(&mut other).await.unwrap();
        (waiting >= 6).then_some(())
    })
    .await;
    assert!(proxy.half_open() > 0);
    other.close().await.unwrap();
    for call in calls {
        assert!(call.await.unwrap().is_err(), "nothing can have answered");
    }
    let after = within(PATIENCE, "submits go on", async || api.try_submit(job(WORKER_ID, "{}")).await.ok()).await;
    well(server, [before, after]).await;
    over(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_start_by_polling_while_nobody_can_be_told() {
    let database = Database::create(Driver::Postgres).await;
    let (proxy, direct) = through_a_proxy(&database).await;
    let listening = ["--database-direct-url", direct.as_str()];
    let (deaf, other) = tokio::join!(Server::start_with(database.url(), &listening), Server::start(database.url()));
    let mut worker = ManualWorker::register(&deaf.api()).await;
    assert!(proxy.half_open() > 0, "nobody listens through the proxy");
    let looks = deaf.acquire_count().await;
    let request = worker.next_acquire(1, 60);
    let mut workers = deaf.api().workers();
    let poll = tokio::spawn(async move { workers.acquire_jobs(request).await.unwrap().into_inner().jobs });
    eventually("it has looked", async || (deaf.acquire_count().await > looks).then_some(())).await;
    let id = other.api().submit(job(WORKER_ID, "{}")).await;
    // Polling finds the job before the call's own next acquire, which comes after 15 s at the earliest.
    let jobs = timeout(Duration::from_secs(12), poll).await.expect("it sleeps on").unwrap();
    assert_eq!(jobs[0].job.as_ref().unwrap().id, id);
    deaf.stop_and_check().await;
    other.stop_and_check().await;
    over(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_is_half_open_is_noticed_and_hears_again() {
    let database = Database::create(Driver::Postgres).await;
    let (proxy, direct) = through_a_proxy(&database).await;
    let deaf = ConnectOptions { max_connections: 4, direct_url: Some(direct), ..ConnectOptions::new(database.url()) };
    let listener = connect(&deaf).await.unwrap();
    let teller = connect(&ConnectOptions { max_connections: 4, ..ConnectOptions::new(database.url()) }).await.unwrap();
    let hint = Notification::Runnable(WORKER_ID.to_owned());
    let mut notifications = listener.notifications().unwrap();
    let mut hears = async || {
        teller.announce(std::slice::from_ref(&hint)).await.unwrap();
        let heard = timeout(Duration::from_millis(100), notifications.recv()).await;
        heard.is_ok_and(|heard| heard.unwrap() == hint).then_some(())
    };
    within(PATIENCE, "the hint arrives", &mut hears).await;
    assert!(proxy.half_open() > 0);
    within(PATIENCE, "hints arrive again", &mut hears).await;
    assert!(proxy.counts().accepted > 2, "by a new connection");
    listener.close().await;
    teller.close().await;
    over(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_connection_is_half_open_keeps_its_lease_by_another() {
    let database = Database::create(Driver::Sqlite).await;
    let server = Server::start(database.url()).await;
    let proxy = Proxy::start(server.grpc_addr()).await.unwrap();
    let endpoint = format!("http://{}", proxy.addr());
    let mut worker = Worker::start_at(&endpoint, WORKER_ID, &["--simulate", "--lease-time", "12s"]);
    let api = server.api();
    // The job takes longer than the lease, which would run out if the dead connection were not noticed.
    let id = api.submit(job(WORKER_ID, r#"{"sleep_ms": 20000}"#)).await;
    api.until(&id, Status::Running).await;
    assert!(proxy.half_open() > 0);
    let found = api.until(&id, Status::Done).await;
    assert_eq!(history(&found), [""; 0], "its lease ran out");
    assert_eq!(found.job.unwrap().attempt_count, 1);
    assert!(proxy.counts().accepted > 1, "by a new connection");
    assert!(worker.terminate().await.success());
    server.stop_and_check().await;
}
