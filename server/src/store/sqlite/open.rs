//! Opening the file: who owns it, schema, and whether it keeps its promises.

use std::{path::Path, str::FromStr as _, time::Duration};

use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use super::{
    SqliteStore,
    file::{self, OwnedFile},
    log,
};
use crate::store::{
    broken::Broken,
    clock::{Clock, wall_ms},
    connect::{ConnectOptions, SCHEMA_LEVEL, too_new},
    error::{StoreError, StoreResult},
};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations/sqlite");

/// More than there are texts.
const STATEMENTS: usize = 500;
/// Rows that SQLite's thread reads before it waits for ours: a whole batch, or the two would take turns.
const ROWS_AHEAD: usize = 2_000;
/// KiB of pages that each connection keeps, negative as SQLite wants it.
const CACHE: &str = "-16384";

impl SqliteStore {
    pub(in crate::store) async fn connect(options: &ConnectOptions) -> StoreResult<Self> {
        let base = parse(&options.url)?;
        let path = base.get_filename().to_owned();
        let mut file = OwnedFile::lock(&path)?;
        let base = base
            // Made with its lock; made anew by a connection it would be another file than the one that is locked.
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(STATEMENTS)
            .row_buffer_size(ROWS_AHEAD)
            .pragma("cache_size", CACHE)
            .pragma("journal_size_limit", log::KEPT.to_string())
            .pragma("temp_store", "memory");
        let startup = |error| StoreError::Startup(format!("cannot open {}: {error}", path.display()));
        let mut writer = base.connect().await.map_err(startup)?;
        migrate(&mut writer).await?;
        check_durability(&mut writer).await?;
        let clock = Clock::new(wall_ms().max(newest_time(&mut writer).await?));
        let readers = SqlitePoolOptions::new()
            .max_connections(4)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(base.clone().pragma("query_only", "on"))
            .await
            .map_err(startup)?;
        file.opened()?;
        Ok(Self {
            writer: tokio::sync::Mutex::new(Some(writer)),
            options: base,
            readers,
            clock,
            broken: Broken::default(),
            listening: std::sync::Mutex::default(),
            key_cursor: std::sync::Mutex::new(Uuid::nil()),
            file: std::sync::Mutex::new(Some(file)),
        })
    }
}

fn parse(url: &str) -> StoreResult<SqliteConnectOptions> {
    if url.contains(":memory:") || url.contains("mode=memory") {
        return Err(StoreError::Startup("the database URL: a durable queue needs a file, not memory".into()));
    }
    SqliteConnectOptions::from_str(url).map_err(|error| StoreError::Startup(format!("the database URL: {error}")))
}

async fn migrate(writer: &mut SqliteConnection) -> StoreResult<()> {
    let known: bool = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'schema_compat')")
        .fetch_one(&mut *writer)
        .await?;
    if known {
        let needed: i32 =
            sqlx::query_scalar("SELECT min_server_level FROM schema_compat").fetch_one(&mut *writer).await?;
        if needed > SCHEMA_LEVEL {
            return Err(too_new(needed));
        }
    }
    // A newer schema that allows this server has migrations that it does not know.
    let migrator = Migrator { migrations: MIGRATOR.migrations.clone(), ignore_missing: true, ..Migrator::DEFAULT };
    migrator
        .run(writer)
        .await
        .map_err(|error| StoreError::Startup(format!("cannot bring the schema up to date: {error}")))
}

async fn check_durability(writer: &mut SqliteConnection) -> StoreResult<()> {
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut *writer).await?;
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(writer).await?;
    if journal != "wal" || synchronous < 2 {
        return Err(StoreError::Startup(format!(
            "SQLite did not accept journal_mode=wal and synchronous=full (it says {journal} and {synchronous}): \
             acknowledged jobs could be lost; is the file on a network file system?"
        )));
    }
    Ok(())
}

/// The largest time that is stored: after the wall clock was set back, time goes on from here.
async fn newest_time(writer: &mut SqliteConnection) -> StoreResult<i64> {
    let newest: i64 = sqlx::query_scalar(
        "SELECT max(
            coalesce((SELECT max(heartbeat_at) FROM sessions), 0), coalesce((SELECT max(started_at) FROM sessions), 0),
            coalesce((SELECT max(claimed_at) FROM claims), 0), coalesce((SELECT max(finished_at) FROM done), 0),
            coalesce((SELECT max(failed_at) FROM dead_letters), 0), coalesce((SELECT max(cancelled_at) FROM cancelled), 0))",
    )
    .fetch_one(&mut *writer)
    .await?;
    let newest_id: Option<Uuid> = sqlx::query_scalar("SELECT max(id) FROM jobs").fetch_one(&mut *writer).await?;
    let newest_id = newest_id.map_or(0, jobqueue_shared::lease::created_at_ms);
    if newest_id <= newest.max(wall_ms()) {
        return Ok(newest.max(newest_id));
    }
    // Ids stay when the clock is set back (set_back.rs); what is pending tells since when.
    let since: Option<i64> = sqlx::query_scalar("SELECT max(since) FROM ready").fetch_one(writer).await?;
    Ok(newest.max(since.unwrap_or_default()))
}

/// A consistent copy, also while a server works on the file: it needs no ownership.
pub(crate) async fn backup(url: &str, file: &Path) -> StoreResult<()> {
    let source = parse(url)?;
    let path = source.get_filename();
    let Some(name) = file.to_str() else {
        return Err(StoreError::Startup(format!("{} is no UTF-8 file name", file.display())));
    };
    let options =
        SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(Duration::from_secs(5));
    let mut connection = options
        .connect()
        .await
        .map_err(|error| StoreError::Startup(format!("cannot open {}: {error}", path.display())))?;
    // Made here, and not by SQLite: private, and never through a link. SQLite writes into a file that is empty.
    file::create_new(file).map_err(|error| {
        StoreError::Startup(match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("{} exists already; a backup never overwrites", file.display())
            }
            _ => format!("cannot make {}: {error}", file.display()),
        })
    })?;
    if let Err(error) = sqlx::query("VACUUM INTO ?1").bind(name).execute(&mut connection).await {
        // Half a copy is none.
        let _ = std::fs::remove_file(file);
        return Err(error.into());
    }
    connection.close().await?;
    file::sync(file).map_err(|error| StoreError::Unavailable(format!("the backup is not on disk: {error}")))
}
