//! Opening of a PostgreSQL database: connections, schema migrations, checks of durability, and the clock.

pub(crate) mod connection;
mod lifo_pool;
pub(crate) mod notify;
pub(crate) mod pool;
pub(crate) mod tls;
pub(crate) mod try_write;
mod url;

use std::{sync::Arc, time::Duration};

use jobqueue_store::{
    clock::Clock,
    error::{StoreError, StoreResult},
    options::{ConnectOptions, Pooler, SCHEMA_LEVEL, SchemaName, too_new},
    quarantine::Quarantine,
};
use notify::Channels;
use pool::Pool;
use sqlx::{
    AssertSqlSafe, Connection as _, PgConnection,
    migrate::{Migration, Migrator},
    postgres::PgConnectOptions,
};
use tls::{Relay, Route};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::{PostgresStore, duty_cycle::DutyCycle, sessions::rescue::ORPHAN_SCANS};

static MIGRATOR: Migrator = sqlx::migrate!("../../migrations/postgres");

impl PostgresStore {
    pub async fn connect(options: &ConnectOptions) -> StoreResult<Self> {
        let (base, relay) = reach("the database URL", &options.url).await?;
        let mut relays = Vec::from_iter(relay);
        let base = match options.pooler {
            Pooler::None => in_schema(base, &options.schema),
            // A pooler refuses startup parameters that it does not know, such as extra_float_digits.
            Pooler::Transaction => base.extra_float_digits(None),
        };
        let direct = match (&options.direct_url, options.pooler) {
            (Some(url), _) => {
                let (direct, relay) = reach("--database-direct-url", url).await?;
                relays.extend(relay);
                Some(in_schema(direct, &options.schema))
            }
            (None, Pooler::None) => Some(base.clone()),
            (None, Pooler::Transaction) => None,
        };
        match &direct {
            Some(direct) => migrate(direct, &options.schema).await?,
            None => migrate_in_a_transaction(&base, &options.schema).await?,
        }
        let pool = Pool::connect(base, options).await.map_err(|error| cannot_connect(&error))?;
        check_session(&pool, options.pooler).await?;
        let clock = Arc::new(Clock::new(0));
        read_clock(&pool, &clock).await?;
        let ((notifications, _), server_id) = (broadcast::channel(4_096), Uuid::new_v4());
        let channels = Channels::of(&options.schema);
        let mut tasks = vec![tokio::spawn(follow_clock(pool.clone(), clock.clone()))];
        if let Some(direct) = direct {
            tasks.push(tokio::spawn(crate::connect::notify::listen(
                direct,
                channels.clone(),
                server_id,
                notifications.clone(),
            )));
        } else {
            tracing::info!(
                "servers behind the pooler find each other's jobs by polling; --database-direct-url lets them be told"
            );
        }
        Ok(Self {
            pool,
            clock,
            scan_cursors: Arc::default(),
            session_quotas: crate::acquire::session_quota::SessionQuotas::default(),
            notifications,
            channels,
            server_id,
            quarantine: Quarantine::default(),
            orphan_scans: parking_lot::Mutex::new(DutyCycle::new(ORPHAN_SCANS)),
            compaction: crate::retain::low_watermark::LowWatermark::default(),
            error_folding: crate::retain::low_watermark::LowWatermark::default(),
            key_cursor: parking_lot::Mutex::new(Uuid::nil()),
            attempts_cursor: parking_lot::Mutex::new(Uuid::nil()),
            tasks,
            _relays: relays,
        })
    }
}

/// Connection options for a URL, and the TLS relay, if one is needed, which must live as long as the connections.
/// `what` names the URL in errors.
async fn reach(what: &str, url: &str) -> StoreResult<(PgConnectOptions, Option<Relay>)> {
    let wrong = |error| StoreError::Startup(format!("{what}: {error}"));
    let (options, settings) = crate::connect::url::parse(url).map_err(wrong)?;
    let Route { options, relay } = tls::route(options, settings).await.map_err(wrong)?;
    Ok((options, relay))
}

