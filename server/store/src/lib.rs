//! Storage of jobs: one trait, two drivers.
//!
//! A job's row in `jobs` is written once. The job's state is the one table that holds its id: `ready` (pending), an
//! entry of `claims` (running), `done`, `dead_letters` (failed) or `cancelled`. Every method that writes is one atomic
//! transition over a batch. Both drivers share the decisions, such as [`settle::decision`]: their SQL only finds, locks
//! and writes.

pub mod audit;
pub mod clock;
pub mod error;
pub mod error_groups;
pub mod failpoint;
pub mod insert_units;
pub mod instrumented;
pub mod leases;
pub mod operations;
pub mod operator_actions;
pub mod options;
pub mod page;
pub mod prepare;
pub mod quarantine;
pub mod retention;
pub mod rows;
pub mod sessions;
pub mod settle;
pub mod types;

use async_trait::async_trait;
use tokio::sync::broadcast;
use uuid::Uuid;

pub use crate::error::{StoreError, StoreResult};
pub use crate::operations::OperationStore;
pub use crate::options::{ConnectOptions, Pooler, SchemaName};
pub use crate::rows::packed_claim::ENTRIES_PER_CLAIM;
pub use crate::settle::group::settle_group;
pub use crate::types::*;

#[async_trait]
pub trait Store: OperationStore {
    /// "sqlite" or "postgres".
    fn name(&self) -> &'static str;

    /// Stores units, each completely or not at all, independently of each other; one answer for each unit, in order.
    /// Afterwards every new job is pending and counted, and its idempotency key, if any, names it.
    ///
    /// `offers` are direct hand-offs: their new jobs are leased to a session under the `acquire_no` of its parked poll, and
    /// repeating that acquire returns them again. A hand-off is skipped, and its jobs are pending, if the number was
    /// used already, if the session may take nothing, or if the driver would have to wait for another transaction.
    async fn insert(&self, units: &[Unit], offers: &[HandOff]) -> StoreResult<Inserted>;

    /// Leases runnable jobs to sessions, to each those of its worker_id: by priority, then `run_at`, then id; one
    /// answer for each request, in order. Repeating an `acquire_no` returns the jobs of the first answer that are not
    /// settled. `None`: the caller has to repeat this request alone, because it would delay the others. An error may be
    /// caused by one of the requests; the caller repeats each alone.
    async fn acquire_all(&self, requests: &[Acquire]) -> StoreResult<Vec<Option<Acquired>>>;

    /// Leases jobs for one request, which always gets an answer.
    async fn acquire(&self, request: &Acquire) -> StoreResult<Acquired> {
        let answers = self.acquire_all(std::slice::from_ref(request)).await?;
        let answer = answers.into_iter().next().flatten();
        answer.ok_or_else(|| StoreError::Defect("an acquire was not answered".into()))
    }

    /// Ends attempts, independently of each other; one answer for each item, in order. An accepted item has moved its
    /// job; a refused one has changed nothing, except that the refusal is recorded in the job's history.
    async fn settle(&self, items: &[Settlement]) -> StoreResult<Vec<SettleAnswer>>;

    /// Stores a progress report of a running attempt. False: the lease is not valid, and the refusal was recorded.
    async fn report_progress(&self, report: &ProgressReport) -> StoreResult<bool>;

    /// Creates a live session. Its predecessors, if any, end as lost; their jobs are pending again, at once or by the
    /// next rescue. If one of them cannot be a predecessor, nothing is changed.
    async fn register(&self, session: &NewSession) -> StoreResult<Registration>;

    /// Extends sessions by their lease times; one answer for each, in order. `None`: the session is unknown or has
    /// ended, and cannot be revived.
    async fn heartbeat(&self, beats: &[Heartbeat]) -> StoreResult<Vec<Option<HeartbeatAnswer>>>;

    /// Ends a session at its worker's request: its jobs are pending again, with no attempt charged; if there are very
    /// many, rescue takes back the rest. Returns the session's worker_id, or `None` if the session was unknown or had
    /// ended.
    async fn end_session(&self, session_id: Uuid) -> StoreResult<Option<String>>;

    /// Reads the leases of a session that others ended while it held them, as a heartbeat returns them.
    async fn stops(&self, session_id: Uuid) -> StoreResult<Vec<Stopped>>;

    /// Cancels pending and running jobs; the session of a running job gets a lease to stop.
    async fn cancel(&self, ids: &[Uuid], reason: &str) -> StoreResult<Vec<ActionAnswer>>;

