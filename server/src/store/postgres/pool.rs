//! Connections, and what a transaction is on them: alone on a session of the server's own, or, behind a pooler in
//! transaction mode, on whatever session it is lent until it ends.

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
use sqlx::{
    AssertSqlSafe, Connection as _, Describe, Either, Execute, Executor, PgPool, Postgres, SqlStr,
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{
    connection::{Session, Trouble},
    recent::{Lent, Recent},
};
use crate::store::connect::{ConnectOptions, Pooler};

/// What every statement runs with: no plan hangs on statistics, and nobody waits for a stuck server. A table that was
/// empty when it was looked at is thought to be empty: reading all of it to sort it is then as cheap as an index that
/// has the order.
const SETTINGS: [(&str, &str); 6] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("jit", "off"),
    ("statement_timeout", "15s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "5s"),
];

/// The same for one transaction, where a session keeps nothing.
const LOCAL_SETTINGS: &str = "; SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL jit = off; SET LOCAL statement_timeout = '15s'; \
     SET LOCAL lock_timeout = '5s'; SET LOCAL idle_in_transaction_session_timeout = '5s'";

/// A connection that does not answer within this time when it is given back is given up.
const RELEASE: Duration = Duration::from_secs(5);

/// Runs single statements, too.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    connections: PgPool,
    recent: Arc<Recent<PoolConnection<Postgres>>>,
    /// One for each connection that is in use.
    places: Arc<Semaphore>,
    patience: Duration,
    pooler: Pooler,
    /// Statements that begin each transaction behind a pooler; empty without one.
    local_settings: Arc<str>,
    trouble: Trouble,
}

impl Pool {
    pub(super) async fn connect(base: PgConnectOptions, options: &ConnectOptions) -> Result<Self, sqlx::Error> {
        let base = match options.pooler {
            Pooler::None => base.options(SETTINGS),
            Pooler::Transaction => base,
        };
        let trouble = Trouble::default();
        let connections = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .test_before_acquire(false)
            .before_acquire({
                let trouble = trouble.clone();
                move |connection, used| {
                    let trusted = trouble.trusts(used.idle_for);
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
        let places = Arc::new(Semaphore::new(options.max_connections as usize));
        let patience = options.acquire_timeout;
        let local_settings = match options.pooler {
            Pooler::None => "".into(),
            Pooler::Transaction => format!("{LOCAL_SETTINGS}; SET LOCAL search_path = {}", options.schema).into(),
        };
        let pooler = options.pooler;
        Ok(Self { connections, recent: Arc::default(), places, patience, pooler, local_settings, trouble })
    }

    /// A transaction; `begin` opens it, `then` follows in the same message, each statement after a semicolon.
    pub(super) async fn begin_with(&self, begin: &str, then: &str) -> Result<Tx, sqlx::Error> {
        let settings = &self.local_settings;
        let mut tx = self.acquire_session().await?;
        // From here on it may be open, also when the call is cut off.
        tx.open = true;
        tx.execute(AssertSqlSafe(format!("{begin}{settings}{then}"))).await?;
        Ok(tx)
    }

    /// For single statements. Behind a pooler it is a transaction: outside of one, a statement's preparation and its
    /// execution may reach different sessions. Whoever writes commits.
    pub(super) async fn acquire(&self) -> Result<Tx, sqlx::Error> {
        match self.pooler {
            Pooler::None => self.acquire_session().await,
            Pooler::Transaction => self.begin_with("BEGIN", "").await,
        }
    }

    /// A part of a SELECT: statements keep the plan that fits all parameters. It looks only into the partitions that
    /// these need, too, but PostgreSQL takes it for dearer, and would plan each time anew. Where nothing is kept,
    /// a plan for the parameters at hand is made sooner.
    pub(super) fn one_plan(&self) -> &'static str {
        match self.pooler {
            Pooler::None => ", set_config('plan_cache_mode', 'force_generic_plan', true)",
            Pooler::Transaction => "",
        }
    }

    async fn acquire_session(&self) -> Result<Tx, sqlx::Error> {
        let (lent, place) = match timeout(self.patience, self.lend()).await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) {
            Err(sqlx::Error::PoolTimedOut) => {
                // Perhaps it has waited for one that is half open. If so, the other idle ones are, too, and would each
                // be found out by a call that waits as long.
                let pool = self.clone();
                tokio::spawn(async move { pool.close_idle().await });
                return Err(sqlx::Error::PoolTimedOut);
            }
            acquired => acquired.inspect_err(|error| self.trouble.notice(error))?,
        };
        let (named, trouble) = (self.pooler == Pooler::None, self.trouble.clone());
        let session = Session { lent, named, read_only: false, trouble, _place: place };
        Ok(Tx { session: Some(session), open: false, pool: self.clone() })
    }

    async fn lend(&self) -> Result<(Lent<PoolConnection<Postgres>>, OwnedSemaphorePermit), sqlx::Error> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(|_| sqlx::Error::PoolClosed)?;
        let (recent, stale) = self.recent.take(|idle_for| self.trouble.trusts(idle_for));
        stale.into_iter().for_each(give_back);
        let lent = match recent {
            Some(lent) => lent,
            None => self.connections.acquire().await?.into(),
        };
        Ok((lent, place))
    }

