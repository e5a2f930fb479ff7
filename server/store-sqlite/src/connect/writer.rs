//! The connection that writes. A call has it for a transaction of its own, or shares a transaction with the calls that
//! wait for it.
//!
//! A commit waits for the disk, for milliseconds on many, and only one transaction can be open. Submits, acquires,
//! settles and heartbeats that come during a commit therefore write one after the other in the next transaction, each behind a
//! savepoint, and one commit stores them all. No call waits for others to come: a lone call is committed at once, and so
//! is a transaction that has gone on for a few milliseconds.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use jobqueue_store::error::{StoreError, StoreResult};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::sync::{Mutex, OwnedMappedMutexGuard, OwnedMutexGuard, watch};

/// Age at which a shared transaction takes no further call: a large group gains little from sharing a commit, and its
/// caller would wait for the groups behind it.
const SHARED_FOR: Duration = Duration::from_millis(3);

pub(crate) struct Writer {
    state: Arc<Mutex<State>>,
    /// Options with which the connection is opened.
    options: SqliteConnectOptions,
}

pub(crate) struct State {
    /// `None` once closed.
    connection: Option<SqliteConnection>,
    /// The connection failed within a transaction, and has to be replaced.
    is_broken: bool,
    shared: Option<Shared>,
    /// Number of shared transactions so far.
    count: u64,
}

/// A transaction that calls share.
struct Shared {
    number: u64,
    began: Instant,
    /// A call writes, or the commit is under way. Whoever gets the connection and finds this true knows that the call
    /// was dropped.
    is_busy: bool,
    /// `None` until the commit has succeeded or failed.
    outcome: watch::Sender<Option<Outcome>>,
}

/// Outcome of a commit, for all calls that share it.
type Outcome = StoreResult<()>;

fn closed() -> StoreError {
    StoreError::Unavailable("the database is closed".into())
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) -> StoreResult<()> {
    sqlx::query(statement).execute(connection).await?;
    Ok(())
}

impl Writer {
    pub(crate) fn new(connection: SqliteConnection, options: SqliteConnectOptions) -> Self {
        let state = State { connection: Some(connection), is_broken: false, shared: None, count: 0 };
        Self { state: Arc::new(Mutex::new(state)), options }
    }

    /// The connection, outside of a transaction. `verify` fails if a new connection would open another file.
    pub(crate) async fn alone(
        &self,
        verify: impl Fn() -> StoreResult<()>,
    ) -> StoreResult<OwnedMappedMutexGuard<State, SqliteConnection>> {
        let mut state = commit(self.lock().await).await?;
        state.repair(&self.options, verify).await?;
        OwnedMutexGuard::try_map(state, |state| state.connection.as_mut()).map_err(|_| closed())
    }

    /// The connection, in a transaction that other calls share.
    pub(crate) async fn share(&self, verify: impl Fn() -> StoreResult<()>) -> StoreResult<Share<'_>> {
        let mut state = self.lock().await;
        state.give_up_dropped().await;
        let is_first = state.shared.is_none();
        if is_first {
            state.repair(&self.options, verify).await?;
        }
        state.enter(is_first).await?;
        Ok(Share { writer: self, state, is_first })
    }

    /// Waits until a shared transaction has been committed. The first of its calls to get the connection back commits:
    /// it is behind those that waited when it left, so that they have written.
    async fn committed(&self, number: u64, mut outcome: watch::Receiver<Option<Outcome>>) -> StoreResult<()> {
        tokio::select! {
            biased;
            () = async { drop(outcome.wait_for(Option::is_some).await) } => {}
            state = self.lock() => {
                if state.shared.as_ref().is_some_and(|shared| shared.number == number) {
                    commit(state).await?;
                }
            }
        }
        let outcome = outcome.borrow().clone();
        outcome.unwrap_or_else(|| Err(StoreError::Unavailable("the commit was given up".into())))
    }

    fn lock(&self) -> impl Future<Output = OwnedMutexGuard<State>> + use<> {
        Arc::clone(&self.state).lock_owned()
    }

    /// Takes the connection away; `None` if that has been done before.
    pub(crate) async fn close(&self) -> Option<SqliteConnection> {
        commit(self.lock().await).await.ok()?.connection.take()
    }
}

/// Commits the shared transaction, if one is open; its calls are told how that ended. A task of its own does it, so that
/// it ends also if the call that asks for it is dropped.
async fn commit(mut state: OwnedMutexGuard<State>) -> StoreResult<OwnedMutexGuard<State>> {
    if state.shared.is_none() {
        return Ok(state);
    }
    let committed = tokio::spawn(async move {
        state.give_up_dropped().await;
        state.commit().await;
        state
    });
    committed.await.map_err(|error| StoreError::Unavailable(format!("the commit was given up: {error}")))
}

