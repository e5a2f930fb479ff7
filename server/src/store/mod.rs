//! Where jobs are kept: one trait, two drivers.
//!
//! A job is written once; where it stands is told by the one table that holds its id: `ready` (pending), an open
//! place of `claims` (running), `done`, `dead_letters` (failed) or `cancelled`. Every method is one atomic
//! transition over a batch. What a transition decides is in `plan`, which both drivers share: their SQL only
//! finds, locks and writes.

mod audit;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench;
mod broken;
mod clock;
mod codes;
mod connect;
mod days;
mod error;
mod facts;
mod hand_over;
mod leaving;
pub mod listening;
pub mod measured;
mod moving;
mod page;
mod places;
mod plan;
mod postgres;
mod prepare;
mod retention;
mod rows;
mod settle_group;
mod sqlite;
mod survey;
pub mod types;
mod writes;

use async_trait::async_trait;
pub use connect::{ConnectOptions, Pooler, SchemaName, backup, connect, set_clock_back};
pub use error::{StoreError, StoreResult};
pub use places::PLACES_PER_CLAIM;
pub use settle_group::settle_group;
use tokio::sync::broadcast;
pub use types::*;
use uuid::Uuid;

#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// "sqlite" or "postgres".
    fn name(&self) -> &'static str;

    /// Stores units, each all or nothing and none at its neighbours' cost; one answer a unit, in order.
    /// Afterwards every new job is pending and counted, and its key, if any, names it. But new jobs of an offer that is
    /// taken are leased to its session, as by an acquire under its number, which gives them again. An offer is not taken
    /// if such an acquire would give nothing, or has been made; it can also be passed over for other reasons.
    async fn insert(&self, units: &[Unit], offers: &[Offer]) -> StoreResult<Inserted>;

    /// Leases runnable jobs to sessions, to each of its worker_id: by priority, then `run_at`, then id; one answer a
    /// request, in order. The same `acquire_no` again gives what is still open of the first answer. `None`: the others
    /// would have to wait for it, or it is no plain case; it is to ask by itself. An error is one of all: whose it is
    /// shows when each asks by itself.
    async fn acquire_all(&self, requests: &[Acquire]) -> StoreResult<Vec<Option<Acquired>>>;

    /// The same for one, which is always answered.
    async fn acquire(&self, request: &Acquire) -> StoreResult<Acquired> {
        let answers = self.acquire_all(std::slice::from_ref(request)).await?;
        let answer = answers.into_iter().next().flatten();
        answer.ok_or_else(|| StoreError::Defect("an acquire was not answered".into()))
    }

    /// Ends attempts, each by itself; one answer an item, in order. An accepted one moved its job;
    /// a refused one changed nothing but the record of its refusal.
    async fn settle(&self, items: &[Settlement]) -> StoreResult<Vec<SettleAnswer>>;

    /// Keeps what a running attempt reports. False: the lease is not valid; that is recorded as settle does.
    async fn report_progress(&self, report: &ProgressReport) -> StoreResult<bool>;

    /// A new live session. Its predecessors, if any, have ended as lost, and what they held is pending again or
    /// follows by rescue; or nothing has changed, because one of them cannot be one.
    async fn register(&self, session: &NewSession) -> StoreResult<Registration>;

    /// Extends sessions by their lease times; one answer each, in order. `None`: ended or unknown, and never again.
    async fn heartbeat(&self, beats: &[Beat]) -> StoreResult<Vec<Option<Alive>>>;

    /// Ends a session that says goodbye: what it holds is pending again, uncharged; of very many jobs the rest
    /// follows by rescue. Answers the worker_id that has jobs back, or `None` when the session was unknown or had
    /// ended.
    async fn end_session(&self, session_id: Uuid) -> StoreResult<Option<String>>;

    /// Leases of a session that somebody else ended while it held them, as a heartbeat answers.
    async fn stops(&self, session_id: Uuid) -> StoreResult<Vec<Stopped>>;

    /// Pending and running jobs become cancelled; a running one's session is told to stop it.
    async fn cancel(&self, ids: &[Uuid], reason: &str) -> StoreResult<Vec<Moved>>;

    /// Failed and cancelled jobs become pending with no attempt used.
    async fn retry(&self, ids: &[Uuid]) -> StoreResult<Vec<Moved>>;

    /// Finished jobs are gone, with all that is known of them.
    async fn delete(&self, ids: &[Uuid]) -> StoreResult<Vec<Moved>>;

    /// Once this has answered, no job of this worker_id is handed out. Pausing again changes the reason.
    async fn pause(&self, worker_id: &str, reason: &str) -> StoreResult<()>;

    /// Its jobs are handed out again.
    async fn resume(&self, worker_id: &str) -> StoreResult<()>;

    /// Those of these worker_ids that have a job that can run now and are not paused.
    async fn runnable(&self, worker_ids: &[String]) -> StoreResult<Vec<String>>;

    /// Notes that sessions are heard now. After an outage of all servers the sessions that were live when it began have
    /// their leases extended by its length, to a whole lease from now at most. Answers that length in milliseconds, or
    /// 0. To be called at the start, every `LISTEN_EVERY`, and before each rescue.
    async fn listen(&self) -> StoreResult<i64>;

    /// Takes back what sessions lost whose lease ran out, and attempts past their timeout; about `limit` jobs at once.
    async fn rescue(&self, limit: u32) -> StoreResult<Rescued>;

    /// Makes room for jobs to come, and for those that go, where that is not done row by row: on PostgreSQL, days of
    /// jobs are there ahead of time, and a day all of whose done jobs have had their time is gone as a whole, but for
    /// the jobs that are kept. Answers how many days went. What others use is left to the next turn.
    async fn maintain(&self, retention: &Retention) -> StoreResult<u64>;

    /// Removes up to `limit` of each kind of what is older than its retention.
    async fn prune(&self, retention: &Retention, limit: u32) -> StoreResult<u64>;

    /// Adds up to `limit` counter deltas to the totals. Readers see the same sums before and after.
    async fn fold(&self, limit: u32) -> StoreResult<u64>;

    /// Each job and its state, read at one moment; in the order asked for, `None` where there is none.
    async fn get(&self, ids: &[Uuid]) -> StoreResult<Vec<Option<JobRecord>>>;

    /// What happened to a job besides success, newest first.
    async fn attempts(&self, job_id: Uuid) -> StoreResult<Vec<AttemptRecord>>;

    /// What is kept of a job and what happened to it, read at one moment.
    async fn history(&self, job_id: Uuid) -> StoreResult<Option<History>>;

    /// What the start of this pending job depends on. Reads no more at ten million jobs than at ten.
    async fn surroundings(&self, job: &JobRecord) -> StoreResult<Surroundings>;

    async fn list(&self, query: &ListQuery) -> StoreResult<Page>;

    /// By worker_id, in its order; exact as of one moment.
    async fn counts(&self) -> StoreResult<Vec<WorkerIdCounts>>;

    /// Minutes since 1970 from `from_minute` on that had events, oldest first.
    async fn throughput(&self, worker_id: Option<&str>, from_minute: i64) -> StoreResult<Vec<MinuteCounts>>;

    /// Live sessions first, then those ended within a day, newest first; a page of so many and of about
    /// `limits::REPLY_BYTES`, at least one.
    async fn sessions(&self, query: &SessionQuery) -> StoreResult<Vec<SessionRecord>>;

    /// One session with the first jobs that it holds, or held when it ended; at most `limits::HELD_SHOWN`.
    async fn session(&self, session_id: Uuid) -> StoreResult<Option<SessionDetails>>;

    /// The database's clock, in milliseconds since 1970; also tells that it answers.
    async fn now_ms(&self) -> StoreResult<i64>;

    /// Writes something that takes room and changes nothing; fails as any write would that came now.
    async fn try_write(&self) -> StoreResult<()>;

    /// Does the driver's own upkeep, every second: `SQLite` follows the wall clock and keeps its log small.
    async fn upkeep(&self) -> StoreResult<()>;

    /// The database's time, and until when it is known to be right as far as pruning is concerned.
    async fn pruning_time(&self) -> StoreResult<PruningTime>;

    /// `now_ms` is right.
    async fn confirm_time(&self, now_ms: i64) -> StoreResult<()>;

    /// What other servers announce. `None` where no other server can be.
    fn wakes(&self) -> Option<broadcast::Receiver<Hint>>;

    /// Tells other servers.
    async fn announce(&self, hints: &[Hint]) -> StoreResult<()>;

    /// Every place where the stored data contradicts itself: a job in no state or in two, a count that is off.
    /// Scans everything; for tests and `jobqueue-server check`.
    async fn audit(&self) -> StoreResult<Vec<String>>;

    /// Waits for what is under way and closes every connection.
    async fn close(&self);
}
