//! Opening of databases: the only module that chooses between the drivers.

use std::{path::Path, sync::Arc};

use jobqueue_store::{
    Store, StoreError, StoreResult,
    options::{ConnectOptions, Pooler, SchemaName},
};
use jobqueue_store_postgres::PostgresStore;
use jobqueue_store_sqlite::SqliteStore;

/// Opens the database, migrates its schema and checks that the database's settings allow durable commits.
pub async fn connect(options: &ConnectOptions) -> StoreResult<Arc<dyn Store>> {
    match options.url.split_once(':') {
        Some(("sqlite", _)) if options.pooler != Pooler::None || options.direct_url.is_some() => {
            Err(StoreError::Startup(
                "--database-pooler and --database-direct-url are for PostgreSQL, not for SQLite".into(),
            ))
        }
        Some(("sqlite", _)) if options.schema != SchemaName::default() => {
            Err(StoreError::Startup("--database-schema is for PostgreSQL: everything in a SQLite file is ours".into()))
        }
        Some(("sqlite", _)) => Ok(Arc::new(SqliteStore::connect(options).await?)),
        Some(("postgres" | "postgresql", _)) => Ok(Arc::new(PostgresStore::connect(options).await?)),
        _ => Err(StoreError::Startup(
            "the database URL must start with sqlite:// or postgres://, for example sqlite://data/jobqueue.db".into(),
        )),
    }
}

/// Sets back times in a SQLite database that lie in the future because a clock was ahead. Returns by how many
/// milliseconds, or 0 if there are none. No server may run on the database meanwhile.
pub async fn set_clock_back(options: &ConnectOptions) -> StoreResult<i64> {
    if !options.url.starts_with("sqlite:") {
        return Err(StoreError::Unsupported("set-clock-back is for SQLite; PostgreSQL's time is its own clock's"));
    }
    let store = SqliteStore::connect(options).await?;
    let set_back = store.set_clock_back().await;
    store.close().await;
    set_back
}

/// Copies a SQLite database consistently into a new file, also while a server uses it.
pub async fn backup(url: &str, file: &Path) -> StoreResult<()> {
    if url.starts_with("sqlite:") {
        jobqueue_store_sqlite::backup(url, file).await
    } else {
        Err(StoreError::Unsupported("backup is for SQLite; use pg_dump or pg_basebackup for PostgreSQL"))
    }
}
