//! Client of a store that acts as one worker session.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use jobqueue_shared::{lease::LeaseId, state::Ending};
use jobqueue_store::{
    Acquire, Acquired, Heartbeat, HeartbeatAnswer, Leased, NewSession, ProgressReport, Registration, SettleAnswer,
    Settlement, Store,
};
use jobqueue_tests::poll::eventually;
use uuid::Uuid;

#[derive(Clone)]
pub(crate) struct Session {
    store: Arc<dyn Store>,
    pub(crate) id: Uuid,
    /// worker_id of the session, where the server has it cached.
    worker_id: Option<String>,
    acquired: Arc<AtomicU32>,
}

impl Session {
    pub(crate) async fn register(store: Arc<dyn Store>, new: &NewSession) -> Self {
        let Registration::New { session_id, .. } = store.register(new).await.unwrap() else { panic!("{new:?}") };
        Self { store, id: session_id, worker_id: Some(new.worker_id.clone()), acquired: Arc::default() }
    }

    /// The session, through another server's store.
    pub(crate) fn on(&self, store: &Arc<dyn Store>) -> Self {
        Self { store: Arc::clone(store), ..self.clone() }
    }

    /// Another session id in the name of this client, as an impostor would send it.
    pub(crate) fn posing_as(&self, id: Uuid) -> Self {
        Self { id, worker_id: None, ..self.clone() }
    }

    pub(crate) async fn acquire_numbered(&self, acquire_no: u32, max_jobs: u32) -> Acquired {
        let worker_id = self.worker_id.clone();
        self.store.acquire(&Acquire { session_id: self.id, worker_id, acquire_no, max_jobs }).await.unwrap()
    }

    pub(crate) async fn jobs_numbered(&self, acquire_no: u32, max_jobs: u32) -> Vec<Leased> {
        let Acquired::Jobs { jobs, .. } = self.acquire_numbered(acquire_no, max_jobs).await else { panic!() };
        jobs
    }

    /// Answer to an acquire under a new number.
    pub(crate) async fn acquire_any(&self, max_jobs: u32) -> Acquired {
        let acquire_no = self.acquired.fetch_add(1, Ordering::Relaxed) + 1;
        self.acquire_numbered(acquire_no, max_jobs).await
    }

    pub(crate) async fn acquire(&self, max_jobs: u32) -> Vec<Leased> {
        match self.acquire_any(max_jobs).await {
            Acquired::Jobs { jobs, .. } => {
                assert!(jobs.len() <= max_jobs as usize, "{} jobs instead of {max_jobs}", jobs.len());
                jobs
            }
            other => panic!("{other:?}"),
        }
    }

    /// Acquired jobs; `None` when the session has ended.
    pub(crate) async fn acquire_if_alive(&self, max_jobs: u32) -> Option<Vec<Leased>> {
        match self.acquire_any(max_jobs).await {
            Acquired::Jobs { jobs, .. } => Some(jobs),
            Acquired::NoSession => None,
            Acquired::SessionFull => panic!("the session is full"),
        }
    }

    /// Acquires the only job that can run; panics when there is none or another one.
    pub(crate) async fn acquire_one(&self) -> Leased {
        let mut jobs = self.acquire(2).await;
        assert_eq!(jobs.len(), 1, "{jobs:?}");
        jobs.remove(0)
    }

    /// Acquires one of several jobs that can run.
    pub(crate) async fn acquire_next(&self) -> Leased {
        self.acquire(1).await.pop().expect("a job")
    }

    /// Waits until a job can run, and acquires it.
    pub(crate) async fn acquire_when_due(&self) -> Leased {
        eventually("a job may run", async || self.acquire(1).await.pop()).await
    }

    pub(crate) async fn settle(&self, settlement: Settlement) -> SettleAnswer {
        let mut answers = self.store.settle(&[settlement]).await.unwrap();
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    pub(crate) fn settlement(&self, lease: LeaseId, ending: Ending) -> Settlement {
        Settlement { session_id: Some(self.id), lease, ending, text: String::new(), result: None, note: String::new() }
    }

    pub(crate) async fn end(&self, lease: LeaseId, ending: Ending) -> SettleAnswer {
        self.settle(self.settlement(lease, ending)).await
    }

    pub(crate) async fn complete(&self, lease: LeaseId) -> SettleAnswer {
        self.end(lease, Ending::Complete).await
    }

    pub(crate) async fn complete_with(&self, lease: LeaseId, result: &str) -> SettleAnswer {
        let settlement = self.settlement(lease, Ending::Complete);
        self.settle(Settlement { result: Some(result.to_owned()), ..settlement }).await
    }

    pub(crate) async fn fail(&self, lease: LeaseId, error: &str) -> SettleAnswer {
        self.end_saying(lease, Ending::Fail { permanent: false, retry_after_ms: None }, error).await
    }

    pub(crate) async fn fail_for_good(&self, lease: LeaseId, error: &str) -> SettleAnswer {
        self.end_saying(lease, Ending::Fail { permanent: true, retry_after_ms: None }, error).await
    }

    pub(crate) async fn snooze(&self, lease: LeaseId, delay_ms: i64) -> SettleAnswer {
        self.end(lease, Ending::Snooze { delay_ms }).await
    }

    pub(crate) async fn release(&self, lease: LeaseId) -> SettleAnswer {
        self.end(lease, Ending::Release { no_handler: false }).await
    }

    pub(crate) async fn end_saying(&self, lease: LeaseId, ending: Ending, text: &str) -> SettleAnswer {
        let settlement = self.settlement(lease, ending);
        self.settle(Settlement { text: text.to_owned(), ..settlement }).await
    }

    /// Reports progress. False when the lease is not valid.
    pub(crate) async fn progress(&self, lease: LeaseId, message: &str) -> bool {
        let message = message.to_owned();
        let report = ProgressReport { session_id: self.id, lease, fraction: 0.5, message };
        self.store.report_progress(&report).await.unwrap()
    }

    /// Sends a heartbeat. `None` when the session has ended.
    pub(crate) async fn beat(&self) -> Option<HeartbeatAnswer> {
        let mut answers = self.store.heartbeat(&[Heartbeat { session_id: self.id, draining: false }]).await.unwrap();
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }
}
