//! Options for opening a database, and the schema level that this server understands.

use std::{fmt, str::FromStr, time::Duration};

use crate::error::StoreError;

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

/// Schema level of this server. A migration that older servers could not work with raises
/// `schema_compat.min_server_level` to the level of the first server that can.
pub const SCHEMA_LEVEL: i32 = 1;

pub fn too_new(needed: i32) -> StoreError {
    StoreError::Startup(format!(
        "the database's schema needs a server of schema level {needed} or newer; this server's is {SCHEMA_LEVEL}: upgrade it"
    ))
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
