//! Connection pool and transactions. A transaction runs on a session of the server's own or, behind a pooler in
//! transaction mode, on a session that is lent until the transaction ends.

use std::{
    fmt::Debug,
    ops::{Deref, DerefMut},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt as _, TryFutureExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use jobqueue_store::options::{ConnectOptions, Pooler};
use sqlx::{
    AssertSqlSafe, Connection as _, Describe, Either, Execute, Executor, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::connect::{
    connection::{LastLoss, PooledConnection},
    lifo_pool::{Borrowed, LifoPool},
};

/// Settings of every session: no plan depends on statistics, and no statement waits long for a stuck server. Sequential
/// scans are off because a table that was empty when it was analysed is taken for empty: reading and sorting all of it
/// then looks as cheap as an index that has the order.
const SETTINGS: [(&str, &str); 6] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    ("statement_timeout", "15s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "5s"),
];

/// [`SETTINGS`] for one transaction, for use behind a pooler, where a session keeps nothing.
const LOCAL_SETTINGS: &str = "; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off; SET LOCAL statement_timeout = '15s'; \
     SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// Time within which a connection has to answer when it is given back. Otherwise it is closed.
const RELEASE: Duration = Duration::from_secs(5);

/// Pool of connections. As an `Executor` it runs single statements.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    connections: PgPool,
    lifo: Arc<LifoPool<PoolConnection<Postgres>>>,
    /// Permits, one for each connection that may be in use.
    permits: Arc<Semaphore>,
    patience: Duration,
    pooler: Pooler,
    /// Statements that begin each transaction behind a pooler; empty without one.
    local_settings: Arc<str>,
    last_loss: LastLoss,
}

impl Pool {
    pub(crate) async fn connect(base: PgConnectOptions, options: &ConnectOptions) -> Result<Self, sqlx::Error> {
        let base = match options.pooler {
            Pooler::None => base.options(SETTINGS),
            Pooler::Transaction => base,
        };
        let last_loss = LastLoss::default();
        let connections = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire({
                let last_loss = last_loss.clone();
                move |connection, used| {
                    let trusted = last_loss.trusts(used.idle_for);
                    Box::pin(async move {
                        if !trusted {
                            connection.ping().await?;
                        }
                        Ok(true)
                    })
                }
            })
            .connect_with(base)
            .await?;
        let permits = Arc::new(Semaphore::new(options.max_connections as usize));
        let patience = options.acquire_timeout;
        let local_settings = match options.pooler {
            Pooler::None => "".into(),
            Pooler::Transaction => format!("{LOCAL_SETTINGS}; SET LOCAL search_path = {}", options.schema).into(),
        };
        let pooler = options.pooler;
        Ok(Self { connections, lifo: Arc::default(), permits, patience, pooler, local_settings, last_loss })
    }

    /// Begins a transaction. `begin` opens it; `then` follows in the same message, each statement after a semicolon.
    pub(crate) async fn begin_with(&self, begin: &str, then: &str) -> Result<Tx, sqlx::Error> {
        let settings = &self.local_settings;
        let mut tx = self.acquire_session().await?;
        // The transaction may be open from here on, also if the call is cut off.
        tx.open = true;
        tx.execute(AssertSqlSafe(format!("{begin}{settings}{then}"))).await?;
        Ok(tx)
    }

    /// A session for single statements. Behind a pooler it is a transaction: outside of one, a statement's preparation
    /// and its execution may reach different sessions. A caller that writes has to commit.
    pub(crate) async fn acquire(&self) -> Result<Tx, sqlx::Error> {
        match self.pooler {
            Pooler::None => self.acquire_session().await,
            Pooler::Transaction => self.begin_with("BEGIN", "").await,
        }
    }

    /// Part of a SELECT that makes statements keep one plan for all parameters. Such a plan, too, reads only the
    /// partitions that the parameters need, but PostgreSQL takes it for more expensive, and would plan anew each time.
    /// Behind a pooler, where no plan is kept, a plan for the given parameters is made sooner.
    pub(crate) fn one_plan(&self) -> &'static str {
        match self.pooler {
            Pooler::None => ", set_config('plan_cache_mode', 'force_generic_plan', true)",
            Pooler::Transaction => "",
        }
    }

    async fn acquire_session(&self) -> Result<Tx, sqlx::Error> {
        let (borrowed, permit) =
            match timeout(self.patience, self.lend()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
                Err(sqlx::Error::PoolTimedOut) => {
                    // Perhaps the call has waited for a connection that is half open. The other idle ones then are,
                    // too, and each would cost another call the same wait.
                    let pool = self.clone();
                    tokio::spawn(async move { pool.close_idle().await });
                    return Err(sqlx::Error::PoolTimedOut);
                }
                acquired => acquired.inspect_err(|error| self.last_loss.notice(error))?,
            };
        let (named, last_loss) = (self.pooler == Pooler::None, self.last_loss.clone());
        let session = PooledConnection { borrowed, named, read_only: false, last_loss, _permit: permit };
        Ok(Tx { session: Some(session), open: false, pool: self.clone() })
    }

    async fn lend(&self) -> Result<(Borrowed<PoolConnection<Postgres>>, OwnedSemaphorePermit), sqlx::Error> {
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let (lifo, stale) = self.lifo.take(|idle_for| self.last_loss.trusts(idle_for));
        stale.into_iter().for_each(give_back);
        let borrowed = match lifo {
            Some(borrowed) => borrowed,
            None => self.connections.acquire().await?.into(),
        };
        Ok((borrowed, permit))
    }

    async fn close_idle(&self) {
        for connection in self.lifo.take_all() {
            let _ = timeout(RELEASE, connection.close()).await;
        }
        while let Some(connection) = self.connections.try_acquire() {
            let _ = timeout(RELEASE, connection.close()).await;
        }
    }

    pub(crate) async fn close(&self) {
        let closed = self.connections.close();
        self.lifo.take_all().into_iter().for_each(give_back);
        closed.await;
    }
}