/// Sets search_path, so that every unqualified name is one of the schema, whatever search_path the role or the database
/// has.
fn in_schema(options: PgConnectOptions, schema: &SchemaName) -> PgConnectOptions {
    options.options([("search_path", schema.as_str())])
}

fn cannot_connect(error: &sqlx::Error) -> StoreError {
    let text = error.to_string();
    // PgBouncer's error for a startup parameter that it does not track.
    if text.contains("unsupported startup parameter") {
        return behind_a_pooler();
    }
    StoreError::Startup(format!("cannot connect to PostgreSQL: {text}"))
}

fn behind_a_pooler() -> StoreError {
    StoreError::Startup(
        "the database URL leads to a pooler, such as PgBouncer: start with --database-pooler transaction, and with \
         --database-direct-url for PostgreSQL's own address if it can be reached"
            .into(),
    )
}

/// Brings the schema up to date on a connection of its own: closing it frees the migrations' advisory lock, also if the
/// start is cancelled half-way.
async fn migrate(options: &PgConnectOptions, schema: &SchemaName) -> StoreResult<()> {
    let mut connection = PgConnection::connect_with(options).await.map_err(|error| cannot_connect(&error))?;
    sqlx::query("SELECT pg_advisory_lock(hashtext('jobqueue_migrate'))").execute(&mut connection).await?;
    make_schema(&mut connection, schema).await?;
    bring_up_to_date(&mut connection, true).await?;
    connection.close().await?;
    Ok(())
}

/// Begins the transaction of migrations behind a pooler. The migrator prepares statements under names, which stay in
/// the lent session. DEALLOCATE ALL, before and after the migrations, keeps them from colliding with those of another
/// migrator.
const BEGIN_MIGRATIONS: &str = "BEGIN; DEALLOCATE ALL; SELECT pg_advisory_xact_lock(hashtext('jobqueue_migrate'))";

/// Brings the schema up to date through a pooler, in one transaction: its end frees the advisory lock, also if the
/// start is cancelled half-way.
async fn migrate_in_a_transaction(options: &PgConnectOptions, schema: &SchemaName) -> StoreResult<()> {
    let mut connection = PgConnection::connect_with(options).await.map_err(|error| cannot_connect(&error))?;
    let mut tx = connection.begin_with(BEGIN_MIGRATIONS).await?;
    make_schema(&mut tx, schema).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("SET LOCAL search_path = {schema}"))).execute(&mut *tx).await?;
    bring_up_to_date(&mut tx, false).await?;
    sqlx::raw_sql("DEALLOCATE ALL").execute(&mut *tx).await?;
    tx.commit().await?;
    connection.close().await?;
    Ok(())
}

/// Refuses a database whose encoding is not UTF8: payloads and errors are any Unicode text, and other encodings cannot
/// store some of it. Called before anything is created.
async fn check_encoding(connection: &mut PgConnection) -> StoreResult<()> {
    let encoding: String =
        sqlx::query_scalar("SELECT current_setting('server_encoding')").fetch_one(connection).await?;
    if encoding == "UTF8" {
        return Ok(());
    }
    Err(StoreError::Startup(format!(
        "the database's encoding is {encoding}; it must be UTF8: make one by CREATE DATABASE .. ENCODING 'UTF8' TEMPLATE template0"
    )))
}

/// Creates the schema if it is missing. A schema name needs no quotes.
async fn make_schema(connection: &mut PgConnection, schema: &SchemaName) -> StoreResult<()> {
    let known: bool = sqlx::query_scalar("SELECT to_regnamespace($1) IS NOT NULL")
        .bind(schema.as_str())
        .fetch_one(&mut *connection)
        .await?;
    if known {
        return Ok(());
    }
    // Checked first, so that a refused database is left as it was.
    check_encoding(&mut *connection).await?;
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE SCHEMA {schema}"))).execute(connection).await.map_err(|error| {
        StoreError::Startup(format!(
            "cannot make the schema {schema}: {error}; let its owner run jobqueue-server migrate, or make it by hand"
        ))
    })?;
    Ok(())
}

