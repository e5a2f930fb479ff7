//! SQLite store, embedded: one process owns the file, and one connection writes.
//!
//! A group of calls writes in one BEGIN IMMEDIATE transaction, so that no write waits for another's locks, and groups
//! that wait for the connection share one (`connect/writer.rs`). Readers have connections of their own and see the last
//! commit. Where a statement differs from its counterpart for PostgreSQL, its
//! comment gives the reason.

mod acquire;
mod connect;
mod deltas;
mod error_groups;
mod insert;
mod observe;
mod operate;
mod retain;
mod sessions;
mod settle;

use async_trait::async_trait;
use connect::{time, try_write, wal};
use jobqueue_store::{
    OperationStore, Store,
    clock::{Clock, wall_ms},
    error::{StoreError, StoreResult},
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
use retain::prune;
use sessions::{end, heartbeat, outage, progress, register};
use sqlx::{Connection as _, Sqlite, SqliteConnection, SqlitePool, Transaction, sqlite::SqliteConnectOptions};
use tokio::sync::{OwnedMappedMutexGuard, broadcast};
use uuid::Uuid;

pub use crate::connect::backup;
use crate::connect::{
    file::OwnedFile,
    writer::{Share, State, Writer},
};

/// The connection that writes, in a transaction.
type Tx = SqliteConnection;

pub struct SqliteStore {
    writer: Writer,
    /// Options with which connections are opened.
    options: SqliteConnectOptions,
    readers: SqlitePool,
    clock: Clock,
    /// Damaged rows, which rescue leaves out.
    quarantine: Quarantine,
    /// Time up to which sessions were heard; `None` until it was read from the file.
    heard_until: Mutex<Option<outage::HeardUntil>>,
    /// Id of the last job whose idempotency key the pruner has examined; its next run starts after it.
    key_cursor: Mutex<Uuid>,
    /// Database file, locked as long as this process owns the database. Dropped after the connections.
    file: Mutex<Option<OwnedFile>>,
}

impl SqliteStore {
    /// The connection that writes, for a transaction of the call's own.
    async fn writer(&self) -> StoreResult<OwnedMappedMutexGuard<State, SqliteConnection>> {
        self.writer.alone(|| self.verify()).await
    }

    /// The connection that writes, in a transaction that calls share.
    async fn share(&self) -> StoreResult<Share<'_>> {
        self.writer.share(|| self.verify()).await
    }

    /// Passes a result on only while the files are those that the path names: a commit into a file that was removed
    /// meanwhile is lost, and a connection made meanwhile reads another file.
    fn kept<T>(&self, result: StoreResult<T>) -> StoreResult<T> {
        let result = result?;
        self.verify()?;
        Ok(result)
    }

    fn verify(&self) -> StoreResult<()> {
        self.with_file(OwnedFile::verify)?
    }

    fn with_file<T>(&self, ask: impl FnOnce(&OwnedFile) -> T) -> StoreResult<T> {
        let file = self.file.lock();
        file.as_ref().map(ask).ok_or_else(|| StoreError::Unavailable("the database is closed".into()))
    }
}

/// Begins a transaction and takes the write lock at once: a write lock that is asked for later, after a read, is
/// refused without waiting.
async fn begin(writer: &mut SqliteConnection) -> StoreResult<Transaction<'_, Sqlite>> {
    Ok(writer.begin_with("BEGIN IMMEDIATE").await?)
}

/// Maximum number of rows in one statement: their parameters stay well under SQLite's limit of 32,766.
const ROWS: usize = 64;

/// Splits rows into those of one statement each: [`ROWS`] rows and, for the remainder, powers of two. So there are few
/// different statements, and each is prepared once.
fn batches<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    std::iter::from_fn(move || {
        let size = ROWS.min(1 << rows.len().checked_ilog2()?);
        let (batch, rest) = rows.split_at(size);
        rows = rest;
        Some(batch)
    })
}

/// Encodes ids as one parameter, for `IN (SELECT unhex(value) FROM json_each(?))`.
fn id_list(ids: &[Uuid]) -> String {
    pair_list(ids.iter().map(|id| [*id]))
}

/// Encodes tuples of ids as one parameter: a JSON array of strings, with 32 characters for each id.
fn pair_list<const N: usize>(rows: impl IntoIterator<Item = [Uuid; N]>) -> String {
    let mut json = String::from("[");
    for row in rows {
        json.push_str(if json.len() == 1 { "\"" } else { ",\"" });
        for id in row {
            json.push_str(id.simple().encode_lower(&mut Uuid::encode_buffer()));
        }
        json.push('"');
    }
    json.push(']');
    json
}

#[async_trait]
impl OperationStore for SqliteStore {
    async fn start_operation(&self, new: &NewOperation) -> StoreResult<OperationStarted> {
        self.kept(operations::start(self, new).await)
    }

    async fn operation(&self, id: Uuid) -> StoreResult<Option<(OperationRecord, Vec<Refusal>)>> {
        self.kept(operations::operation(self, id).await)
    }

    async fn operations(&self, before: Option<Uuid>, limit: u32) -> StoreResult<Vec<OperationRecord>> {
        self.kept(operations::operations(self, before, limit).await)
    }

