//! Settings of all commands: the database and the log.

use clap::{Args, value_parser};
use jobqueue_store::{ConnectOptions, Pooler, SchemaName};

use super::database_url::DatabaseUrl;
use crate::log::{self, LogFormat};

/// Settings of all commands.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Database: sqlite://path/to/file.db, which is created with its folder if it is missing, or
    /// postgres://user:password@host/database.
    #[arg(
        long,
        global = true,
        env = "JOBQUEUE_DATABASE_URL",
        hide_env_values = true,
        default_value = "sqlite://data/jobqueue.db",
        value_name = "URL"
    )]
    pub database_url: DatabaseUrl,

    /// Maximum number of connections to PostgreSQL.
    #[arg(
        long,
        global = true,
        env = "JOBQUEUE_DATABASE_MAX_CONNECTIONS",
        default_value_t = 16,
        value_name = "N",
        value_parser = value_parser!(u32).range(4..=1_000)
    )]
    pub database_max_connections: u32,

    /// Pooler between this server and PostgreSQL. With `transaction` the server keeps no state in a database session.
    #[arg(long, global = true, env = "JOBQUEUE_DATABASE_POOLER", value_enum, default_value_t, value_name = "KIND")]
    pub database_pooler: Pooler,

    /// PostgreSQL schema that holds all tables; created if it is missing. A search_path has no effect.
    #[arg(long, global = true, env = "JOBQUEUE_DATABASE_SCHEMA", default_value_t, value_name = "NAME")]
    pub database_schema: SchemaName,

    /// PostgreSQL's own address if the database URL is a pooler's: migrations and notifications between servers bypass
    /// the pooler. Without it migrations go through the pooler, and servers find each other's jobs by polling.
    #[arg(long, global = true, env = "JOBQUEUE_DATABASE_DIRECT_URL", hide_env_values = true, value_name = "URL")]
    pub database_direct_url: Option<DatabaseUrl>,

    /// Format of the log, which goes to stderr.
    #[arg(long, global = true, env = "JOBQUEUE_LOG_FORMAT", value_enum, default_value_t, value_name = "FORMAT")]
    pub log_format: LogFormat,

    /// Filter of the log: error, warn, info, debug or trace, or by module: info,jobqueue=debug.
    #[arg(
        long,
        global = true,
        env = "JOBQUEUE_LOG",
        default_value = "info,sqlx=warn",
        value_name = "FILTER",
        value_parser = log::filter
    )]
    pub log: String,
}

impl Common {
    pub fn connect_options(&self) -> ConnectOptions {
        ConnectOptions {
            max_connections: self.database_max_connections,
            pooler: self.database_pooler,
            schema: self.database_schema.clone(),
            direct_url: self.database_direct_url.as_ref().map(|url| url.as_str().to_owned()),
            ..ConnectOptions::new(self.database_url.as_str().to_owned())
        }
    }
}