/// Runs one statement, and reads all of its rows before the first is returned.
impl<'c> Executor<'c> for &'c Pool {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let rows = async move {
            let mut tx = self.acquire().await?;
            let rows: Vec<_> = tx.fetch_many(query).try_collect().await?;
            tx.commit().await?;
            Ok(stream::iter(rows).map(Ok))
        };
        rows.try_flatten_stream().boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        Box::pin(async move {
            let mut tx = self.acquire().await?;
            let row = tx.fetch_optional(query).await?;
            tx.commit().await?;
            Ok(row)
        })
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move { self.acquire().await?.prepare_with(sql, parameters).await })
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        Box::pin(async move { self.acquire().await?.describe(sql).await })
    }
}

/// A transaction, or a session for single statements. A transaction that is dropped before its commit is rolled back.
#[derive(Debug)]
pub(crate) struct Tx {
    /// `None` once the transaction has ended.
    session: Option<PooledConnection>,
    /// Whether a transaction is open, or may be.
    open: bool,
    pool: Pool,
}

const ENDED: &str = "a transaction that has ended is gone";

impl Deref for Tx {
    type Target = PooledConnection;

    fn deref(&self) -> &PooledConnection {
        #[expect(clippy::expect_used, reason = "commit and drop end it, and both take it")]
        self.session.as_ref().expect(ENDED)
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut PooledConnection {
        #[expect(clippy::expect_used, reason = "commit and drop end it, and both take it")]
        self.session.as_mut().expect(ENDED)
    }
}

impl Tx {
    pub(crate) async fn commit(mut self) -> Result<(), sqlx::Error> {
        if self.open {
            self.execute("COMMIT").await?;
        }
        if let Some(session) = self.session.take() {
            session.release(&self.pool);
        }
        Ok(())
    }

    pub(crate) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        if self.open {
            self.execute("ROLLBACK").await?;
        }
        if let Some(session) = self.session.take() {
            session.release(&self.pool);
        }
        Ok(())
    }

    /// Closes this connection, which leads to a read-only server, and the idle ones: new ones may reach a server that
    /// writes.
    pub(crate) fn discard_read_only(mut self) {
        self.read_only = true;
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Without a runtime the connection is closed, which rolls back as well.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(session.give_up(self.open, self.pool.clone()));
        }
    }
}

/// Gives a connection back to sqlx's pool, as sqlx does when it is dropped, but within a time limit: a half-open
/// connection would never come back.
fn give_back(mut connection: PoolConnection<Postgres>) {
    tokio::spawn(timeout(RELEASE, connection.return_to_pool()));
}

impl PooledConnection {
    /// Gives back a connection that is known to work and to be in no transaction.
    fn release(self, pool: &Pool) {
        if let Some(connection) = pool.lifo.keep(self.borrowed, || pool.connections.is_closed()) {
            give_back(connection);
        }
    }

    async fn give_up(mut self, open: bool, pool: Pool) {
        if self.read_only {
            let _ = timeout(RELEASE, self.borrowed.connection.close()).await;
            pool.close_idle().await;
            return;
        }
        let connection = &mut self.borrowed.connection;
        let ended =
            async { if open { connection.execute("ROLLBACK").await.map(drop) } else { connection.ping().await } };
        match timeout(RELEASE, ended).await {
            Ok(Ok(())) => self.release(&pool),
            _ => drop(self.borrowed.connection.detach()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_behind_a_pooler_has_every_setting_of_a_session() {
        for (name, value) in SETTINGS {
            let [bare, quoted] = [format!("SET LOCAL {name} = {value}"), format!("SET LOCAL {name} = '{value}'")];
            assert!(LOCAL_SETTINGS.contains(&bare) || LOCAL_SETTINGS.contains(&quoted), "{name}");
        }
        assert_eq!(LOCAL_SETTINGS.matches("SET LOCAL").count(), SETTINGS.len());
    }
}