    async fn move_operation(
        &self,
        id: Uuid,
        from: &[OperationState],
        to: OperationState,
        note: &str,
    ) -> StoreResult<Option<(bool, OperationRecord)>> {
        self.kept(operations::move_operation(self, id, from, to, note).await)
    }

    async fn claim_operation(&self, token: Uuid, lease_ms: i64) -> StoreResult<Option<ClaimedOperation>> {
        self.kept(operations::claim(self, token, lease_ms).await)
    }

    async fn step_operation(&self, step: &Step) -> StoreResult<StepAnswer> {
        self.kept(operations::step(self, step).await)
    }

    async fn operation_outcomes(&self, id: Uuid, canary: bool) -> StoreResult<Outcomes> {
        self.kept(operations::outcomes(self, id, canary).await)
    }
}

#[async_trait]
impl Store for SqliteStore {
    fn name(&self) -> &'static str {
        "sqlite"
    }

    async fn insert(&self, units: &[Unit], offers: &[HandOff]) -> StoreResult<Inserted> {
        self.kept(insert_units(self, units, offers).await)
    }

    async fn acquire_all(&self, requests: &[Acquire]) -> StoreResult<Vec<Option<Acquired>>> {
        self.kept(acquire::acquire(self, requests).await)
    }

    async fn settle(&self, items: &[Settlement]) -> StoreResult<Vec<SettleAnswer>> {
        self.kept(settle::settle(self, items).await)
    }

    async fn report_progress(&self, report: &ProgressReport) -> StoreResult<bool> {
        self.kept(progress::report_progress(self, report).await)
    }

    async fn register(&self, session: &NewSession) -> StoreResult<Registration> {
        self.kept(register::register(self, session).await)
    }

    async fn heartbeat(&self, beats: &[Heartbeat]) -> StoreResult<Vec<Option<HeartbeatAnswer>>> {
        self.kept(heartbeat::heartbeat(self, beats).await)
    }

    async fn end_session(&self, session_id: Uuid) -> StoreResult<Option<String>> {
        self.kept(end::end_session(self, session_id).await)
    }

    async fn stops(&self, session_id: Uuid) -> StoreResult<Vec<Stopped>> {
        self.kept(heartbeat::stops(self, session_id).await)
    }

    async fn cancel(&self, ids: &[Uuid], reason: &str) -> StoreResult<Vec<ActionAnswer>> {
        self.kept(operator_actions::cancel(self, ids, reason).await)
    }

    async fn retry(&self, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>> {
        self.kept(operator_actions::retry(self, ids).await)
    }

    async fn delete(&self, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>> {
        self.kept(operator_actions::delete(self, ids).await)
    }

    async fn pause(&self, worker_id: &str, reason: &str) -> StoreResult<()> {
        self.kept(pause::pause(self, worker_id, reason).await)
    }

    async fn resume(&self, worker_id: &str) -> StoreResult<()> {
        self.kept(pause::resume(self, worker_id).await)
    }

    async fn runnable(&self, worker_ids: &[String]) -> StoreResult<Vec<String>> {
        self.kept(acquire::runnable(self, worker_ids).await)
    }

    async fn note_heard(&self) -> StoreResult<i64> {
        self.kept(outage::note_heard(self).await)
    }

    async fn rescue(&self, limit: u32) -> StoreResult<Rescued> {
        self.kept(rescue::rescue(self, limit).await)
    }

    async fn maintain(&self, retention: &Retention) -> StoreResult<u64> {
        // SQLite has no partitions: all jobs are pruned row by row.
        let _ = retention;
        Ok(0)
    }

    async fn prune(&self, retention: &Retention, limit: u32) -> StoreResult<u64> {
        self.kept(prune::prune(self, retention, limit).await)
    }

    async fn compact_counters(&self, limit: u32) -> StoreResult<u64> {
        // Counters are updated in place.
        let _ = limit;
        Ok(0)
    }

    async fn fold_errors(&self, limit: u32) -> StoreResult<u64> {
        // Groups are updated in place.
        let _ = limit;
        Ok(0)
    }

    async fn error_groups(&self, query: &ErrorGroupQuery) -> StoreResult<ErrorGroupPage> {
        self.kept(error_groups::list::error_groups(self, query).await)
    }

    async fn error_group(&self, id: ErrorGroupId, window: ErrorWindow) -> StoreResult<Option<ErrorGroupDetails>> {
        self.kept(error_groups::details::error_group(self, id, window).await)
    }

    async fn update_error_group(&self, id: ErrorGroupId, change: &ErrorGroupChange) -> StoreResult<bool> {
        self.kept(error_groups::update::update(self, id, change).await)
    }

    async fn get(&self, ids: &[Uuid]) -> StoreResult<Vec<Option<JobRecord>>> {
        self.kept(read::get(self, ids, jobqueue_store::View::Full).await)
    }

    async fn attempts(&self, job_id: Uuid) -> StoreResult<Vec<AttemptRecord>> {
        self.kept(read::attempts(self, job_id).await)
    }

    async fn copies(&self, origin: Uuid, limit: u32) -> StoreResult<Vec<JobRecord>> {
        self.kept(read::copies(self, origin, limit).await)
    }

    async fn history(&self, job_id: Uuid) -> StoreResult<Option<History>> {
        self.kept(read::history(self, job_id).await)
    }

    async fn explain_inputs(&self, job: &JobRecord) -> StoreResult<ExplainInputs> {
        self.kept(explain_inputs::explain_inputs(self, job).await)
    }

    async fn list(&self, query: &ListQuery) -> StoreResult<Page> {
        self.kept(page::list(self, query).await)
    }

    async fn count(&self, filter: &JobFilter, by_state: bool) -> StoreResult<JobCounts> {
        self.kept(page::count::count(self, filter, by_state).await)
    }

    async fn counts(&self) -> StoreResult<Vec<WorkerIdCounts>> {
        self.kept(counts::counts(self).await)
    }

    async fn throughput(&self, worker_id: Option<&str>, from_minute: i64) -> StoreResult<Vec<MinuteCounts>> {
        self.kept(counts::throughput(self, worker_id, from_minute).await)
    }

    async fn throughputs(&self, worker_ids: &[String], from_minute: i64, step: u32) -> StoreResult<Vec<SlotCounts>> {
        self.kept(counts::throughputs(self, worker_ids, from_minute, step).await)
    }

    async fn sessions(&self, query: &SessionQuery) -> StoreResult<Vec<SessionRecord>> {
        self.kept(observe::sessions::sessions(self, query).await)
    }

    async fn session(&self, session_id: Uuid) -> StoreResult<Option<SessionDetails>> {
        self.kept(observe::sessions::session(self, session_id).await)
    }

    async fn now_ms(&self) -> StoreResult<i64> {
        // A full or failing disk, or another process, would deny the write lock.
        let mut writer = self.writer().await?;
        begin(&mut writer).await?.rollback().await?;
        self.kept(Ok(self.clock.now_ms()))
    }

    async fn try_write(&self) -> StoreResult<()> {
        self.kept(Ok(()))?;
        try_write::try_write(self).await
    }

    async fn housekeeping(&self) -> StoreResult<()> {
        let followed = time::follow(self, wall_ms()).await;
        let shrunk = wal::shrink(self).await;
        self.kept(followed.and(shrunk))
    }

    async fn pruning_time(&self) -> StoreResult<PruningTime> {
        self.kept(prune::pruning_time(self).await)
    }

    async fn confirm_time(&self, now_ms: i64) -> StoreResult<()> {
        self.kept(prune::confirm_time(self, now_ms).await)
    }

    fn notifications(&self) -> Option<broadcast::Receiver<Notification>> {
        None
    }

    async fn announce(&self, _hints: &[Notification]) -> StoreResult<()> {
        Ok(())
    }

    async fn audit(&self) -> StoreResult<Vec<String>> {
        audit::audit(self).await
    }

    async fn close(&self) {
        self.readers.close().await;
        let Some(writer) = self.writer.close().await else { return };
        if self.verify().is_err() {
            // Closing the last connection removes the log by its name, and the file of that name may be another
            // database's now.
            std::mem::forget(writer);
        } else if let Err(error) = writer.close().await {
            tracing::warn!(%error, "the database was not closed cleanly; its log is replayed at the next start");
        }
        drop(self.file.lock().take());
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use jobqueue_store::{ConnectOptions, NewJob, Start};

    fn unit() -> Unit {
        let job = NewJob {
            worker_id: "w".into(),
            task: String::new(),
            priority: 5,
            start: Start::Now,
            payload: format!("\"{}\"", "x".repeat(200_000)),
            max_retries: 3,
            retry: None,
            attempt_timeout_ms: None,
            key: None,
            origin: None,
        };
        Unit { jobs: vec![job] }
    }

    #[tokio::test]
    async fn writing_goes_on_after_a_full_disk() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/jobs.db", folder.path().display());
        let store = SqliteStore::connect(&ConnectOptions::new(url)).await.unwrap();
        {
            // SQLite treats this limit, which is the connection's own, as a full disk.
            let mut writer = store.writer().await.unwrap();
            sqlx::query("PRAGMA max_page_count = 200").execute(&mut *writer).await.unwrap();
        }
        let mut stored = 0;
        let error = loop {
            match store.insert(&[unit()], &[]).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(error, StoreError::Full(_)), "{error}");
        assert!(stored > 0);
        for _ in 0..2 {
            store.insert(&[unit()], &[]).await.unwrap();
            stored += 1;
        }
        assert_eq!(store.counts().await.unwrap()[0].pending, stored);
        assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
        store.close().await;
    }

    proptest! {
        #[test]
        fn batches_are_all_rows_in_order_in_few_sizes(rows in prop::collection::vec(0_u16.., 0..500)) {
            let sizes: Vec<_> = batches(&rows).map(<[_]>::len).collect();
            prop_assert!(sizes.iter().all(|size| size.is_power_of_two() && *size <= ROWS));
            prop_assert!(sizes.iter().filter(|size| **size < ROWS).count() <= 6);
            prop_assert_eq!(batches(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        }
    }
}