impl State {
    /// Begins a shared transaction, or a call's part of it.
    async fn enter(&mut self, is_first: bool) -> StoreResult<()> {
        let connection = self.connection.as_mut().ok_or_else(closed)?;
        if is_first {
            self.count += 1;
            let (number, began) = (self.count, Instant::now());
            self.shared = Some(Shared { number, began, is_busy: true, outcome: watch::Sender::new(None) });
        } else if let Some(shared) = &mut self.shared {
            shared.is_busy = true;
        }
        // IMMEDIATE: a write lock that is asked for later, after a read, is refused without waiting.
        let begun = execute(connection, if is_first { "BEGIN IMMEDIATE" } else { "SAVEPOINT call" }).await;
        if let Err(error) = &begun {
            if is_first {
                self.shared = None;
            } else {
                self.fail(error).await;
            }
        }
        begun
    }

    /// Ends a call's part of a shared transaction.
    async fn leave(&mut self, is_first: bool) -> StoreResult<()> {
        let connection = self.connection.as_mut().ok_or_else(closed)?;
        let left = if is_first { Ok(()) } else { execute(connection, "RELEASE call").await };
        match &left {
            Ok(()) => self.shared.iter_mut().for_each(|shared| shared.is_busy = false),
            Err(error) => self.fail(error).await,
        }
        left
    }

    /// Ends a call's part of a shared transaction and undoes what it wrote. `cause` is why, for the other calls if all
    /// of the transaction has to be rolled back.
    async fn undo(&mut self, is_first: bool, cause: &StoreError) {
        let Some(connection) = self.connection.as_mut().filter(|_| !is_first) else {
            // Nobody else takes part yet.
            return self.fail(cause).await;
        };
        // Fails if SQLite has rolled back all of the transaction, after a full disk or a failed read or write.
        let undone = execute(connection, "ROLLBACK TO call").await.is_ok();
        if undone && execute(connection, "RELEASE call").await.is_ok() {
            self.shared.iter_mut().for_each(|shared| shared.is_busy = false);
        } else {
            self.fail(cause).await;
        }
    }

    /// Rolls the shared transaction back if a call was dropped while it wrote.
    async fn give_up_dropped(&mut self) {
        if self.shared.as_ref().is_some_and(|shared| shared.is_busy) {
            self.fail(&StoreError::Unavailable("a call in the same transaction was given up".into())).await;
        }
    }

    async fn commit(&mut self) {
        let (Some(shared), Some(connection)) = (&mut self.shared, &mut self.connection) else { return };
        shared.is_busy = true;
        match execute(connection, "COMMIT").await {
            Ok(()) => {
                if let Some(shared) = self.shared.take() {
                    shared.outcome.send_replace(Some(Ok(())));
                }
            }
            Err(error) => self.fail(&error).await,
        }
    }

    /// Rolls the shared transaction back, and tells its calls. Errors that concern one call's data are no news to the
    /// others: they may try again.
    async fn fail(&mut self, error: &StoreError) {
        let Some(shared) = self.shared.take() else { return };
        self.is_broken = true;
        let told = match error {
            StoreError::Full(_) | StoreError::Damaged(_) | StoreError::Unavailable(_) => error.clone(),
            other => StoreError::Unavailable(other.to_string()),
        };
        shared.outcome.send_replace(Some(Err(told)));
        if let Some(connection) = &mut self.connection {
            // Fails if SQLite has rolled back by itself.
            self.is_broken = execute(connection, "ROLLBACK").await.is_err();
        }
    }

    /// Replaces a connection that failed within a transaction: what it holds of one ends with it.
    async fn repair(
        &mut self,
        options: &SqliteConnectOptions,
        verify: impl Fn() -> StoreResult<()>,
    ) -> StoreResult<()> {
        let connection = self.connection.as_mut().ok_or_else(closed)?;
        if self.is_broken || stuck(connection).await {
            // Another file at the path must not be written to.
            verify()?;
            self.connection = Some(options.connect().await?);
            self.is_broken = false;
        }
        Ok(())
    }
}

/// Whether the connection is in a transaction although no call uses it. After a full disk or a failed read or write,
/// SQLite has rolled back by itself. sqlx's own rollback then fails, and the connection counts for ever a transaction
/// that no longer exists.
async fn stuck(connection: &mut SqliteConnection) -> bool {
    // The answer to a ping comes after the rollback of a transaction that was dropped.
    connection.is_in_transaction() && (connection.ping().await.is_err() || connection.is_in_transaction())
}

