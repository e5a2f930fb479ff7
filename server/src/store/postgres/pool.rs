//! Connections, and what a transaction is on them: alone on a session of the server's own, or, behind a pooler in
//! transaction mode, on whatever session it is lent until it ends.

use std::{
    fmt::Debug,
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::{
    StreamExt as _, TryFutureExt as _, TryStreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use sqlx::{
    AssertSqlSafe, Connection as _, Describe, Either, Execute, Executor, PgPool, Postgres, SqlStr,
    error::BoxDynError,
    pool::PoolConnection,
    postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::time::timeout;

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

/// A connection that was used this lately is used again untested: a test costs as much as most statements.
const UNTESTED: Duration = Duration::from_secs(1);

/// A connection that does not answer within this time when it is given back is given up.
const RELEASE: Duration = Duration::from_secs(5);

/// Runs single statements, too.
#[derive(Clone, Debug)]
pub(super) struct Pool {
    connections: PgPool,
    pooler: Pooler,
    trouble: Trouble,
}

/// When a connection was last found lost: others that have not been used since may be, too.
#[derive(Clone, Debug, Default)]
struct Trouble(Arc<Mutex<Option<Instant>>>);

impl Trouble {
    fn at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that was used this lately may be used again untested. When a database crashes, some of its
    /// processes go on for a moment after others have ended.
    fn trusts(&self, idle_for: Duration) -> bool {
        idle_for < UNTESTED && self.at().is_none_or(|at| at.elapsed() > idle_for + UNTESTED)
    }

    fn notice(&self, error: &sqlx::Error) {
        if tells_lost(error) {
            *self.at() = Some(Instant::now());
        }
    }
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
        Ok(Self { connections, pooler: options.pooler, trouble })
    }

    /// A transaction; `begin` opens it, `then` follows in the same message, each statement after a semicolon.
    pub(super) async fn begin_with(&self, begin: &str, then: &str) -> Result<Tx, sqlx::Error> {
        let settings = match self.pooler {
            Pooler::None => "",
            Pooler::Transaction => LOCAL_SETTINGS,
        };
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
        let connection = match self.connections.acquire().await {
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
        let session = Session { connection, named, read_only: false, trouble };
        Ok(Tx { session: Some(session), open: false, pool: self.clone() })
    }

    async fn close_idle(&self) {
        while let Some(connection) = self.connections.try_acquire() {
            let _ = timeout(RELEASE, connection.close()).await;
        }
    }

    pub(super) async fn close(&self) {
        self.connections.close().await;
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
            session.release();
        }
        Ok(())
    }

    pub(super) async fn rollback(mut self) -> Result<(), sqlx::Error> {
        if self.open {
            self.execute("ROLLBACK").await?;
        }
        if let Some(session) = self.session.take() {
            session.release();
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

/// What statements run on.
#[derive(Debug)]
pub(super) struct Session {
    connection: PoolConnection<Postgres>,
    /// Statements are prepared once a connection, under a name. A pooler would lend the name's session to others.
    named: bool,
    /// A write was refused because of where this connection leads.
    read_only: bool,
    trouble: Trouble,
}

impl Session {
    /// As sqlx does when a connection is dropped, but not for ever: one that is half open would never come back.
    fn release(mut self) {
        tokio::spawn(timeout(RELEASE, self.connection.return_to_pool()));
    }

    async fn give_up(mut self, open: bool, pool: Pool) {
        if self.read_only {
            let _ = timeout(RELEASE, self.connection.close()).await;
            pool.close_idle().await;
            return;
        }
        let ended = async {
            if open { self.connection.execute("ROLLBACK").await.map(drop) } else { self.connection.ping().await }
        };
        match timeout(RELEASE, ended).await {
            Ok(Ok(())) => self.release(),
            _ => drop(self.connection.detach()),
        }
    }
}

/// The connection is gone, or the database is about to end it.
fn tells_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) => true,
        _ => false,
    }
}

fn tells_read_only(error: &sqlx::Error) -> bool {
    error.as_database_error().is_some_and(|it| it.code().is_some_and(|code| code == "25006"))
}

fn note(error: &sqlx::Error, read_only: &mut bool, trouble: &Trouble) {
    *read_only |= tells_read_only(error);
    trouble.notice(error);
}

impl<'c> Executor<'c> for &'c mut Session {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let Session { connection, named, read_only, trouble } = self;
        let query = Statement { query, named: *named };
        connection.fetch_many(query).inspect_err(|error| note(error, read_only, trouble)).boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let Session { connection, named, read_only, trouble } = self;
        let query = Statement { query, named: *named };
        Box::pin(connection.fetch_optional(query).inspect_err(|error| note(error, read_only, trouble)))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.connection.describe(sql)
    }
}

/// A query whose preparation is kept only where the session is ours. sqlx names it also when it keeps nothing.
struct Statement<E> {
    query: E,
    named: bool,
}

impl<'q, E: Execute<'q, Postgres>> Execute<'q, Postgres> for Statement<E> {
    fn sql(self) -> SqlStr {
        self.query.sql()
    }

    fn statement(&self) -> Option<&PgStatement> {
        self.query.statement()
    }

    fn take_arguments(&mut self) -> Result<Option<PgArguments>, BoxDynError> {
        self.query.take_arguments()
    }

    fn persistent(&self) -> bool {
        self.named && self.query.persistent()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_from_before_a_loss_and_long_idle_ones_are_tested() {
        let trouble = Trouble::default();
        assert!(trouble.trusts(Duration::ZERO) && !trouble.trusts(UNTESTED));
        let long = Duration::from_millis(900);
        assert!(trouble.trusts(long));
        trouble.notice(&sqlx::Error::RowNotFound);
        assert!(trouble.trusts(long));
        trouble.notice(&sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        assert!(!trouble.trusts(long));
        *trouble.at() = Instant::now().checked_sub(UNTESTED + long / 2);
        assert!(trouble.trusts(long / 4) && !trouble.trusts(long));
    }

    #[test]
    fn a_transaction_behind_a_pooler_has_every_setting_of_a_session() {
        for (name, value) in SETTINGS {
            let [bare, quoted] = [format!("SET LOCAL {name} = {value}"), format!("SET LOCAL {name} = '{value}'")];
            assert!(LOCAL_SETTINGS.contains(&bare) || LOCAL_SETTINGS.contains(&quoted), "{name}");
        }
        assert_eq!(LOCAL_SETTINGS.matches("SET LOCAL").count(), SETTINGS.len());
    }
}
