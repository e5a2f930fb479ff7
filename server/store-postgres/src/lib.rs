//! PostgreSQL store, for PostgreSQL 15 or newer and several servers on one database.
//!
//! Hot statements find rows by key or by `ctid`, never by a plan that depends on statistics: the pool turns sequential
//! scans, bitmap scans and the JIT off. Jobs are looked up by id within the range of the ids, and in joins one by one
//! (LATERAL .. LIMIT 1), so that only the partitions concerned are read, whatever the statistics. Time limits on
//! statements, locks and idle transactions keep one stuck server from holding up the others.

mod acquire;
mod connect;
mod deltas;
mod direct_hand_off;
mod duty_cycle;
mod error_groups;
mod insert;
mod observe;
mod operate;
mod retain;
mod sessions;
mod settle;

use acquire::{scan_cursor, session_quota};
use async_trait::async_trait;
use connect::{notify, tls, try_write};
use jobqueue_store::{
    OperationStore, Store,
    clock::Clock,
    error::StoreResult,
    insert_units::insert_units,
    page,
    quarantine::Quarantine,
    sessions::rescue,
    types::{
        Acquire, Acquired, ActionAnswer, AttemptRecord, ClaimedOperation, ErrorGroupChange, ErrorGroupDetails,
        ErrorGroupId, ErrorGroupPage, ErrorGroupQuery, ErrorWindow, ExplainInputs, HandOff, Heartbeat, HeartbeatAnswer,
        History, Inserted, JobCounts, JobFilter, JobRecord, ListQuery, MinuteCounts, NewOperation, NewSession,
        Notification, OperationRecord, OperationStarted, OperationState, Outcomes, Page, ProgressReport, PruningTime,
        Refusal, Registration, Rescued, Retention, SessionDetails, SessionQuery, SessionRecord, SettleAnswer,
        Settlement, SlotCounts, Step, StepAnswer, Stopped, Unit, WorkerIdCounts,
    },
};
use observe::{audit, counts, explain_inputs, read};
use operate::{operations, operator_actions, pause};
use parking_lot::Mutex;
use retain::{counter_compaction, low_watermark, partitions, prune};
use sessions::{end, heartbeat, outage, progress, register};
use tokio::{sync::broadcast, task::JoinHandle};
use uuid::Uuid;

use crate::connect::pool::{Pool, Tx};

pub struct PostgresStore {
    pool: Pool,
    clock: std::sync::Arc<Clock>,
    scan_cursors: std::sync::Arc<scan_cursor::ScanCursors>,
    session_quotas: session_quota::SessionQuotas,
    notifications: broadcast::Sender<Notification>,
    channels: notify::Channels,
    /// Id of this server in its notifications, so that it skips the stops that it has sent itself.
    server_id: Uuid,
    /// Damaged rows, which rescue leaves out.
    quarantine: Quarantine,
    /// Duty cycle of rescue's scan for claims of sessions that are gone.
    orphan_scans: parking_lot::Mutex<duty_cycle::DutyCycle>,
    /// Low watermark of the counter deltas.
    compaction: low_watermark::LowWatermark,
    /// Low watermark of the changes of error groups.
    error_folding: low_watermark::LowWatermark,
    /// Id of the last job whose idempotency key the pruner has examined; its next run starts after it.
    key_cursor: Mutex<Uuid>,
    /// Id of the last job whose attempts the pruner of leftovers has examined; its next run starts after it.
    attempts_cursor: Mutex<Uuid>,
    tasks: Vec<JoinHandle<()>>,
    /// TLS relays of the connections. A relay stops when it is dropped.
    _relays: Vec<tls::Relay>,
}

impl PostgresStore {
    async fn now(&self) -> StoreResult<i64> {
        connect::read_clock(&self.pool, &self.clock).await
    }

    /// Begins a transaction whose commit is on disk before it is acknowledged.
    async fn begin(&self) -> StoreResult<Tx> {
        Ok(self.pool.begin_with("BEGIN", "").await?)
    }

    /// Begins a transaction whose commit is not waited for: its loss in a crash is only a redelivery.
    async fn begin_lazy(&self) -> StoreResult<Tx> {
        Ok(self.pool.begin_with("BEGIN", "; SET LOCAL synchronous_commit = off").await?)
    }

