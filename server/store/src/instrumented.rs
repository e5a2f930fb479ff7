//! Wrapper around a store that gives every call a span, metrics, a time limit and retries after conflicts. It also
//! remembers failures for the health check.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use metrics::{counter, histogram};
use tokio::{
    sync::broadcast,
    time::{Instant, sleep, timeout},
};
use tracing::{Instrument as _, debug_span};
use uuid::Uuid;

use crate::failpoint;
use crate::{
    Acquire, Acquired, ActionAnswer, AttemptRecord, ClaimedOperation, ErrorGroupChange, ErrorGroupDetails,
    ErrorGroupId, ErrorGroupPage, ErrorGroupQuery, ErrorWindow, ExplainInputs, HandOff, Heartbeat, HeartbeatAnswer,
    History, Inserted, JobCounts, JobFilter, JobRecord, ListQuery, MinuteCounts, NewOperation, NewSession,
    Notification, OperationRecord, OperationStarted, OperationState, OperationStore, Outcomes, Page, ProgressReport,
    PruningTime, Refusal, Registration, Rescued, Retention, SessionDetails, SessionQuery, SessionRecord, SettleAnswer,
    Settlement, SlotCounts, Step, StepAnswer, Stopped, Store, StoreError, StoreResult, Unit, WorkerIdCounts,
};

/// Time limit of a call. A call that takes longer has met a half-open connection, or a commit that waits for a standby
/// that is gone: the databases end everything else by themselves, sooner.
const CALL: Duration = Duration::from_secs(20);
/// Time limit of a call of background work, which runs several transactions.
const WORK: Duration = Duration::from_mins(1);
/// Maximum number of tries of a transaction that a conflict rolls back.
const TRIES: u32 = 3;

/// A store with instrumentation: `jobqueue_store_seconds` and `jobqueue_store_errors_total` by method.
pub struct Instrumented {
    store: Arc<dyn Store>,
    /// Number of calls that found the storage unavailable or full; `forgiven` is the number up to which a later write
    /// has succeeded.
    failed: AtomicU64,
    forgiven: AtomicU64,
    /// Damage that a call has found. Only a restart on a sound database clears it.
    damage: OnceLock<String>,
}

impl Instrumented {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store, failed: AtomicU64::new(0), forgiven: AtomicU64::new(0), damage: OnceLock::new() }
    }

    async fn call<T, F: Future<Output = StoreResult<T>>>(
        &self,
        method: &'static str,
        call: impl Fn() -> F,
    ) -> StoreResult<T> {
        self.within(CALL, method, call).await
    }

    async fn within<T, F: Future<Output = StoreResult<T>>>(
        &self,
        limit: Duration,
        method: &'static str,
        call: impl Fn() -> F,
    ) -> StoreResult<T> {
        let begun = Instant::now();
        let call = async {
            failpoint::before(method).await?;
            let result = tried(call).await?;
            failpoint::after(method).await.map(|()| result)
        };
        let result = timeout(limit, call)
            .instrument(debug_span!("store", method))
            .await
            .unwrap_or_else(|_| Err(StoreError::Unavailable(format!("no answer within {limit:?}"))));
        histogram!("jobqueue_store_seconds", "method" => method).record(begun.elapsed());
        if let Err(error) = &result {
            counter!("jobqueue_store_errors_total", "method" => method, "kind" => error.kind()).increment(1);
            self.note(error);
        }
        result
    }

    fn note(&self, error: &StoreError) {
        match error {
            StoreError::Unavailable(_) | StoreError::Full(_) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
            }
            StoreError::Damaged(text) => {
                let _ = self.damage.set(text.clone());
            }
            _ => {}
        }
    }

    /// Health check after failures: tries a write, because a full disk can still be read.
    async fn writes_again(&self) -> StoreResult<()> {
        if let Some(text) = self.damage.get() {
            return Err(StoreError::Damaged(text.clone()));
        }
        let failed = self.failed.load(Ordering::Relaxed);
        if failed != self.forgiven.load(Ordering::Relaxed) {
            match self.store.try_write().await {
                Err(error @ (StoreError::Unavailable(_) | StoreError::Full(_) | StoreError::Conflict(_))) => {
                    return Err(error);
                }
                // The error proves nothing, as with a role that may not create temporary tables. Reading has to
                // suffice.
                Err(error) => tracing::debug!(%error, "a write could not be tried"),
                Ok(()) => {}
            }
            self.forgiven.store(failed, Ordering::Relaxed);
        }
        Ok(())
    }
}

/// Tries a transaction again after a conflict, which has had no effect, with a short random delay.
async fn tried<T, F: Future<Output = StoreResult<T>>>(call: impl Fn() -> F) -> StoreResult<T> {
    for tries in 1..TRIES {
        match call().await {
            Err(StoreError::Conflict(_)) => {
                sleep(Duration::from_millis(rand::random_range(1..20) * u64::from(tries))).await;
            }
            result => return result,
        }
    }
    call().await
}

