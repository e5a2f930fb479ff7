//! Rolling restarts: servers and workers are replaced one after another while jobs are submitted and run. Nothing is
//! lost, and a planned stop costs no attempt.

use std::sync::Arc;

use jobqueue_server::database::connect;
use jobqueue_shared::proto::v1::job::Status;
use jobqueue_store::{ConnectOptions, Retention};
use jobqueue_tests::{
    database::{Database, Driver},
    poll::eventually,
    server::Server,
    worker::Worker,
};
use tokio::task::JoinHandle;

use crate::{
    deployment::{WORKER_ID, history},
    faults::crashes::{Acknowledged, submit_all},
};

/// Number of jobs submitted in each step.
const JOBS: usize = 60;

/// Worker whose lease outlives every restart, so that an attempt lost by a stop shows.
fn worker(server: &Server) -> Worker {
    Worker::start(server, WORKER_ID, &["--simulate", "--concurrency", "4", "--lease-time", "10m"])
}

/// Submits that go on while programs are replaced.
struct Load {
    step: usize,
    acknowledged: Acknowledged,
    submitting: Vec<JoinHandle<()>>,
}

impl Load {
    fn new() -> Self {
        Self { step: 0, acknowledged: Acknowledged::default(), submitting: Vec::new() }
    }

    /// Starts the submits of another step; returns when some are acknowledged and more are to come.
    async fn begin(&mut self, server: &Server) {
        let before = self.acknowledged();
        let keys = (0..JOBS).map(|n| format!("{}/{n}", self.step)).collect();
        self.submitting.push(tokio::spawn(submit_all(server.api(), keys, Arc::clone(&self.acknowledged))));
        self.step += 1;
        eventually("jobs of this step are acknowledged", async || {
            (self.acknowledged() >= before + JOBS / 4).then_some(())
        })
        .await;
    }

    fn acknowledged(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Checks that every job is acknowledged and done by its first attempt.
    async fn finish_on(self, server: &Server) {
        for submitting in self.submitting {
            submitting.await.unwrap();
        }
        let api = server.api();
        let ids: Vec<_> = self.acknowledged.lock().unwrap().values().cloned().collect();
        assert_eq!(ids.len(), self.step * JOBS);
        for id in &ids {
            let found = api.until(id, Status::Done).await;
            assert!(history(&found).iter().all(|outcome| *outcome == "released"), "{found:?}");
            assert_eq!(found.job.unwrap().attempt_count, 1, "a planned stop charges nothing");
        }
        assert_eq!(api.metrics().await.total as usize, ids.len());
    }
}

async fn replace_server(server: &mut Server) {
    let status = server.terminate().await;
    assert!(status.success(), "{status}");
    server.start_again().await;
}

async fn replace_worker(old: &mut Worker, server: &Server) {
    let next = worker(server);
    let status = old.terminate().await;
    assert!(status.success(), "{status}");
    *old = next;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_share_a_database_are_replaced_one_after_the_other_under_load() {
    let database = Database::create(Driver::Postgres).await;
    let mut one = Server::start(database.url()).await;
    let mut other = Server::start(database.url()).await;
    let (mut of_one, mut of_other) = (worker(&one), worker(&other));
    let mut load = Load::new();

    load.begin(&other).await;
    replace_server(&mut one).await;
    load.begin(&one).await;
    replace_worker(&mut of_other, &other).await;
    load.begin(&other).await;
    replace_server(&mut other).await;
    load.begin(&one).await;
    replace_worker(&mut of_one, &one).await;
    load.begin(&other).await;

    load.finish_on(&other).await;
    assert!(of_one.terminate().await.success() && of_other.terminate().await.success());
    assert!(other.terminate().await.success());
    one.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

/// The table of jobs is split into days and days are dropped while the server works: it goes on, on its connections and
/// with its prepared statements, and keeps every job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_goes_on_while_another_one_makes_and_drops_days() {
    const DAY_MS: i64 = 86_400_000;
    let database = Database::create(Driver::Postgres).await;
    let server = Server::start(database.url()).await;
    let mut working = worker(&server);
    let mut load = Load::new();

    load.begin(&server).await;
    let store = connect(&ConnectOptions::new(database.url())).await.unwrap();
    load.begin(&server).await;
    // Retention that treats done jobs as they will be treated in four days: the first days ahead are past it.
    let later = Retention {
        done_ms: -4 * DAY_MS,
        cancelled_ms: DAY_MS,
        dead_letters_ms: DAY_MS,
        keys_ms: DAY_MS,
        operations_ms: DAY_MS,
    };
    eventually("days are made and dropped", async || (store.maintain(&later).await.unwrap() > 0).then_some(())).await;
    load.begin(&server).await;
    store.close().await;

    load.finish_on(&server).await;
    assert!(working.terminate().await.success());
    server.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_sqlite_is_replaced_under_load() {
    let database = Database::create(Driver::Sqlite).await;
    let mut server = Server::start(database.url()).await;
    let mut working = worker(&server);
    let mut load = Load::new();

    load.begin(&server).await;
    replace_server(&mut server).await;
    load.begin(&server).await;
    replace_worker(&mut working, &server).await;
    load.begin(&server).await;
    replace_server(&mut server).await;

    load.finish_on(&server).await;
    assert!(working.terminate().await.success());
    server.stop_and_check().await;
}
