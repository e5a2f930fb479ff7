//! Opening of databases: the only module that chooses between the drivers.

use std::{fmt, path::Path, str::FromStr, sync::Arc, time::Duration};

use super::{Store, StoreError, StoreResult, postgres::PostgresStore, sqlite::SqliteStore};

/// Options for opening a database.
#[derive(Clone, Debug)]
pub struct ConnectOptions {
    /// `sqlite://path/to/file.db`, which is created with its folder if it is missing, or
    /// `postgres://user@host/database`.
    pub url: String,
    /// Maximum number of connections to PostgreSQL.
    pub max_connections: u32,
    /// Time that a call waits for a free connection before it fails with `Unavailable`.
    pub acquire_timeout: Duration,
    /// Pooler between this server and PostgreSQL.
    pub pooler: Pooler,
    /// PostgreSQL schema that holds all tables and functions.
    pub schema: SchemaName,
    /// PostgreSQL's own address if `url` is a pooler's; used for LISTEN and migrations.
    pub direct_url: Option<String>,
}

/// Name of a schema that needs no quotes and leaves room for the names of channels: a lower-case letter or _, then
/// lower-case letters, digits and _, at most 50 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaName(String);

impl SchemaName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("jobqueue".into())
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SchemaName {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        const SYSTEM: &str = "begins with pg_, as only PostgreSQL's own schemas may";
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        let first = name.bytes().next().is_some_and(|byte| !byte.is_ascii_digit());
        if !first || name.len() > 50 || !name.bytes().all(plain) {
            return Err("must be 1 to 50 lower-case letters, digits and _, and not begin with a digit");
        }
        if name.starts_with("pg_") { Err(SYSTEM) } else { Ok(Self(name.into())) }
    }
}

/// Pooler between this server and PostgreSQL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Pooler {
    /// No pooler, or one that lends a session for as long as a connection lasts
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
            schema: SchemaName::default(),
            direct_url: None,
        }
    }
}

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

/// Schema level of this server. A migration that older servers could not work with raises
/// `schema_compat.min_server_level` to the level of the first server that can.
pub(super) const SCHEMA_LEVEL: i32 = 1;

pub(super) fn too_new(needed: i32) -> StoreError {
    StoreError::Startup(format!(
        "the database's schema needs a server of schema level {needed} or newer; this server's is {SCHEMA_LEVEL}: upgrade it"
    ))
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
        super::sqlite::backup(url, file).await
    } else {
        Err(StoreError::Unsupported("backup is for SQLite; use pg_dump or pg_basebackup for PostgreSQL"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_schemas_need_no_quotes() {
        for name in ["jobqueue", "_q", "queue_2", &"q".repeat(50)] {
            assert_eq!(name.parse::<SchemaName>().unwrap().as_str(), name);
        }
        for name in ["", "2q", "Queue", "a b", "a\"b", "a;b", "é", "pg_catalog", &"q".repeat(51)] {
            assert!(name.parse::<SchemaName>().is_err(), "{name}");
        }
    }
}