    /// Begins a lazily committed transaction for one acquire, with two advisory locks: an exclusive one, so that no
    /// other acquire of the session with this acquire_no runs beside it, and a shared one, by which a pause waits for
    /// all acquires of the session. The session's row does not serve for these locks, because heartbeats must get
    /// through.
    async fn begin_acquire(&self, request: &Acquire) -> StoreResult<Tx> {
        let (plans, session) = (self.pool.one_plan(), session_lock_key(request.session_id));
        // Advisory locks of two numbers are a space of their own. Those of two sessions may collide; then an acquire
        // waits without need.
        let (half, acquire_no) = (session as i32, request.acquire_no as i32);
        let then = format!(
            "; SELECT set_config('synchronous_commit', 'off', true){plans}, pg_advisory_xact_lock_shared({session}), \
             pg_advisory_xact_lock({half}, {acquire_no})"
        );
        Ok(self.pool.begin_with("BEGIN", &then).await?)
    }

    /// Begins a lazily committed transaction for several acquires, which `acquire::lock` locks afterwards.
    async fn begin_acquires(&self) -> StoreResult<Tx> {
        let plans = self.pool.one_plan();
        let then = format!("; SELECT set_config('synchronous_commit', 'off', true){plans}");
        Ok(self.pool.begin_with("BEGIN", &then).await?)
    }
}

/// Lowest and highest of `ids`: with this range PostgreSQL knows which partitions to read.
fn id_range(ids: &[Uuid]) -> (Uuid, Uuid) {
    (ids.iter().min().copied().unwrap_or_default(), ids.iter().max().copied().unwrap_or_default())
}

/// Key of the advisory lock that a session's acquires share.
fn session_lock_key(session_id: Uuid) -> i64 {
    session_id.as_u64_pair().0.cast_signed()
}

impl Drop for PostgresStore {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

#[async_trait]
impl OperationStore for PostgresStore {
    async fn start_operation(&self, new: &NewOperation) -> StoreResult<OperationStarted> {
        operations::start(self, new).await
    }

    async fn operation(&self, id: Uuid) -> StoreResult<Option<(OperationRecord, Vec<Refusal>)>> {
        operations::operation(self, id).await
    }

    async fn operations(&self, before: Option<Uuid>, limit: u32) -> StoreResult<Vec<OperationRecord>> {
        operations::operations(self, before, limit).await
    }

    async fn move_operation(
        &self,
        id: Uuid,
        from: &[OperationState],
        to: OperationState,
        note: &str,
    ) -> StoreResult<Option<(bool, OperationRecord)>> {
        operations::move_operation(self, id, from, to, note).await
    }

    async fn claim_operation(&self, token: Uuid, lease_ms: i64) -> StoreResult<Option<ClaimedOperation>> {
        operations::claim(self, token, lease_ms).await
    }

    async fn step_operation(&self, step: &Step) -> StoreResult<StepAnswer> {
        operations::step(self, step).await
    }

    async fn operation_outcomes(&self, id: Uuid, canary: bool) -> StoreResult<Outcomes> {
        operations::outcomes(self, id, canary).await
    }
}

#[async_trait]
impl Store for PostgresStore {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn insert(&self, units: &[Unit], offers: &[HandOff]) -> StoreResult<Inserted> {
        insert_units(self, units, offers).await
    }

    async fn acquire_all(&self, requests: &[Acquire]) -> StoreResult<Vec<Option<Acquired>>> {
        acquire::acquire(self, requests).await
    }

    async fn settle(&self, items: &[Settlement]) -> StoreResult<Vec<SettleAnswer>> {
        settle::settle(self, items).await
    }

    async fn report_progress(&self, report: &ProgressReport) -> StoreResult<bool> {
        progress::report_progress(self, report).await
    }

    async fn register(&self, session: &NewSession) -> StoreResult<Registration> {
        register::register(self, session).await
    }

    async fn heartbeat(&self, beats: &[Heartbeat]) -> StoreResult<Vec<Option<HeartbeatAnswer>>> {
        heartbeat::heartbeat(self, beats).await
    }

    async fn end_session(&self, session_id: Uuid) -> StoreResult<Option<String>> {
        end::end_session(self, session_id).await
    }

    async fn stops(&self, session_id: Uuid) -> StoreResult<Vec<Stopped>> {
        heartbeat::stops(self, session_id).await
    }

    async fn cancel(&self, ids: &[Uuid], reason: &str) -> StoreResult<Vec<ActionAnswer>> {
        operator_actions::cancel(self, ids, reason).await
    }

