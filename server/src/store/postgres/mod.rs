//! PostgreSQL 15+, for several servers on one database.
//!
//! Hot statements find rows by key or by `ctid`, never by a plan that hangs on statistics: the pool turns
//! sequential scans, bitmap scans and the JIT off. Jobs are looked up by id within the range of the ids, and in joins one by one
//! (LATERAL .. LIMIT 1), so that only the partitions concerned are read, whatever the statistics. Nobody waits for a stuck server:
//! statements, locks and idle transactions end.

mod acquire;
mod audit;
mod connection;
mod counts;
mod floor;
mod fold;
mod handlers;
mod held;
mod insert;
mod list;
mod moves;
mod offers;
mod open;
mod partitions;
mod pause;
mod pool;
mod read;
mod recent;
mod rescue;
mod seldom;
mod sessions;
mod settle;
mod surroundings;
mod take;
mod tls;
mod upkeep;
mod url;
mod wake;

use std::sync::Mutex;

use async_trait::async_trait;
use pool::{Pool, Tx};
use tokio::{sync::broadcast, task::JoinHandle};
use uuid::Uuid;

use super::{
    Store,
    broken::Broken,
    clock::Clock,
    error::StoreResult,
    types::{
        Acquire, Acquired, Alive, AttemptRecord, Beat, Hint, History, Inserted, JobRecord, ListQuery, MinuteCounts,
        Moved, NewSession, Offer, Page, ProgressReport, PruningTime, Registration, Rescued, Retention, SessionDetails,
        SessionQuery, SessionRecord, SettleAnswer, Settlement, Stopped, Surroundings, Unit, WorkerIdCounts,
    },
};

pub(super) struct PostgresStore {
    pool: Pool,
    clock: std::sync::Arc<Clock>,
    floors: std::sync::Arc<floor::Floors>,
    held: held::Held,
    wakes: broadcast::Sender<Hint>,
    channels: wake::Channels,
    /// Who tells others, so that it does not listen to itself.
    name: Uuid,
    /// What rescue leaves out.
    broken: Broken,
    /// Rescue's looks for claims of sessions that are gone.
    orphans: seldom::Seldom,
    folding: fold::Folding,
    /// Where the pruner of keys goes on.
    key_cursor: Mutex<Uuid>,
    /// Where the pruner of histories without a job goes on.
    attempts_cursor: Mutex<Uuid>,
    tasks: Vec<JoinHandle<()>>,
    /// What the connections lead through, where they need TLS.
    _relays: Vec<tls::Relay>,
}

impl PostgresStore {
    async fn now(&self) -> StoreResult<i64> {
        open::read_clock(&self.pool, &self.clock).await
    }

    /// A transaction whose commit is on disk before it is acknowledged.
    async fn begin(&self) -> StoreResult<Tx> {
        Ok(self.pool.begin_with("BEGIN", "").await?)
    }

    /// A transaction whose loss in a crash is only a redelivery.
    async fn begin_lazy(&self) -> StoreResult<Tx> {
        Ok(self.pool.begin_with("BEGIN", "; SET LOCAL synchronous_commit = off").await?)
    }

    /// The same for an acquire: no other under its number runs beside it, and a pause can wait for all of its session.
    /// Not by the session's row: heartbeats must get through.
    async fn begin_acquire(&self, request: &Acquire) -> StoreResult<Tx> {
        let (plans, session) = (self.pool.one_plan(), session_key(request.session_id));
        // Two numbers are a space of their own. Those of two sessions may meet, and one waits for nothing.
        let (half, acquire_no) = (session as i32, request.acquire_no as i32);
        let then = format!(
            "; SELECT set_config('synchronous_commit', 'off', true){plans}, pg_advisory_xact_lock_shared({session}), \
             pg_advisory_xact_lock({half}, {acquire_no})"
        );
        Ok(self.pool.begin_with("BEGIN", &then).await?)
    }

    /// For acquires that are locked together.
    async fn begin_acquires(&self) -> StoreResult<Tx> {
        let plans = self.pool.one_plan();
        let then = format!("; SELECT set_config('synchronous_commit', 'off', true){plans}");
        Ok(self.pool.begin_with("BEGIN", &then).await?)
    }
}

/// The lowest and the highest of ids: with them PostgreSQL knows which partitions to look into.
fn range(ids: &[Uuid]) -> (Uuid, Uuid) {
    (ids.iter().min().copied().unwrap_or_default(), ids.iter().max().copied().unwrap_or_default())
}

