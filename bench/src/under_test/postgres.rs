//! PostgreSQL for all measurements: a cluster of its own, durable, with counters of its work.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use jobqueue_test_postgres::Cluster;
use sqlx::{Connection as _, PgConnection};
use tokio::process::Command;

/// Settings that a small server of one's own would be given; everything else is PostgreSQL's default.
const SETTINGS: [(&str, &str); 3] = [("shared_buffers", "1GB"), ("max_wal_size", "4GB"), ("max_connections", "300")];

/// Settings that are printed: those that were set, and those that make a commit durable.
const SHOWN: [&str; 8] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "autovacuum",
];

/// Running cluster, removed when this is dropped.
pub struct Postgres {
    cluster: Cluster,
    programs: PathBuf,
    pub settings: BTreeMap<String, String>,
}

/// Counters of a database since it was made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Bytes of WAL of the whole cluster.
    pub wal_bytes: f64,
    pub commits: f64,
    /// Rows that were updated or deleted, each of which leaves a dead row.
    pub dead_rows_made: f64,
    /// Dead rows that no vacuum has removed yet.
    pub dead_rows_left: f64,
}

impl Counters {
    pub fn since(&self, before: &Self) -> Self {
        Self {
            wal_bytes: self.wal_bytes - before.wal_bytes,
            commits: self.commits - before.commits,
            dead_rows_made: self.dead_rows_made - before.dead_rows_made,
            dead_rows_left: self.dead_rows_left,
        }
    }
}

impl Postgres {
    pub async fn start() -> Result<Self> {
        let cluster = Cluster::start()?;
        let url = cluster.url("postgres");
        let mut connection = PgConnection::connect(&url).await?;
        for (name, value) in SETTINGS {
            let set = format!("ALTER SYSTEM SET {name} = '{value}'");
            sqlx::query(sqlx::AssertSqlSafe(set)).execute(&mut connection).await?;
        }
        connection.close().await?;
        cluster.restart()?;
        let mut connection = PgConnection::connect(&url).await?;
        let mut settings = BTreeMap::new();
        for name in SHOWN {
            let value: String =
                sqlx::query_scalar("SELECT current_setting($1)").bind(name).fetch_one(&mut connection).await?;
            settings.insert(name.to_owned(), value);
        }
        let programs: String = sqlx::query_scalar("SELECT setting FROM pg_config WHERE name = 'BINDIR'")
            .fetch_one(&mut connection)
            .await?;
        connection.close().await?;
        for needed in ["fsync", "synchronous_commit", "full_page_writes"] {
            if settings.get(needed).map(String::as_str) != Some("on") {
                bail!("{needed} is not on: nothing that is measured here would mean anything");
            }
        }
        Ok(Self { cluster, programs: programs.into(), settings })
    }

    /// Folder of the cluster's files.
    pub fn folder(&self) -> Result<PathBuf> {
        Ok(self.cluster.folder()?.to_owned())
    }

    /// Makes an empty database, and returns its URL.
    pub fn create_database(&self) -> Result<String> {
        Ok(self.cluster.fresh_database("bench")?)
    }

    /// Drops a database.
    pub fn drop_database(&self, url: &str) -> Result<()> {
        let name = url.rsplit('/').next().context("no database in the URL")?;
        Ok(self.cluster.drop_database(name)?)
    }

    /// Process id of the postmaster, the parent of all other processes.
    pub fn pid(&self) -> Result<u32> {
        let file = self.cluster.folder()?.join("data/postmaster.pid");
        let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        text.lines().next().and_then(|line| line.trim().parse().ok()).context("postmaster.pid has no pid")
    }

    /// Writes dirty pages out, so that the next measurement begins without them.
    pub async fn checkpoint(&self) -> Result<()> {
        let mut connection = PgConnection::connect(&self.cluster.url("postgres")).await?;
        sqlx::query("CHECKPOINT").execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Runs a script of statements.
    pub async fn run_script(&self, url: &str, script: &'static str) -> Result<()> {
        let mut connection = PgConnection::connect(url).await?;
        sqlx::raw_sql(script).execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// Reads the counters of a database, which are exact once all connections to it have closed.
    pub async fn counters(&self, url: &str) -> Result<Counters> {
        let mut connection = PgConnection::connect(url).await?;
        let (wal_bytes, commits, dead_rows_made, dead_rows_left): (f64, f64, f64, f64) = sqlx::query_as(
            "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8,
                    (SELECT xact_commit::float8 FROM pg_stat_database WHERE datname = current_database()),
                    coalesce(sum(n_tup_upd + n_tup_del), 0)::float8, coalesce(sum(n_dead_tup), 0)::float8
             FROM pg_stat_user_tables",
        )
        .fetch_one(&mut connection)
        .await?;
        connection.close().await?;
        Ok(Counters { wal_bytes, commits, dead_rows_made, dead_rows_left })
    }

    /// Transactions per second of a pgbench script with `clients` clients, for a time or for a number of transactions
    /// of each (`--time=3`, `--transactions=100`).
    pub async fn pgbench(&self, url: &str, script: &str, clients: u32, amount: &str) -> Result<f64> {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("script.sql");
        std::fs::write(&file, script)?;
        let mut command = Command::new(self.programs.join("pgbench"));
        command.args(["--no-vacuum", "--protocol=prepared", "--jobs=2"]);
        command.arg(format!("--client={clients}")).arg(amount).arg("--file").arg(file).arg(url);
        let output = command.env("LC_ALL", "C").output().await.context("cannot run pgbench")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            bail!("pgbench failed: {}", String::from_utf8_lossy(&output.stderr));
        }
        let rate = text.lines().find_map(|line| line.strip_prefix("tps = ")?.split_whitespace().next()?.parse().ok());
        rate.context("pgbench printed no tps")
    }
}