    async fn retry(&self, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>> {
        operator_actions::retry(self, ids).await
    }

    async fn delete(&self, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>> {
        operator_actions::delete(self, ids).await
    }

    async fn pause(&self, worker_id: &str, reason: &str) -> StoreResult<()> {
        pause::pause(self, worker_id, reason).await
    }

    async fn resume(&self, worker_id: &str) -> StoreResult<()> {
        pause::resume(self, worker_id).await
    }

    async fn runnable(&self, worker_ids: &[String]) -> StoreResult<Vec<String>> {
        acquire::runnable(self, worker_ids).await
    }

    async fn note_heard(&self) -> StoreResult<i64> {
        outage::note_heard(self).await
    }

    async fn rescue(&self, limit: u32) -> StoreResult<Rescued> {
        rescue::rescue(self, limit).await
    }

    async fn maintain(&self, retention: &Retention) -> StoreResult<u64> {
        partitions::maintain(self, retention).await
    }

    async fn prune(&self, retention: &Retention, limit: u32) -> StoreResult<u64> {
        prune::prune(self, retention, limit).await
    }

    async fn compact_counters(&self, limit: u32) -> StoreResult<u64> {
        counter_compaction::compact_counters(self, limit).await
    }

    async fn fold_errors(&self, limit: u32) -> StoreResult<u64> {
        error_groups::fold::fold_errors(self, limit).await
    }

    async fn error_groups(&self, query: &ErrorGroupQuery) -> StoreResult<ErrorGroupPage> {
        error_groups::list::error_groups(self, query).await
    }

    async fn error_group(&self, id: ErrorGroupId, window: ErrorWindow) -> StoreResult<Option<ErrorGroupDetails>> {
        error_groups::details::error_group(self, id, window).await
    }

    async fn update_error_group(&self, id: ErrorGroupId, change: &ErrorGroupChange) -> StoreResult<bool> {
        error_groups::update::update(self, id, change).await
    }

    async fn get(&self, ids: &[Uuid]) -> StoreResult<Vec<Option<JobRecord>>> {
        read::get(self, ids, jobqueue_store::View::Full).await
    }

    async fn attempts(&self, job_id: Uuid) -> StoreResult<Vec<AttemptRecord>> {
        read::attempts(self, job_id).await
    }

    async fn copies(&self, origin: Uuid, limit: u32) -> StoreResult<Vec<JobRecord>> {
        read::copies(self, origin, limit).await
    }

    async fn history(&self, job_id: Uuid) -> StoreResult<Option<History>> {
        read::history(self, job_id).await
    }

    async fn explain_inputs(&self, job: &JobRecord) -> StoreResult<ExplainInputs> {
        explain_inputs::explain_inputs(self, job).await
    }

    async fn list(&self, query: &ListQuery) -> StoreResult<Page> {
        page::list(self, query).await
    }

    async fn count(&self, filter: &JobFilter, by_state: bool) -> StoreResult<JobCounts> {
        page::count::count(self, filter, by_state).await
    }

    async fn counts(&self) -> StoreResult<Vec<WorkerIdCounts>> {
        counts::counts(self).await
    }

    async fn throughput(&self, worker_id: Option<&str>, from_minute: i64) -> StoreResult<Vec<MinuteCounts>> {
        counts::throughput(self, worker_id, from_minute).await
    }

    async fn throughputs(&self, worker_ids: &[String], from_minute: i64, step: u32) -> StoreResult<Vec<SlotCounts>> {
        counts::throughputs(self, worker_ids, from_minute, step).await
    }

    async fn sessions(&self, query: &SessionQuery) -> StoreResult<Vec<SessionRecord>> {
        observe::sessions::sessions(self, query).await
    }

    async fn session(&self, session_id: Uuid) -> StoreResult<Option<SessionDetails>> {
        observe::sessions::session(self, session_id).await
    }

    async fn now_ms(&self) -> StoreResult<i64> {
        self.now().await
    }

    async fn try_write(&self) -> StoreResult<()> {
        try_write::try_write(self).await
    }

    async fn housekeeping(&self) -> StoreResult<()> {
        // PostgreSQL keeps the time and its log by itself.
        Ok(())
    }

    async fn pruning_time(&self) -> StoreResult<PruningTime> {
        prune::pruning_time(self).await
    }

    async fn confirm_time(&self, now_ms: i64) -> StoreResult<()> {
        prune::confirm_time(self, now_ms).await
    }

    fn notifications(&self) -> Option<broadcast::Receiver<Notification>> {
        Some(self.notifications.subscribe())
    }

    async fn announce(&self, hints: &[Notification]) -> StoreResult<()> {
        notify::announce(self, hints).await
    }

    async fn audit(&self) -> StoreResult<Vec<String>> {
        audit::audit(self).await
    }

    async fn close(&self) {
        for task in &self.tasks {
            task.abort();
        }
        self.pool.close().await;
    }
}