/// The advisory lock that a session's acquires share.
fn session_key(session_id: Uuid) -> i64 {
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
impl Store for PostgresStore {
    fn name(&self) -> &'static str {
        "postgres"
    }

    async fn insert(&self, units: &[Unit], offers: &[Offer]) -> StoreResult<Inserted> {
        insert::insert(self, units, offers).await
    }

    async fn acquire_all(&self, requests: &[Acquire]) -> StoreResult<Vec<Option<Acquired>>> {
        acquire::acquire(self, requests).await
    }

    async fn settle(&self, items: &[Settlement]) -> StoreResult<Vec<SettleAnswer>> {
        settle::settle(self, items).await
    }

    async fn report_progress(&self, report: &ProgressReport) -> StoreResult<bool> {
        sessions::report_progress(self, report).await
    }

    async fn register(&self, session: &NewSession) -> StoreResult<Registration> {
        sessions::register(self, session).await
    }

    async fn heartbeat(&self, beats: &[Beat]) -> StoreResult<Vec<Option<Alive>>> {
        sessions::heartbeat(self, beats).await
    }

    async fn end_session(&self, session_id: Uuid) -> StoreResult<Option<String>> {
        rescue::end_session(self, session_id).await
    }

    async fn stops(&self, session_id: Uuid) -> StoreResult<Vec<Stopped>> {
        sessions::stops(self, session_id).await
    }

    async fn cancel(&self, ids: &[Uuid], reason: &str) -> StoreResult<Vec<Moved>> {
        moves::cancel(self, ids, reason).await
    }

    async fn retry(&self, ids: &[Uuid]) -> StoreResult<Vec<Moved>> {
        moves::retry(self, ids).await
    }

    async fn delete(&self, ids: &[Uuid]) -> StoreResult<Vec<Moved>> {
        moves::delete(self, ids).await
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

    async fn listen(&self) -> StoreResult<i64> {
        sessions::listen(self).await
    }

    async fn rescue(&self, limit: u32) -> StoreResult<Rescued> {
        rescue::rescue(self, limit).await
    }

    async fn maintain(&self, retention: &Retention) -> StoreResult<u64> {
        partitions::maintain(self, retention).await
    }

    async fn prune(&self, retention: &Retention, limit: u32) -> StoreResult<u64> {
        upkeep::prune(self, retention, limit).await
    }

    async fn fold(&self, limit: u32) -> StoreResult<u64> {
        fold::fold(self, limit).await
    }

    async fn get(&self, ids: &[Uuid]) -> StoreResult<Vec<Option<JobRecord>>> {
        read::get(self, ids, crate::store::View::Full).await
    }

    async fn attempts(&self, job_id: Uuid) -> StoreResult<Vec<AttemptRecord>> {
        read::attempts(self, job_id).await
    }

    async fn history(&self, job_id: Uuid) -> StoreResult<Option<History>> {
        read::history(self, job_id).await
    }

    async fn surroundings(&self, job: &JobRecord) -> StoreResult<Surroundings> {
        surroundings::surroundings(self, job).await
    }

    async fn list(&self, query: &ListQuery) -> StoreResult<Page> {
        list::list(self, query).await
    }

    async fn counts(&self) -> StoreResult<Vec<WorkerIdCounts>> {
        counts::counts(self).await
    }

    async fn throughput(&self, worker_id: Option<&str>, from_minute: i64) -> StoreResult<Vec<MinuteCounts>> {
        counts::throughput(self, worker_id, from_minute).await
    }

    async fn sessions(&self, query: &SessionQuery) -> StoreResult<Vec<SessionRecord>> {
        sessions::sessions(self, query).await
    }

    async fn session(&self, session_id: Uuid) -> StoreResult<Option<SessionDetails>> {
        sessions::session(self, session_id).await
    }

    async fn now_ms(&self) -> StoreResult<i64> {
        self.now().await
    }

    async fn try_write(&self) -> StoreResult<()> {
        upkeep::try_write(self).await
    }

    async fn upkeep(&self) -> StoreResult<()> {
        // Its time is the database's, and its log, too.
        Ok(())
    }

    async fn pruning_time(&self) -> StoreResult<PruningTime> {
        upkeep::pruning_time(self).await
    }

    async fn confirm_time(&self, now_ms: i64) -> StoreResult<()> {
        upkeep::confirm_time(self, now_ms).await
    }

    fn wakes(&self) -> Option<broadcast::Receiver<Hint>> {
        Some(self.wakes.subscribe())
    }

    async fn announce(&self, hints: &[Hint]) -> StoreResult<()> {
        wake::announce(self, hints).await
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