/// A call's part of a shared transaction.
pub(crate) struct Share<'a> {
    writer: &'a Writer,
    state: OwnedMutexGuard<State>,
    is_first: bool,
}

impl Share<'_> {
    pub(crate) fn connection(&mut self) -> StoreResult<&mut SqliteConnection> {
        self.state.connection.as_mut().ok_or_else(closed)
    }

    /// Undoes what the call wrote.
    pub(crate) async fn undo(mut self) {
        let cause = StoreError::Unavailable("a call in the same transaction could not be undone".into());
        self.state.undo(self.is_first, &cause).await;
    }

    /// Passes the call's result on once it is committed. If the call has failed, undoes what it wrote.
    pub(crate) async fn finish<T>(mut self, result: StoreResult<T>) -> StoreResult<T> {
        let value = match result {
            Ok(value) => value,
            Err(error) => {
                self.state.undo(self.is_first, &error).await;
                return Err(error);
            }
        };
        self.state.leave(self.is_first).await?;
        let Some(shared) = &self.state.shared else { return Err(closed()) };
        let (number, outcome) = (shared.number, shared.outcome.subscribe());
        if shared.began.elapsed() >= SHARED_FOR {
            commit(self.state).await?;
        } else {
            drop(self.state);
        }
        self.writer.committed(number, outcome).await?;
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future as _,
        task::{Context, Waker},
    };

    use jobqueue_store::{ConnectOptions, Store as _};
    use tokio::{
        sync::oneshot,
        task::{JoinHandle, yield_now},
    };

    use crate::SqliteStore;

    use super::*;

    const PAUSE: &str = "INSERT INTO pauses (worker_id, paused_at, reason) VALUES (?1, 0, ?2)";

    struct Fixture {
        store: Arc<SqliteStore>,
        _folder: tempfile::TempDir,
    }

    impl Fixture {
        async fn new() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let url = format!("sqlite://{}/jobs.db", folder.path().display());
            Self { store: Arc::new(SqliteStore::connect(&ConnectOptions::new(url)).await.unwrap()), _folder: folder }
        }

        /// The first call of a shared transaction, which has stored a row. However slow the test, others may take part.
        async fn first(&self, worker_id: &str) -> Share<'_> {
            let mut share = self.store.share().await.unwrap();
            store_row(share.connection().unwrap(), worker_id, "").await.unwrap();
            share.state.shared.as_mut().unwrap().began += Duration::from_hours(1);
            share
        }

        /// Starts a call that stores a row for each letter, and returns once it waits for the connection.
        async fn call(&self, worker_ids: &'static str, reason: String) -> JoinHandle<StoreResult<()>> {
            let store = Arc::clone(&self.store);
            let call = tokio::spawn(async move {
                let mut share = store.share().await?;
                let connection = share.connection()?;
                let mut stored = Ok(());
                for worker_id in worker_ids.split_terminator("").skip(1) {
                    stored = stored.and(store_row(connection, worker_id, &reason).await);
                }
                share.finish(stored).await
            });
            // The task runs until it waits.
            yield_now().await;
            call
        }

        async fn stored(&self) -> Vec<String> {
            let rows = sqlx::query_scalar("SELECT worker_id FROM pauses ORDER BY 1");
            rows.fetch_all(&self.store.readers).await.unwrap()
        }

        async fn transactions(&self) -> u64 {
            self.store.writer.state.lock().await.count
        }
    }

    async fn store_row(connection: &mut SqliteConnection, worker_id: &str, reason: &str) -> StoreResult<()> {
        sqlx::query(PAUSE).bind(worker_id).bind(reason).execute(connection).await?;
        Ok(())
    }

    #[tokio::test]
    async fn calls_that_wait_for_one_another_are_committed_together() {
        let it = Fixture::new().await;
        let first = it.first("a").await;
        let others = [it.call("b", String::new()).await, it.call("c", String::new()).await];
        assert_eq!(it.stored().await, Vec::<String>::new());
        first.finish(Ok(())).await.unwrap();
        for other in others {
            other.await.unwrap().unwrap();
        }
        assert_eq!(it.stored().await, ["a", "b", "c"]);
        assert_eq!(it.transactions().await, 1);
        it.call("d", String::new()).await.await.unwrap().unwrap();
        assert_eq!((it.stored().await.len(), it.transactions().await), (4, 2));
    }

    #[tokio::test]
    async fn a_transaction_that_has_gone_on_for_long_is_committed_before_others_take_part() {
        let it = Fixture::new().await;
        let mut first = it.first("a").await;
        first.state.shared.as_mut().unwrap().began = Instant::now().checked_sub(SHARED_FOR).unwrap();
        let other = it.call("b", String::new()).await;
        first.finish(Ok(())).await.unwrap();
        other.await.unwrap().unwrap();
        assert_eq!((it.stored().await.len(), it.transactions().await), (2, 2));
    }

    #[tokio::test]
    async fn a_call_that_fails_undoes_its_own_writes_only() {
        let it = Fixture::new().await;
        let first = it.first("a").await;
        let fails = it.call("xa", String::new()).await;
        let works = it.call("b", String::new()).await;
        first.finish(Ok(())).await.unwrap();
        assert!(matches!(fails.await.unwrap(), Err(StoreError::Data(_))), "the key is taken");
        works.await.unwrap().unwrap();
        assert_eq!(it.stored().await, ["a", "b"]);

        let first = it.first("c").await;
        let works = it.call("d", String::new()).await;
        first.undo().await;
        works.await.unwrap().unwrap();
        assert_eq!(it.stored().await, ["a", "b", "d"]);
    }

    #[tokio::test]
    async fn a_call_that_is_dropped_in_the_middle_leaves_nothing_and_the_others_are_told() {
        let it = Fixture::new().await;
        let first = it.first("a").await;
        let (wrote, has_written) = oneshot::channel();
        let store = Arc::clone(&it.store);
        let dropped = tokio::spawn(async move {
            let mut share = store.share().await.unwrap();
            store_row(share.connection().unwrap(), "b", "").await.unwrap();
            wrote.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        yield_now().await;
        let (first, ()) = tokio::join!(first.finish(Ok(())), async {
            has_written.await.unwrap();
            dropped.abort();
        });
        assert!(matches!(first, Err(StoreError::Unavailable(_))), "{first:?}");
        it.call("c", String::new()).await.await.unwrap().unwrap();
        assert_eq!(it.stored().await, ["c"]);
    }

    #[tokio::test]
    async fn a_commit_that_nobody_waits_for_any_more_is_not_taken_for_failed() {
        let it = Fixture::new().await;
        let first = it.first("a").await;
        let store = Arc::clone(&it.store);
        let mut alone = Box::pin(async move { store.writer().await.map(drop) });
        let mut leaving = Box::pin(first.finish(Ok(())));
        // A call of its own is next; it is dropped while it commits what the first has written.
        let mut context = Context::from_waker(Waker::noop());
        assert!(alone.as_mut().poll(&mut context).is_pending(), "the first has the connection");
        assert!(leaving.as_mut().poll(&mut context).is_pending(), "the other is before it");
        assert!(alone.as_mut().poll(&mut context).is_pending(), "it commits");
        drop(alone);
        leaving.await.unwrap();
        assert_eq!(it.stored().await, ["a"]);
    }

    #[tokio::test]
    async fn a_full_disk_fails_all_that_share_the_transaction() {
        let it = Fixture::new().await;
        {
            let mut writer = it.store.writer().await.unwrap();
            // SQLite treats this limit, which is the connection's own, as a full disk.
            sqlx::query("PRAGMA max_page_count = 200").execute(&mut *writer).await.unwrap();
        }
        let first = it.first("a").await;
        let large = it.call("b", "x".repeat(10_000_000)).await;
        let small = it.call("c", String::new()).await;
        let first = first.finish(Ok(())).await;
        assert!(matches!(large.await.unwrap(), Err(StoreError::Full(_))));
        assert!(matches!(first, Err(StoreError::Full(_))), "SQLite has rolled it back: {first:?}");
        small.await.unwrap().unwrap();
        assert_eq!(it.stored().await, ["c"], "the next transaction has room");
        it.store.close().await;
    }

    #[tokio::test]
    async fn a_transaction_of_its_own_begins_after_the_shared_one_has_ended() {
        let it = Fixture::new().await;
        let first = it.first("a").await;
        let alone = tokio::spawn({
            let store = Arc::clone(&it.store);
            async move {
                let mut writer = store.writer().await?;
                let mut tx = crate::begin(&mut writer).await?;
                store_row(&mut tx, "b", "").await?;
                tx.commit().await?;
                StoreResult::Ok(())
            }
        });
        yield_now().await;
        first.finish(Ok(())).await.unwrap();
        alone.await.unwrap().unwrap();
        assert_eq!(it.stored().await, ["a", "b"]);
    }
}