async fn bring_up_to_date(connection: &mut PgConnection, locking: bool) -> StoreResult<()> {
    check_encoding(&mut *connection).await?;
    let known: bool =
        sqlx::query_scalar("SELECT to_regclass('schema_compat') IS NOT NULL").fetch_one(&mut *connection).await?;
    if known {
        let needed: i32 =
            sqlx::query_scalar("SELECT min_server_level FROM schema_compat").fetch_one(&mut *connection).await?;
        if needed > SCHEMA_LEVEL {
            return Err(too_new(needed));
        }
        // The migrator begins with a CREATE, which a role that owns nothing may not run.
        if is_up_to_date(connection).await? {
            return Ok(());
        }
    }
    // A newer schema that allows this server contains migrations that this build does not know.
    let migrations = MIGRATOR.migrations.clone();
    let migrator = Migrator { migrations, ignore_missing: true, locking, ..Migrator::DEFAULT };
    migrator
        .run(connection)
        .await
        .map_err(|error| StoreError::Startup(format!("cannot bring the schema up to date: {error}")))
}

/// Whether every migration of this build has been applied, with the same checksum.
async fn is_up_to_date(connection: &mut PgConnection) -> StoreResult<bool> {
    let applied: Vec<(i64, Vec<u8>)> =
        sqlx::query_as("SELECT version, checksum FROM _sqlx_migrations WHERE success").fetch_all(connection).await?;
    let is_applied = |it: &Migration| {
        applied.iter().any(|(version, checksum)| *version == it.version && checksum[..] == it.checksum[..])
    };
    Ok(MIGRATOR.iter().all(is_applied))
}

/// Checks the server's version, its settings of durability, and that a session keeps its settings, which it does not
/// behind a pooler in transaction mode.
async fn check_session(pool: &Pool, pooler: Pooler) -> StoreResult<()> {
    let (version, fsync, full_page_writes, synchronous_commit, enable_seqscan): (i32, String, String, String, String) =
        sqlx::query_as(
            "SELECT current_setting('server_version_num')::int, current_setting('fsync'),
                    current_setting('full_page_writes'), current_setting('synchronous_commit'),
                    current_setting('enable_seqscan')",
        )
        .fetch_one(pool)
        .await?;
    if version < 150_000 {
        return Err(StoreError::Startup(format!("PostgreSQL 15 or newer is needed; this is {}", version / 10_000)));
    }
    // A pooler that is configured to ignore unknown startup parameters has dropped ours.
    if pooler == Pooler::None && enable_seqscan != "off" {
        return Err(behind_a_pooler());
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

const READ_CLOCK: &str = "
    SELECT now_ms(), pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";

/// Reads the database's time into `clock`, and checks that the server accepts writes: after a failover this connection
/// may lead to the former primary.
pub(crate) async fn read_clock(pool: &Pool, clock: &Clock) -> StoreResult<i64> {
    let mut session = pool.acquire().await?;
    let (now, read_only): (i64, bool) = sqlx::query_as(READ_CLOCK).fetch_one(&mut *session).await?;
    if read_only {
        session.discard_read_only();
        return Err(StoreError::Unavailable("the database is read-only, as a standby is".into()));
    }
    session.commit().await?;
    clock.set(now);
    Ok(now)
}

/// Reads the database's time every second. After a failure the old time serves until the next turn.
async fn follow_clock(pool: Pool, clock: Arc<Clock>) {
    let mut turns = tokio::time::interval(Duration::from_secs(1));
    turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        turns.tick().await;
        if let Err(error) = read_clock(&pool, &clock).await {
            tracing::debug!(%error, "the database's clock was not read");
        }
    }
}
