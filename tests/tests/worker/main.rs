//! Tests of the worker library against a real server, with calls and answers that get lost on the way.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong here fails the test")]

mod blocking;
mod faults;
mod outcomes;
mod proxy;

use std::time::Duration;

use jobqueue_tests::{
    database::{Database, Driver},
    poll::eventually,
    server::Server,
};
use jobqueue_worker::{Client, JobDetails, NewJob, RetryPolicy, RunError, Status, Worker, WorkerBuilder};
use proxy::Proxy;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const WORKER_ID: &str = "w";

/// A server, a proxy before it, and a client that does not use the proxy.
struct World {
    client: Client,
    proxy: Proxy,
    // The fields are dropped in this order: the server before its database.
    server: Server,
    _database: Database,
}

/// A worker that runs until it is stopped.
struct Running {
    stop: CancellationToken,
    ended: JoinHandle<Result<(), RunError>>,
}

impl World {
    async fn new() -> Self {
        let database = Database::create(Driver::Sqlite).await;
        let server = Server::start(database.url()).await;
        let proxy = Proxy::before(&server.endpoint()).await;
        Self { client: Client::connect(server.endpoint()).unwrap(), proxy, server, _database: database }
    }

    /// A worker behind the proxy.
    fn worker(&self) -> WorkerBuilder {
        Worker::builder(self.proxy.endpoint(), WORKER_ID).lease_time(Duration::from_secs(5))
    }

    async fn submit(&self, task: &str) -> String {
        self.submit_with(job(task)).await
    }

    async fn submit_with(&self, job: NewJob) -> String {
        self.client.submit(job).await.unwrap().job_id
    }

    async fn finished(&self, job_id: &str) -> JobDetails {
        tokio::time::timeout(jobqueue_tests::poll::PATIENCE, self.client.wait_until_finished(job_id))
            .await
            .expect("the job does not finish")
            .unwrap()
    }

    /// Waits until the server has made more than `looks` acquires, so that a worker's call waits.
    async fn waits_for_jobs(&self, looks: u64) {
        eventually("a worker waits", async || (self.server.acquire_count().await > looks).then_some(())).await;
    }

    async fn until(&self, job_id: &str, status: Status) -> JobDetails {
        eventually(status.as_str_name(), async || {
            let details = self.client.get(job_id).await.unwrap();
            (details.job.status() == status).then_some(details)
        })
        .await
    }
}

impl Running {
    fn start(worker: WorkerBuilder) -> Self {
        let stop = CancellationToken::new();
        let ended = tokio::spawn(worker.build().unwrap().run(stop.clone().cancelled_owned()));
        Self { stop, ended }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.ended.await.unwrap().unwrap();
    }
}

/// A job that is retried quickly.
fn job(task: &str) -> NewJob {
    let quickly = RetryPolicy::new().initial(Duration::from_millis(10)).jitter(0.0);
    NewJob::new(WORKER_ID, &json!({})).task(task).retry_policy(quickly)
}

fn history(details: &JobDetails) -> Vec<&'static str> {
    details.attempts.iter().rev().map(|attempt| attempt.outcome().as_str_name()).collect()
}