    async fn close_idle(&self) {
        for connection in self.recent.take_all() {
            let _ = timeout(RELEASE, connection.close()).await;
        }
        while let Some(connection) = self.connections.try_acquire() {
            let _ = timeout(RELEASE, connection.close()).await;
        }
    }

    pub(super) async fn close(&self) {
        let closed = self.connections.close();
        self.recent.take_all().into_iter().for_each(give_back);
        closed.await;
    }
}

/// One statement, its rows read to the end before the first is given out.
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

/// A transaction, or a session for single statements. Dropped before its commit, it is rolled back.
#[derive(Debug)]
pub(super) struct Tx {
    /// Taken when it ends.
    session: Option<Session>,
    /// A transaction is open, or may be.
    open: bool,
    pool: Pool,
}

const ENDED: &str = "a transaction that has ended is gone";

impl Deref for Tx {
    type Target = Session;

    fn deref(&self) -> &Session {
        #[expect(clippy::expect_used, reason = "commit and drop end it, and both take it")]
        self.session.as_ref().expect(ENDED)
    }
}

impl DerefMut for Tx {
    fn deref_mut(&mut self) -> &mut Session {
        #[expect(clippy::expect_used, reason = "commit and drop end it, and both take it")]
        self.session.as_mut().expect(ENDED)
    }
}

impl Tx {
    pub(super) async fn commit(mut self) -> Result<(), sqlx::Error> {
        if self.open {
            self.execute("COMMIT").await?;
        }
        if let Some(session) = self.session.take() {
            session.release(&self.pool);
        }
        Ok(())
    }

    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        if self.open {
            self.execute("ROLLBACK").await?;
        }
        if let Some(session) = self.session.take() {
            session.release(&self.pool);
        }
        Ok(())
    }

    /// It leads to a server that only reads. It and the idle ones are closed: new ones may reach one that writes.
    pub(super) fn leads_nowhere(mut self) {
        self.read_only = true;
    }
}

impl Drop for Tx {
    fn drop(&mut self) {
        let Some(session) = self.session.take() else { return };
        // Without a runtime the connection closes, which rolls back as well.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(session.give_up(self.open, self.pool.clone()));
        }
    }
}

/// As sqlx does when a connection is dropped, but not for ever: one that is half open would never come back.
fn give_back(mut connection: PoolConnection<Postgres>) {
    tokio::spawn(timeout(RELEASE, connection.return_to_pool()));
}

impl Session {
    /// It is known to work, and to be in no transaction.
    fn release(self, pool: &Pool) {
        if let Some(connection) = pool.recent.keep(self.lent, || pool.connections.is_closed()) {
            give_back(connection);
        }
    }

    async fn give_up(mut self, open: bool, pool: Pool) {
        if self.read_only {
            let _ = timeout(RELEASE, self.lent.connection.close()).await;
            pool.close_idle().await;
            return;
        }
        let connection = &mut self.lent.connection;
        let ended =
            async { if open { connection.execute("ROLLBACK").await.map(drop) } else { connection.ping().await } };
        match timeout(RELEASE, ended).await {
            Ok(Ok(())) => self.release(&pool),
            _ => drop(self.lent.connection.detach()),
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
