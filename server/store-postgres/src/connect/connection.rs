//! A connection that statements run on. It notices errors that make other idle connections suspect.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt as _, TryFutureExt as _, TryStreamExt as _, future::BoxFuture, stream::BoxStream};
use parking_lot::{Mutex, MutexGuard};
use sqlx::{
    Describe, Either, Execute, Executor, Postgres, SqlStr,
    error::BoxDynError,
    pool::PoolConnection,
    postgres::{PgArguments, PgQueryResult, PgRow, PgStatement, PgTypeInfo},
};
use tokio::sync::OwnedSemaphorePermit;

use crate::connect::lifo_pool::Borrowed;

/// Idle time up to which a connection is used again untested: a test costs as much as most statements.
const UNTESTED: Duration = Duration::from_secs(1);

/// Time at which a connection was last found lost: others that have not been used since may be lost too.
#[derive(Clone, Debug, Default)]
pub(crate) struct LastLoss(Arc<Mutex<Option<Instant>>>);

impl LastLoss {
    fn at(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.lock()
    }

    /// Whether a connection may be used again untested after so much idle time. When a database crashes, some of its
    /// processes go on for a moment after others have ended.
    pub(crate) fn trusts(&self, idle_for: Duration) -> bool {
        idle_for < UNTESTED && self.at().is_none_or(|at| at.elapsed() > idle_for + UNTESTED)
    }

    pub(crate) fn notice(&self, error: &sqlx::Error) {
        if tells_lost(error) {
            *self.at() = Some(Instant::now());
        }
    }
}

/// A connection of the pool, with its permit among the connections that may be in use at once.
#[derive(Debug)]
pub(crate) struct PooledConnection {
    pub(crate) borrowed: Borrowed<PoolConnection<Postgres>>,
    /// Whether statements are prepared under a name, once for each connection. Not behind a pooler, which would lend
    /// the session with the name to others.
    pub(crate) named: bool,
    /// A write was refused because the server at the other end is read-only.
    pub(crate) read_only: bool,
    pub(crate) last_loss: LastLoss,
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// Whether an error means that the connection is gone, or that the database is about to end it.
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

fn note(error: &sqlx::Error, read_only: &mut bool, last_loss: &LastLoss) {
    *read_only |= tells_read_only(error);
    last_loss.notice(error);
}

impl<'c> Executor<'c> for &'c mut PooledConnection {
    type Database = Postgres;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<PgQueryResult, PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let PooledConnection { borrowed: Borrowed { connection, .. }, named, read_only, last_loss, .. } = self;
        let query = Statement { query, named: *named };
        connection.fetch_many(query).inspect_err(|error| note(error, read_only, last_loss)).boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<PgRow>, sqlx::Error>>
    where
        'c: 'e,
        E: 'q + Execute<'q, Postgres>,
    {
        let PooledConnection { borrowed: Borrowed { connection, .. }, named, read_only, last_loss, .. } = self;
        let query = Statement { query, named: *named };
        Box::pin(connection.fetch_optional(query).inspect_err(|error| note(error, read_only, last_loss)))
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [PgTypeInfo],
    ) -> BoxFuture<'e, Result<PgStatement, sqlx::Error>>
    where
        'c: 'e,
    {
        self.borrowed.connection.prepare_with(sql, parameters)
    }

    fn describe<'e>(self, sql: SqlStr) -> BoxFuture<'e, Result<Describe<Postgres>, sqlx::Error>>
    where
        'c: 'e,
    {
        self.borrowed.connection.describe(sql)
    }
}

/// A query that is prepared under a name only if the session is the server's own. Switching off sqlx's cache of
/// statements would not do: sqlx names a persistent statement also when it keeps none.
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
        let last_loss = LastLoss::default();
        assert!(last_loss.trusts(Duration::ZERO) && !last_loss.trusts(UNTESTED));
        let long = Duration::from_millis(900);
        assert!(last_loss.trusts(long));
        last_loss.notice(&sqlx::Error::RowNotFound);
        assert!(last_loss.trusts(long));
        last_loss.notice(&sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into()));
        assert!(!last_loss.trusts(long));
        *last_loss.at() = Instant::now().checked_sub(UNTESTED + long / 2);
        assert!(last_loss.trusts(long / 4) && !last_loss.trusts(long));
    }
}
