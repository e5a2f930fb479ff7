//! From the last release to this build, one program after another, while programs submit and workers work.
//!
//! Both versions run on one schema, the newer one's, and either may serve either's workers. Nothing is lost, and a
//! planned stop costs no job an attempt.

use std::{path::Path, sync::Arc};

use jobqueue_server::store::{ConnectOptions, Retention, connect};
use jobqueue_shared::proto::v1::job::Status;
use jobqueue_tests::{
    binaries,
    database::{Database, Driver},
    poll::eventually,
    released::{self, Released},
    server::Server,
    worker::Worker,
};
use tokio::task::JoinHandle;

use crate::{
    crashes::{Acknowledged, submit_all},
    world::{W, history},
};

/// What is submitted in each step of an upgrade.
const JOBS: usize = 60;

/// Leases outlive every restart, so that what a stop costs shows.
fn worker(program: &Path, server: &Server) -> Worker {
    Worker::start_program(program, server, W, &["--simulate", "--concurrency", "4", "--lease-time", "10m"])
}

async fn released() -> Released {
    tokio::task::spawn_blocking(released::programs).await.unwrap()
}

/// Submits while something is upgraded.
struct Load {
    step: usize,
    acknowledged: Acknowledged,
    submitting: Vec<JoinHandle<()>>,
}

impl Load {
    fn new() -> Self {
        Self { step: 0, acknowledged: Acknowledged::default(), submitting: Vec::new() }
    }

    /// Begins another step's jobs, and returns when some of them are acknowledged and more are to come.
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

    /// Everything is acknowledged, and each job is done by its first attempt.
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

async fn replace_server(server: &mut Server, program: &Path) {
    let status = server.terminate().await;
    assert!(status.success(), "{status}");
    server.start_again_as(program.to_owned()).await;
}

async fn replace_worker(old: &mut Worker, program: &Path, server: &Server) {
    let next = worker(program, server);
    let status = old.terminate().await;
    assert!(status.success(), "{status}");
    *old = next;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_of_two_versions_share_one_database_through_a_rolling_upgrade_and_back() {
    let (old, new) = (released().await, (binaries::server(), binaries::worker()));
    let database = Database::create(Driver::Postgres).await;
    let mut one = Server::start_program(old.server.clone(), database.url(), &[]).await;
    let mut other = Server::start_program(old.server.clone(), database.url(), &[]).await;
    let (mut of_one, mut of_other) = (worker(&old.worker, &one), worker(&old.worker, &other));
    let mut load = Load::new();

    load.begin(&other).await;
    replace_server(&mut one, &new.0).await;
    load.begin(&one).await;
    replace_worker(&mut of_other, &new.1, &other).await;
    load.begin(&other).await;
    replace_server(&mut other, &new.0).await;
    load.begin(&one).await;
    replace_worker(&mut of_one, &new.1, &one).await;
    // And back: a release runs on the schema of the one after it.
    load.begin(&one).await;
    replace_server(&mut other, &old.server).await;
    load.begin(&other).await;

    load.finish_on(&other).await;
    assert!(of_one.terminate().await.success() && of_other.terminate().await.success());
    assert!(other.terminate().await.success());
    one.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

/// The table of jobs is cut into days under its hands, and days are dropped: it goes on as before, on the connections
/// and with the statements that it has, and keeps every job.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_server_goes_on_while_a_newer_one_makes_and_drops_days() {
    const DAY_MS: i64 = 86_400_000;
    let old = released().await;
    let database = Database::create(Driver::Postgres).await;
    let mut server = Server::start_program(old.server.clone(), database.url(), &[]).await;
    let mut working = worker(&old.worker, &server);
    let mut load = Load::new();

    load.begin(&server).await;
    let store = connect(&ConnectOptions::new(database.url())).await.unwrap();
    load.begin(&server).await;
    // As if it were four days later, for what is done: the first days ahead have had their time.
    let later = Retention { done_ms: -4 * DAY_MS, cancelled_ms: DAY_MS, dead_letters_ms: DAY_MS, keys_ms: DAY_MS };
    eventually("days are made and dropped", async || (store.maintain(&later).await.unwrap() > 0).then_some(())).await;
    load.begin(&server).await;
    store.close().await;

    load.finish_on(&server).await;
    assert!(working.terminate().await.success());
    let status = server.terminate().await;
    assert!(status.success(), "{status}");
    server.start_again_as(binaries::server()).await;
    server.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_on_sqlite_is_replaced_by_the_next_version_and_back_under_load() {
    let (old, new) = (released().await, (binaries::server(), binaries::worker()));
    let database = Database::create(Driver::Sqlite).await;
    let mut server = Server::start_program(old.server.clone(), database.url(), &[]).await;
    let mut working = worker(&old.worker, &server);
    let mut load = Load::new();

    load.begin(&server).await;
    replace_server(&mut server, &new.0).await;
    load.begin(&server).await;
    replace_worker(&mut working, &new.1, &server).await;
    load.begin(&server).await;
    replace_server(&mut server, &old.server).await;
    load.begin(&server).await;
    replace_server(&mut server, &new.0).await;

    load.finish_on(&server).await;
    assert!(working.terminate().await.success());
    server.stop_and_check().await;
}
