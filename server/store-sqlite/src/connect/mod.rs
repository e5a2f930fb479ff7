//! Opening of a SQLite database: ownership of the file, schema migrations, checks of durability, and the clock.
//! Backups.

pub(crate) mod file;
pub(crate) mod set_back;
pub(crate) mod time;
pub(crate) mod try_write;
pub(crate) mod wal;
pub(crate) mod writer;

use std::{path::Path, str::FromStr as _, time::Duration};

use file::OwnedFile;
use jobqueue_store::{
    clock::{Clock, wall_ms},
    error::{StoreError, StoreResult},
    options::{ConnectOptions, SCHEMA_LEVEL, too_new},
    quarantine::Quarantine,
};
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use uuid::Uuid;

use crate::{SqliteStore, connect::writer::Writer};

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/sqlite");

/// Maximum number of prepared statements that a connection keeps: more than there are different ones.
const STATEMENTS: usize = 500;
/// Number of rows that SQLite's thread reads before it waits for the caller: a whole batch, or the two would take
/// turns.
const ROWS_AHEAD: usize = 2_000;
/// Size of each connection's page cache in KiB, negative as SQLite takes it.
const CACHE: &str = "-16384";

impl SqliteStore {
    pub async fn connect(options: &ConnectOptions) -> StoreResult<Self> {
        let base = parse(&options.url)?;
        let path = base.get_filename().to_owned();
        let mut file = OwnedFile::lock(&path)?;
        let base = base
            // `OwnedFile::lock` has created the file. A connection that created it again would open another file than
            // the locked one.
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(5))
            .statement_cache_capacity(STATEMENTS)
            .row_buffer_size(ROWS_AHEAD)
            .pragma("cache_size", CACHE)
            .pragma("journal_size_limit", wal::KEPT.to_string())
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
            writer: Writer::new(writer, base.clone()),
            options: base,
            readers,
            clock,
            quarantine: Quarantine::default(),
            heard_until: parking_lot::Mutex::default(),
            key_cursor: parking_lot::Mutex::new(Uuid::nil()),
            file: parking_lot::Mutex::new(Some(file)),
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
    // A newer schema that allows this server contains migrations that this build does not know.
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

/// Largest time that is stored. After the wall clock was set back, the queue's time goes on from here.
async fn newest_time(writer: &mut SqliteConnection) -> StoreResult<i64> {
    let newest: i64 = sqlx::query_scalar(
        "SELECT max(
            coalesce((SELECT max(heartbeat_at) FROM sessions), 0), coalesce((SELECT max(started_at) FROM sessions), 0),
            coalesce((SELECT max(claimed_at) FROM claims), 0), coalesce((SELECT max(finished_at) FROM done), 0),
            coalesce((SELECT max(failed_at) FROM dead_letters), 0), coalesce((SELECT max(cancelled_at) FROM cancelled), 0),
            coalesce((SELECT max(updated_at) FROM operations), 0))",
    )
    .fetch_one(&mut *writer)
    .await?;
    let newest_id: Option<Uuid> = sqlx::query_scalar("SELECT max(id) FROM jobs").fetch_one(&mut *writer).await?;
    let newest_id = newest_id.map_or(0, jobqueue_shared::lease::created_at_ms);
    if newest_id <= newest.max(wall_ms()) {
        return Ok(newest.max(newest_id));
    }
    // Ids stay as they are when the clock is set back (set_back.rs), so the times of pending jobs count instead.
    let enqueued_at: Option<i64> = sqlx::query_scalar("SELECT max(enqueued_at) FROM ready").fetch_one(writer).await?;
    Ok(newest.max(enqueued_at.unwrap_or_default()))
}

/// Makes a consistent copy of a database, also while a server works on it: ownership of the file is not needed.
pub async fn backup(url: &str, file: &Path) -> StoreResult<()> {
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
    // The file is created here, and not by SQLite, so that it is private and never reached through a link. SQLite
    // writes into an empty file.
    file::create_new(file).map_err(|error| {
        StoreError::Startup(match error.kind() {
            std::io::ErrorKind::AlreadyExists => {
                format!("{} exists already; a backup never overwrites", file.display())
            }
            _ => format!("cannot make {}: {error}", file.display()),
        })
    })?;
    if let Err(error) = sqlx::query("VACUUM INTO ?1").bind(name).execute(&mut connection).await {
        // An incomplete copy is of no use.
        let _ = std::fs::remove_file(file);
        return Err(error.into());
    }
    connection.close().await?;
    file::sync(file).map_err(|error| StoreError::Unavailable(format!("the backup is not on disk: {error}")))
}
