//! Opening a database: connections, schema, and whether it keeps its promises.

use std::{str::FromStr as _, sync::Arc, time::Duration};

use sqlx::{
    Connection as _, PgConnection, PgPool,
    migrate::Migrator,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::sync::broadcast;
use uuid::Uuid;

use super::PostgresStore;
use crate::store::{
    clock::Clock,
    connect::{ConnectOptions, SCHEMA_LEVEL, too_new},
    error::{StoreError, StoreResult},
};

static MIGRATOR: Migrator = sqlx::migrate!("../migrations/postgres");

impl PostgresStore {
    pub(in crate::store) async fn connect(options: &ConnectOptions) -> StoreResult<Self> {
        let base = PgConnectOptions::from_str(&options.url)
            .map_err(|error| StoreError::Startup(format!("the database URL: {error}")))?
            .application_name("jobqueue");
        migrate(&base).await?;
        let hot = base.clone().options([
            ("enable_seqscan", "off"),
            ("jit", "off"),
            ("statement_timeout", "15s"),
            ("lock_timeout", "5s"),
            ("idle_in_transaction_session_timeout", "5s"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            .connect_with(hot)
            .await
            .map_err(|error| StoreError::Startup(format!("cannot connect to PostgreSQL: {error}")))?;
        check_durability(&pool).await?;
        let clock = Arc::new(Clock::new(0));
        read_clock(&pool, &clock).await?;
        let (wakes, _) = broadcast::channel(4_096);
        let tasks = vec![
            tokio::spawn(super::wake::listen(base, wakes.clone())),
            tokio::spawn(follow_clock(pool.clone(), clock.clone())),
        ];
        Ok(Self { pool, clock, floors: Arc::default(), wakes, key_cursor: std::sync::Mutex::new(Uuid::nil()), tasks })
    }
}

/// Brings the schema up to date, on a connection of its own: closing it frees the migrations' advisory lock,
/// also when a start is cancelled half-way.
async fn migrate(options: &PgConnectOptions) -> StoreResult<()> {
    let startup = |error: sqlx::Error| StoreError::Startup(format!("cannot connect to PostgreSQL: {error}"));
    let mut connection = PgConnection::connect_with(options).await.map_err(startup)?;
    let known: bool =
        sqlx::query_scalar("SELECT to_regclass('schema_compat') IS NOT NULL").fetch_one(&mut connection).await?;
    if known {
        let needed: i32 =
            sqlx::query_scalar("SELECT min_server_level FROM schema_compat").fetch_one(&mut connection).await?;
        if needed > SCHEMA_LEVEL {
            return Err(too_new(needed));
        }
    }
    // A newer schema that allows this server has migrations that it does not know.
    let migrator = Migrator { migrations: MIGRATOR.migrations.clone(), ignore_missing: true, ..Migrator::DEFAULT };
    migrator
        .run(&mut connection)
        .await
        .map_err(|error| StoreError::Startup(format!("cannot bring the schema up to date: {error}")))?;
    connection.close().await?;
    Ok(())
}

async fn check_durability(pool: &PgPool) -> StoreResult<()> {
    let (version, fsync, full_page_writes, synchronous_commit): (i32, String, String, String) = sqlx::query_as(
        "SELECT current_setting('server_version_num')::int, current_setting('fsync'),
                current_setting('full_page_writes'), current_setting('synchronous_commit')",
    )
    .fetch_one(pool)
    .await?;
    if version < 150_000 {
        return Err(StoreError::Startup(format!("PostgreSQL 15 or newer is needed; this is {}", version / 10_000)));
    }
    if fsync != "on" || full_page_writes != "on" || synchronous_commit == "off" {
        tracing::warn!(
            fsync,
            full_page_writes,
            synchronous_commit,
            "this database can lose acknowledged jobs in a crash: turn these settings on"
        );
    }
    Ok(())
}

pub(super) async fn read_clock(pool: &PgPool, clock: &Clock) -> StoreResult<i64> {
    let now: i64 = sqlx::query_scalar("SELECT now_ms()").fetch_one(pool).await?;
    clock.set(now);
    Ok(now)
}

/// Keeps the known time close to the database's. A failure waits for the next turn: the old time serves on.
async fn follow_clock(pool: PgPool, clock: Arc<Clock>) {
    let mut turns = tokio::time::interval(Duration::from_secs(1));
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(error) = read_clock(&pool, &clock).await {
            tracing::debug!(%error, "the database's clock was not read");
        }
    }
}
