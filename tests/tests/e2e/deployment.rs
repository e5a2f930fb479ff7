//! Fixture of a scenario: an empty database and a server on it.

use std::path::PathBuf;

use jobqueue_shared::proto::v1::{
    AcquireJobsRequest, Attempt, EndSessionRequest, GetJobResponse, Job, LeasedJob, RegisterSessionRequest,
    SettleJobsRequest, SettleResult, Settlement, settlement::Outcome,
};
use jobqueue_tests::{
    api::Api,
    database::{Database, Driver},
    server::Server,
    worker::Worker,
};
use prost_types::Duration;
use tempfile::TempDir;

pub(crate) const WORKER_ID: &str = "worker-1a";

pub(crate) struct Deployment {
    // The fields are dropped in this order: the server before its database.
    pub(crate) server: Server,
    pub(crate) api: Api,
    pub(crate) database: Database,
    folder: TempDir,
}

impl Deployment {
    pub(crate) async fn new(driver: Driver) -> Self {
        Self::with(driver, &[]).await
    }

    pub(crate) async fn with(driver: Driver, args: &[&str]) -> Self {
        let database = Database::create(driver).await;
        let server = Server::start_with(database.url(), args).await;
        let api = server.api();
        Self { server, api, database, folder: tempfile::tempdir().unwrap() }
    }

    /// Stops the server in order and checks its stored data.
    pub(crate) async fn stop_and_check(self) {
        let Self { server, database, .. } = self;
        server.stop_and_check().await;
        tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
    }

    pub(crate) fn worker(&self, args: &[&str]) -> Worker {
        Worker::start(&self.server, WORKER_ID, args)
    }

    /// A worker that runs the built-in demonstration.
    pub(crate) fn simulating(&self) -> Worker {
        self.worker(&["--simulate"])
    }

    /// Path of a file that a command writes.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

/// Minimal worker that makes only the calls of a scenario.
pub(crate) struct ManualWorker {
    api: Api,
    pub(crate) session_id: String,
    acquire_no: i32,
}

impl ManualWorker {
    pub(crate) async fn register(api: &Api) -> Self {
        Self::register_as(api, RegisterSessionRequest::default()).await
    }

    /// Registers a session for [`WORKER_ID`], with 10 slots unless the request names another number.
    pub(crate) async fn register_as(api: &Api, request: RegisterSessionRequest) -> Self {
        let slots = if request.slots == 0 { 10 } else { request.slots };
        let request = RegisterSessionRequest { worker_id: WORKER_ID.to_owned(), slots, ..request };
        let session = api.workers().register_session(request).await.unwrap().into_inner();
        Self { api: api.clone(), session_id: session.session_id, acquire_no: 0 }
    }

    /// A copy of this session that speaks to another server.
    pub(crate) fn on(&self, api: &Api) -> Self {
        Self { api: api.clone(), session_id: self.session_id.clone(), acquire_no: self.acquire_no }
    }

    pub(crate) fn next_acquire(&mut self, max_jobs: i32, wait_s: i64) -> AcquireJobsRequest {
        self.acquire_no += 1;
        AcquireJobsRequest {
            session_id: self.session_id.clone(),
            max_jobs,
            acquire_no: self.acquire_no,
            wait: Some(Duration { seconds: wait_s, nanos: 0 }),
        }
    }

    /// Acquires jobs, waiting for a first one.
    pub(crate) async fn acquire(&mut self, max_jobs: i32) -> Vec<LeasedJob> {
        let request = self.next_acquire(max_jobs, 20);
        self.api.workers().acquire_jobs(request).await.unwrap().into_inner().jobs
    }

    pub(crate) async fn acquire_one(&mut self) -> LeasedJob {
        let mut jobs = self.acquire(1).await;
        assert_eq!(jobs.len(), 1);
        jobs.remove(0)
    }

    pub(crate) async fn end(self) {
        self.api.workers().end_session(EndSessionRequest { session_id: self.session_id }).await.unwrap();
    }

    pub(crate) async fn settle_all(&self, settlements: Vec<Settlement>) -> Vec<SettleResult> {
        let request = SettleJobsRequest { session_id: self.session_id.clone(), settlements };
        self.api.workers().settle_jobs(request).await.unwrap().into_inner().results
    }

    pub(crate) async fn settle(&self, lease_id: &str, outcome: Outcome) -> SettleResult {
        let settlement = Settlement { lease_id: lease_id.to_owned(), outcome: Some(outcome) };
        let mut results = self.settle_all(vec![settlement]).await;
        assert_eq!((results.len(), results[0].lease_id.as_str()), (1, lease_id));
        results.remove(0)
    }
}

/// Job and attempts of an answer.
pub(crate) fn parts(found: GetJobResponse) -> (Job, Vec<Attempt>) {
    (found.job.expect("a job"), found.attempts)
}

/// Outcomes of the attempts, oldest first.
pub(crate) fn history(found: &GetJobResponse) -> Vec<&'static str> {
    found.attempts.iter().rev().map(|attempt| attempt.outcome().as_str_name()).collect()
}