#[async_trait]
impl OperationStore for Instrumented {
    async fn start_operation(&self, new: &NewOperation) -> StoreResult<OperationStarted> {
        self.call("start_operation", || self.store.start_operation(new)).await
    }

    async fn operation(&self, id: Uuid) -> StoreResult<Option<(OperationRecord, Vec<Refusal>)>> {
        self.call("operation", || self.store.operation(id)).await
    }

    async fn operations(&self, before: Option<Uuid>, limit: u32) -> StoreResult<Vec<OperationRecord>> {
        self.call("operations", || self.store.operations(before, limit)).await
    }

    async fn move_operation(
        &self,
        id: Uuid,
        from: &[OperationState],
        to: OperationState,
        note: &str,
    ) -> StoreResult<Option<(bool, OperationRecord)>> {
        self.call("move_operation", || self.store.move_operation(id, from, to, note)).await
    }

    async fn claim_operation(&self, token: Uuid, lease_ms: i64) -> StoreResult<Option<ClaimedOperation>> {
        self.call("claim_operation", || self.store.claim_operation(token, lease_ms)).await
    }

    async fn step_operation(&self, step: &Step) -> StoreResult<StepAnswer> {
        self.call("step_operation", || self.store.step_operation(step)).await
    }

    async fn operation_outcomes(&self, id: Uuid, canary: bool) -> StoreResult<Outcomes> {
        self.call("operation_outcomes", || self.store.operation_outcomes(id, canary)).await
    }
}

