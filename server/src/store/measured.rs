//! Spans and metrics for a store, put around the interface once.

use std::sync::Arc;

use async_trait::async_trait;
use metrics::{counter, histogram};
use tokio::{sync::broadcast, time::Instant};
use tracing::{Instrument as _, debug_span};
use uuid::Uuid;

use super::{
    Acquire, Acquired, Alive, AttemptRecord, Beat, Hint, History, JobRecord, ListQuery, MinuteCounts, Moved,
    NewSession, Page, ProgressReport, Rescued, Retention, SessionRecord, SettleAnswer, Settlement, Stopped, Store,
    StoreError, StoreResult, Surroundings, Unit, UnitAnswer, WorkerIdCounts,
};
use crate::failpoint;

/// The store inside, measured: `jobqueue_store_seconds` and `jobqueue_store_errors_total` by method.
pub struct Measured(pub Arc<dyn Store>);

async fn measure<T>(method: &'static str, call: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
    let begun = Instant::now();
    let result = async {
        failpoint::before(method).await?;
        let result = call.await?;
        failpoint::after(method).await.map(|()| result)
    };
    let result = result.instrument(debug_span!("store", method)).await;
    histogram!("jobqueue_store_seconds", "method" => method).record(begun.elapsed());
    if let Err(error) = &result {
        counter!("jobqueue_store_errors_total", "method" => method, "kind" => kind(error)).increment(1);
    }
    result
}

fn kind(error: &StoreError) -> &'static str {
    match error {
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Full(_) => "full",
        StoreError::Data(_) => "data",
        StoreError::Defect(_) => "defect",
        StoreError::Startup(_) => "startup",
        StoreError::Unsupported(_) => "unsupported",
    }
}

#[async_trait]
impl Store for Measured {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    async fn insert(&self, units: &[Unit]) -> StoreResult<Vec<UnitAnswer>> {
        measure("insert", self.0.insert(units)).await
    }

    async fn acquire(&self, request: &Acquire) -> StoreResult<Acquired> {
        measure("acquire", self.0.acquire(request)).await
    }

    async fn settle(&self, items: &[Settlement]) -> StoreResult<Vec<SettleAnswer>> {
        measure("settle", self.0.settle(items)).await
    }

    async fn report_progress(&self, report: &ProgressReport) -> StoreResult<bool> {
        measure("report_progress", self.0.report_progress(report)).await
    }

    async fn register(&self, session: &NewSession) -> StoreResult<Uuid> {
        measure("register", self.0.register(session)).await
    }

    async fn heartbeat(&self, beats: &[Beat]) -> StoreResult<Vec<Option<Alive>>> {
        measure("heartbeat", self.0.heartbeat(beats)).await
    }

    async fn end_session(&self, session_id: Uuid) -> StoreResult<Option<String>> {
        measure("end_session", self.0.end_session(session_id)).await
    }

    async fn stops(&self, session_id: Uuid) -> StoreResult<Vec<Stopped>> {
        measure("stops", self.0.stops(session_id)).await
    }

    async fn cancel(&self, ids: &[Uuid], reason: &str) -> StoreResult<Vec<Moved>> {
        measure("cancel", self.0.cancel(ids, reason)).await
    }

    async fn retry(&self, ids: &[Uuid]) -> StoreResult<Vec<Moved>> {
        measure("retry", self.0.retry(ids)).await
    }

    async fn delete(&self, ids: &[Uuid]) -> StoreResult<Vec<Moved>> {
        measure("delete", self.0.delete(ids)).await
    }

    async fn pause(&self, worker_id: &str, reason: &str) -> StoreResult<()> {
        measure("pause", self.0.pause(worker_id, reason)).await
    }

    async fn resume(&self, worker_id: &str) -> StoreResult<()> {
        measure("resume", self.0.resume(worker_id)).await
    }

    async fn rescue(&self, limit: u32) -> StoreResult<Rescued> {
        measure("rescue", self.0.rescue(limit)).await
    }

    async fn prune(&self, retention: &Retention, limit: u32) -> StoreResult<u64> {
        measure("prune", self.0.prune(retention, limit)).await
    }

    async fn fold(&self, limit: u32) -> StoreResult<u64> {
        measure("fold", self.0.fold(limit)).await
    }

    async fn get(&self, ids: &[Uuid]) -> StoreResult<Vec<Option<JobRecord>>> {
        measure("get", self.0.get(ids)).await
    }

    async fn attempts(&self, job_id: Uuid) -> StoreResult<Vec<AttemptRecord>> {
        measure("attempts", self.0.attempts(job_id)).await
    }

    async fn history(&self, job_id: Uuid) -> StoreResult<Option<History>> {
        measure("history", self.0.history(job_id)).await
    }

    async fn surroundings(&self, job: &JobRecord) -> StoreResult<Surroundings> {
        measure("surroundings", self.0.surroundings(job)).await
    }

    async fn list(&self, query: &ListQuery) -> StoreResult<Page> {
        measure("list", self.0.list(query)).await
    }

    async fn counts(&self) -> StoreResult<Vec<WorkerIdCounts>> {
        measure("counts", self.0.counts()).await
    }

    async fn throughput(&self, worker_id: Option<&str>, from_minute: i64) -> StoreResult<Vec<MinuteCounts>> {
        measure("throughput", self.0.throughput(worker_id, from_minute)).await
    }

    async fn sessions(&self, worker_id: Option<&str>) -> StoreResult<Vec<SessionRecord>> {
        measure("sessions", self.0.sessions(worker_id)).await
    }

    async fn now_ms(&self) -> StoreResult<i64> {
        measure("now_ms", self.0.now_ms()).await
    }

    fn wakes(&self) -> Option<broadcast::Receiver<Hint>> {
        self.0.wakes()
    }

    async fn announce(&self, hints: &[Hint]) -> StoreResult<()> {
        measure("announce", self.0.announce(hints)).await
    }

    async fn audit(&self) -> StoreResult<Vec<String>> {
        measure("audit", self.0.audit()).await
    }

    async fn close(&self) {
        self.0.close().await;
    }
}
