//! The one place that names the drivers.

use std::{path::Path, sync::Arc, time::Duration};

use super::{Store, StoreError, StoreResult, postgres::PostgresStore, sqlite::SqliteStore};

/// How to open a database.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// `sqlite://path/to/file.db` (made where it is missing, folder and all) or `postgres://user@host/database`.
    pub url: String,
    /// Connections to PostgreSQL at most.
    pub max_connections: u32,
    /// How long a call waits for a connection before it is told that the storage is unavailable.
    pub acquire_timeout: Duration,
    /// What stands between this server and PostgreSQL.
    pub pooler: Pooler,
    /// PostgreSQL's own address where `url` is a pooler's: for LISTEN and migrations.
    pub direct_url: Option<String>,
}

/// What stands between this server and PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Pooler {
    /// Nothing, or something that lends a session for as long as a connection lasts
    #[default]
    None,
    /// A pooler, such as PgBouncer, that lends a session for one transaction at a time
    Transaction,
}

impl ConnectOptions {
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            max_connections: 16,
            acquire_timeout: Duration::from_secs(5),
            pooler: Pooler::None,
            direct_url: None,
        }
    }
}

/// Opens the database, brings its schema up to date and checks that it is safe to promise durability on it.
pub async fn connect(options: &ConnectOptions) -> StoreResult<Arc<dyn Store>> {
    match options.url.split_once(':') {
        Some(("sqlite", _)) if options.pooler != Pooler::None || options.direct_url.is_some() => {
            Err(StoreError::Startup(
                "--database-pooler and --database-direct-url are for PostgreSQL, not for SQLite".into(),
            ))
        }
        Some(("sqlite", _)) => Ok(Arc::new(SqliteStore::connect(options).await?)),
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(PostgresStore::connect(options).await?)),
        _ => Err(StoreError::Startup(
            "the database URL must start with sqlite:// or postgres://, for example sqlite://data/jobqueue.db".into(),
        )),
    }
}

/// What this server understands of schemas. A migration that older servers could not live with raises
/// `schema_compat.min_server_level` to the level of the first server that can.
pub(super) const SCHEMA_LEVEL: i32 = 1;

pub(super) fn too_new(needed: i32) -> StoreError {
    StoreError::Startup(format!(
        "the database's schema needs a server of schema level {needed} or newer; this server's is {SCHEMA_LEVEL}: upgrade it"
    ))
}

/// Moves times in a SQLite database back that a clock that was ahead has left there; answers by how many milliseconds,
/// 0 where there are none. No server may run on it.
pub async fn set_clock_back(options: &ConnectOptions) -> StoreResult<i64> {
    if !options.url.starts_with("sqlite:") {
        return Err(StoreError::Unsupported("set-clock-back is for SQLite; PostgreSQL's time is its own clock's"));
    }
    let store = SqliteStore::connect(options).await?;
    let set_back = store.set_clock_back().await;
    store.close().await;
    set_back
}

/// A consistent copy of a SQLite database into a new file, also while a server owns it.
pub async fn backup(url: &str, file: &Path) -> StoreResult<()> {
    if url.starts_with("sqlite:") {
        super::sqlite::backup(url, file).await
    } else {
        Err(StoreError::Unsupported("backup is for SQLite; use pg_dump or pg_basebackup for PostgreSQL"))
    }
}