#[async_trait]
impl Store for Instrumented {
    fn name(&self) -> &'static str {
        self.store.name()
    }

    async fn insert(&self, units: &[Unit], offers: &[HandOff]) -> StoreResult<Inserted> {
        self.call("insert", || self.store.insert(units, offers)).await
    }

    async fn acquire_all(&self, requests: &[Acquire]) -> StoreResult<Vec<Option<Acquired>>> {
        self.call("acquire", || self.store.acquire_all(requests)).await
    }

    async fn settle(&self, items: &[Settlement]) -> StoreResult<Vec<SettleAnswer>> {
        self.call("settle", || self.store.settle(items)).await
    }

    async fn report_progress(&self, report: &ProgressReport) -> StoreResult<bool> {
        self.call("report_progress", || self.store.report_progress(report)).await
    }

    async fn register(&self, session: &NewSession) -> StoreResult<Registration> {
        self.call("register", || self.store.register(session)).await
    }

    async fn heartbeat(&self, beats: &[Heartbeat]) -> StoreResult<Vec<Option<HeartbeatAnswer>>> {
        self.call("heartbeat", || self.store.heartbeat(beats)).await
    }

    async fn end_session(&self, session_id: Uuid) -> StoreResult<Option<String>> {
        self.call("end_session", || self.store.end_session(session_id)).await
    }

    async fn stops(&self, session_id: Uuid) -> StoreResult<Vec<Stopped>> {
        self.call("stops", || self.store.stops(session_id)).await
    }

    async fn cancel(&self, ids: &[Uuid], reason: &str) -> StoreResult<Vec<ActionAnswer>> {
        self.call("cancel", || self.store.cancel(ids, reason)).await
    }

    async fn retry(&self, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>> {
        self.call("retry", || self.store.retry(ids)).await
    }

    async fn delete(&self, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>> {
        self.call("delete", || self.store.delete(ids)).await
    }

    async fn pause(&self, worker_id: &str, reason: &str) -> StoreResult<()> {
        self.call("pause", || self.store.pause(worker_id, reason)).await
    }

    async fn resume(&self, worker_id: &str) -> StoreResult<()> {
        self.call("resume", || self.store.resume(worker_id)).await
    }

    async fn runnable(&self, worker_ids: &[String]) -> StoreResult<Vec<String>> {
        self.call("runnable", || self.store.runnable(worker_ids)).await
    }

    async fn note_heard(&self) -> StoreResult<i64> {
        self.call("note_heard", || self.store.note_heard()).await
    }

    async fn rescue(&self, limit: u32) -> StoreResult<Rescued> {
        self.within(WORK, "rescue", || self.store.rescue(limit)).await
    }

    async fn maintain(&self, retention: &Retention) -> StoreResult<u64> {
        self.within(WORK, "maintain", || self.store.maintain(retention)).await
    }

    async fn prune(&self, retention: &Retention, limit: u32) -> StoreResult<u64> {
        self.within(WORK, "prune", || self.store.prune(retention, limit)).await
    }

    async fn compact_counters(&self, limit: u32) -> StoreResult<u64> {
        self.within(WORK, "compact_counters", || self.store.compact_counters(limit)).await
    }

    async fn fold_errors(&self, limit: u32) -> StoreResult<u64> {
        self.within(WORK, "fold_errors", || self.store.fold_errors(limit)).await
    }

    async fn error_groups(&self, query: &ErrorGroupQuery) -> StoreResult<ErrorGroupPage> {
        self.call("error_groups", || self.store.error_groups(query)).await
    }

    async fn error_group(&self, id: ErrorGroupId, window: ErrorWindow) -> StoreResult<Option<ErrorGroupDetails>> {
        self.call("error_group", || self.store.error_group(id, window)).await
    }

    async fn update_error_group(&self, id: ErrorGroupId, change: &ErrorGroupChange) -> StoreResult<bool> {
        self.call("update_error_group", || self.store.update_error_group(id, change)).await
    }

    async fn get(&self, ids: &[Uuid]) -> StoreResult<Vec<Option<JobRecord>>> {
        self.call("get", || self.store.get(ids)).await
    }

    async fn attempts(&self, job_id: Uuid) -> StoreResult<Vec<AttemptRecord>> {
        self.call("attempts", || self.store.attempts(job_id)).await
    }

    async fn copies(&self, origin: Uuid, limit: u32) -> StoreResult<Vec<JobRecord>> {
        self.call("copies", || self.store.copies(origin, limit)).await
    }

    async fn history(&self, job_id: Uuid) -> StoreResult<Option<History>> {
        self.call("history", || self.store.history(job_id)).await
    }

    async fn explain_inputs(&self, job: &JobRecord) -> StoreResult<ExplainInputs> {
        self.call("explain_inputs", || self.store.explain_inputs(job)).await
    }

    async fn list(&self, query: &ListQuery) -> StoreResult<Page> {
        self.call("list", || self.store.list(query)).await
    }

    async fn count(&self, filter: &JobFilter, by_state: bool) -> StoreResult<JobCounts> {
        self.call("count", || self.store.count(filter, by_state)).await
    }

    async fn counts(&self) -> StoreResult<Vec<WorkerIdCounts>> {
        self.call("counts", || self.store.counts()).await
    }

    async fn throughput(&self, worker_id: Option<&str>, from_minute: i64) -> StoreResult<Vec<MinuteCounts>> {
        self.call("throughput", || self.store.throughput(worker_id, from_minute)).await
    }

    async fn throughputs(&self, worker_ids: &[String], from_minute: i64, step: u32) -> StoreResult<Vec<SlotCounts>> {
        self.call("throughputs", || self.store.throughputs(worker_ids, from_minute, step)).await
    }

    async fn sessions(&self, query: &SessionQuery) -> StoreResult<Vec<SessionRecord>> {
        self.call("sessions", || self.store.sessions(query)).await
    }

    async fn session(&self, session_id: Uuid) -> StoreResult<Option<SessionDetails>> {
        self.call("session", || self.store.session(session_id)).await
    }

    async fn now_ms(&self) -> StoreResult<i64> {
        self.writes_again().await?;
        self.call("now_ms", || self.store.now_ms()).await
    }

    async fn try_write(&self) -> StoreResult<()> {
        self.call("try_write", || self.store.try_write()).await
    }

    async fn housekeeping(&self) -> StoreResult<()> {
        self.within(WORK, "housekeeping", || self.store.housekeeping()).await
    }

    async fn pruning_time(&self) -> StoreResult<PruningTime> {
        self.call("pruning_time", || self.store.pruning_time()).await
    }

    async fn confirm_time(&self, now_ms: i64) -> StoreResult<()> {
        self.call("confirm_time", || self.store.confirm_time(now_ms)).await
    }

    fn notifications(&self) -> Option<broadcast::Receiver<Notification>> {
        self.store.notifications()
    }

    async fn announce(&self, hints: &[Notification]) -> StoreResult<()> {
        self.call("announce", || self.store.announce(hints)).await
    }

    async fn audit(&self) -> StoreResult<Vec<String>> {
        // No time limit: an audit reads the whole database.
        self.store.audit().await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    /// Fails `count` times with a conflict, then returns the number of the call. Returns the result and the number of
    /// calls.
    async fn conflicts(count: u32) -> (StoreResult<u32>, u32) {
        let calls = Cell::new(0);
        let call = || {
            calls.set(calls.get() + 1);
            let calls = calls.get();
            async move { if calls > count { Ok(calls) } else { Err(StoreError::Conflict("deadlock".into())) } }
        };
        (tried(call).await, calls.get())
    }

    #[tokio::test]
    async fn a_transaction_that_was_in_the_way_of_another_is_tried_again() {
        assert!(matches!(conflicts(0).await, (Ok(1), 1)));
        assert!(matches!(conflicts(2).await, (Ok(3), 3)));
        assert!(matches!(conflicts(9).await, (Err(StoreError::Conflict(_)), TRIES)));
    }

    #[tokio::test]
    async fn what_may_have_happened_is_not_tried_again() {
        let calls = Cell::new(0);
        let call = || {
            calls.set(calls.get() + 1);
            async { Err::<(), _>(StoreError::Unavailable("gone".into())) }
        };
        assert!(matches!(tried(call).await, Err(StoreError::Unavailable(_))));
        assert_eq!(calls.get(), 1);
    }
}