    /// Makes failed and cancelled jobs pending, with no attempt used.
    async fn retry(&self, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>>;

    /// Deletes finished jobs, with everything that is stored about them.
    async fn delete(&self, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>>;

    /// Pauses a worker_id: after the call has returned, none of its jobs is leased. Pausing it again replaces the
    /// reason.
    async fn pause(&self, worker_id: &str, reason: &str) -> StoreResult<()>;

    /// Resumes a paused worker_id.
    async fn resume(&self, worker_id: &str) -> StoreResult<()>;

    /// Filters worker_ids to those that are not paused and have a runnable job.
    async fn runnable(&self, worker_ids: &[String]) -> StoreResult<Vec<String>>;

    /// Records that this server receives heartbeats now. After an outage of all servers, the leases that were live when
    /// it began are extended by its length, up to a whole lease from now. Returns that length in milliseconds, or 0. To
    /// be called at the start, every `NOTE_EVERY`, and before each rescue.
    async fn note_heard(&self) -> StoreResult<i64>;

    /// Ends sessions whose lease ran out and attempts past their timeout; about `limit` jobs in one call.
    async fn rescue(&self, limit: u32) -> StoreResult<Rescued>;

    /// Maintains storage that is created and dropped as a whole: on PostgreSQL, creates daily partitions of `jobs`
    /// ahead of time, and drops a day after the retention of its last done job; the jobs of it that are kept move
    /// elsewhere. Returns the number of days dropped. A partition that others use is left to the next call.
    async fn maintain(&self, retention: &Retention) -> StoreResult<u64>;

    /// Deletes rows that are older than their retention, up to `limit` of each kind. Returns their number.
    async fn prune(&self, retention: &Retention, limit: u32) -> StoreResult<u64>;

    /// Compacts up to `limit` counter deltas into the totals. Readers see the same sums before and after.
    async fn compact_counters(&self, limit: u32) -> StoreResult<u64>;

    /// Adds up to `limit` changes of error groups to the groups' rows. Readers see the same sums before and after.
    async fn fold_errors(&self, limit: u32) -> StoreResult<u64>;

    /// Reads jobs with their states, on one snapshot; in the order of `ids`, `None` where there is no such job.
    async fn get(&self, ids: &[Uuid]) -> StoreResult<Vec<Option<JobRecord>>>;

    /// Reads the history of a job besides success, newest first.
    async fn attempts(&self, job_id: Uuid) -> StoreResult<Vec<AttemptRecord>>;

    /// Reads the jobs that are copies of `origin`, newest first, without payloads and results; at most `limit`.
    async fn copies(&self, origin: Uuid, limit: u32) -> StoreResult<Vec<JobRecord>>;

    /// Reads a job with its history, on one snapshot.
    async fn history(&self, job_id: Uuid) -> StoreResult<Option<History>>;

    /// Reads the inputs that explain why a pending job does not run. The cost does not depend on the number of jobs.
    async fn explain_inputs(&self, job: &JobRecord) -> StoreResult<ExplainInputs>;

    /// Reads a page of jobs.
    async fn list(&self, query: &ListQuery) -> StoreResult<Page>;

    /// Counts the jobs that pass a filter; with `by_state`, also those of each state that pass the rest of it. Exact
    /// where worker_ids and states alone decide; otherwise the count ends where a page of a filtered list would.
    async fn count(&self, filter: &JobFilter, by_state: bool) -> StoreResult<JobCounts>;

    /// Reads the counts of all worker_ids, on one snapshot, ordered by worker_id.
    async fn counts(&self) -> StoreResult<Vec<WorkerIdCounts>>;

    /// Reads the counts of the minutes from `from_minute` (since 1970) on that had events, oldest first.
    async fn throughput(&self, worker_id: Option<&str>, from_minute: i64) -> StoreResult<Vec<MinuteCounts>>;

    /// Reads the counts of each of these worker_ids in the slots that had events, from `from_minute` on, ordered by
    /// worker_id and time. A slot is `step` minutes long and begins at a multiple of it.
    async fn throughputs(&self, worker_ids: &[String], from_minute: i64, step: u32) -> StoreResult<Vec<SlotCounts>>;

    /// Reads a page of error groups, on one snapshot. Every failed attempt whose settlement was answered is counted.
    async fn error_groups(&self, query: &ErrorGroupQuery) -> StoreResult<ErrorGroupPage>;

    /// Reads an error group, on one snapshot.
    async fn error_group(&self, id: ErrorGroupId, window: ErrorWindow) -> StoreResult<Option<ErrorGroupDetails>>;

    /// Changes a person's decision about an error group, its note or its link. False: there is no such group.
    async fn update_error_group(&self, id: ErrorGroupId, change: &ErrorGroupChange) -> StoreResult<bool>;

    /// Reads a page of sessions: live ones first, then those that ended within a day, newest first. A page also ends at
    /// about `limits::REPLY_BYTES`, but has at least one session.
    async fn sessions(&self, query: &SessionQuery) -> StoreResult<Vec<SessionRecord>>;

    /// Reads a session with the first `limits::HELD_SHOWN` jobs that it holds, or held when it ended.
    async fn session(&self, session_id: Uuid) -> StoreResult<Option<SessionDetails>>;

    /// Reads the database's time, in milliseconds since 1970. Serves as the health check, too.
    async fn now_ms(&self) -> StoreResult<i64>;

    /// Writes data that takes room, without an effect; fails as any other write would now.
    async fn try_write(&self) -> StoreResult<()>;

    /// Runs the driver's own maintenance, every second: `SQLite` adjusts its clock to the wall clock and truncates its
    /// log.
    async fn housekeeping(&self) -> StoreResult<()>;

    /// Reads the database's time, and the last time that pruning found plausible.
    async fn pruning_time(&self) -> StoreResult<PruningTime>;

    /// Stores `now_ms` as the last time that pruning found plausible.
    async fn confirm_time(&self, now_ms: i64) -> StoreResult<()>;

    /// Notifications of other servers. `None` if no other server can use the database.
    fn notifications(&self) -> Option<broadcast::Receiver<Notification>>;

    /// Sends notifications to other servers.
    async fn announce(&self, hints: &[Notification]) -> StoreResult<()>;

    /// Finds contradictions in the stored data, such as a job in no state or in two, or a wrong count; one text for
    /// each. Scans everything; for tests and `jobqueue-server check`.
    async fn audit(&self) -> StoreResult<Vec<String>>;

    /// Waits for statements under way and closes every connection.
    async fn close(&self);
}
