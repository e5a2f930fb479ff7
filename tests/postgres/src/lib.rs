//! Real PostgreSQL clusters for tests, each with its own folder and port, removed afterwards.
//!
//! Durability tests need the real thing, so `fsync` and `synchronous_commit` are on and the server can be killed and
//! started again on the same port and data. Reading order: [`Cluster`], then `binaries` (location of PostgreSQL), `own`
//! (one running server), [`Pooler`] (PgBouncer before it) and `watchdog` (clean-up after any end of the process).

mod binaries;
mod own;
mod pooler;
mod process;
mod watchdog;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::binaries::Binaries;
use crate::own::{Own, Stop};
pub use crate::pooler::Pooler;

/// Name of the environment variable with the URL of a running server, database included, whose user may create
/// databases. When it is set, [`Cluster::shared`] uses that server and starts none.
pub const URL_VARIABLE: &str = "JOBQUEUE_TEST_POSTGRES_URL";

/// The oldest PostgreSQL version that jobqueue runs on.
pub const MINIMUM_VERSION: u32 = 15;

/// Configuration of a test's own cluster.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// Lines of postgresql.conf: name and value, which is quoted. They come last, so they win.
    pub settings: Vec<(String, String)>,
    /// Parent of the cluster's folder, which every user must be able to enter; by default the system's temporary
    /// folder.
    pub parent: Option<PathBuf>,
}

/// Error of a test cluster. No variant is a reason to skip a test.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(
        "PostgreSQL {MINIMUM_VERSION} or newer was not found ({searched}). On Debian: apt-get install postgresql. \
         Elsewhere: install the server programs (initdb, postgres, psql) and put pg_config on PATH"
    )]
    NotInstalled { searched: String },
    #[error("PgBouncer was not found. On Debian: apt-get install pgbouncer")]
    NoPooler,
    #[error("running as root, and there is no account `postgres` or `nobody` to run PostgreSQL under")]
    NoAccount,
    #[error("{program} failed ({status}):\n{output}")]
    Program { program: String, status: String, output: String },
    #[error("{what}: {source}")]
    Io { what: String, source: std::io::Error },
    #[error("`{0}` is no plain database name: lower-case letters, digits and _, at most 63 bytes")]
    Name(String),
    #[error("this server was given by {URL_VARIABLE}; only a cluster of its own can be stopped and started")]
    NotOwn,
    #[error("the cluster's server is stopped")]
    NotRunning,
    #[error("process {0} did not end within 10 s")]
    StillAlive(i32),
    #[error("not within a minute: {0}")]
    Late(&'static str),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}

/// Checks that the programs that [`Cluster::start`] needs are installed.
///
/// # Errors
/// [`Error::NotInstalled`], which names what to install.
pub fn check_installed() -> Result<(), Error> {
    Binaries::find().map(drop)
}

/// A PostgreSQL server for tests. Dropping it stops the server and removes its folder; when the process dies without
/// dropping it (`kill -9`, a static), a watchdog does both.
#[derive(Debug)]
pub struct Cluster {
    admin_url: String,
    own: Option<Own>,
}

impl Cluster {
    /// Makes a new cluster on 127.0.0.1 and a free port and returns when it accepts connections.
    ///
    /// Takes one to three seconds. Every local connection is trusted; the superuser is `postgres`.
    pub fn start() -> Result<Self, Error> {
        Self::start_with(&Setup::default())
    }

    /// Starts a cluster with the caller's settings or folder.
    pub fn start_with(setup: &Setup) -> Result<Self, Error> {
        Own::start(Binaries::find()?, setup).map(Self::from)
    }

    /// Makes a standby of this cluster by `pg_basebackup`, which serves reads and follows by streaming. From now on
    /// this cluster's synchronous commits wait until they are on the standby's disk too.
    pub fn start_standby(&self, setup: &Setup) -> Result<Self, Error> {
        let standby = Self::from(Own::start_standby(self.own()?, setup)?);
        // The setting follows the copy, because the standby must not wait for another standby when it is promoted.
        self.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")?;
        self.execute("SELECT pg_reload_conf()")?;
        let in_sync = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
        process::wait_until("the standby is in sync", || Ok(self.query(in_sync)? == "1"))?;
        Ok(standby)
    }

    /// Makes a standby the primary; returns when it takes writes.
    pub fn promote(&self) -> Result<(), Error> {
        self.execute("SELECT pg_promote(true, 60)")?;
        process::wait_until("the standby is promoted", || Ok(self.query("SELECT pg_is_in_recovery()")? == "f"))
    }

    /// The cluster that all tests of this process share: the server that [`URL_VARIABLE`] names, else one that is
    /// started at the first call and removed when the process ends, however it ends.
    pub fn shared() -> Result<&'static Self, &'static Error> {
        static SHARED: OnceLock<Result<Cluster, Error>> = OnceLock::new();
        SHARED
            .get_or_init(|| match std::env::var(URL_VARIABLE) {
                Ok(url) if !url.is_empty() => Ok(Self { admin_url: url, own: None }),
                _ => Self::start(),
            })
            .as_ref()
    }

    /// URL of `database` on this server; it need not exist yet.
    pub fn url(&self, database: &str) -> String {
        with_database(&self.admin_url, database)
    }

    /// Creates an empty database and returns its URL.
    ///
    /// # Errors
    /// [`Error::Name`] when the name would need quoting, [`Error::Program`] when it exists already.
    pub fn create_database(&self, name: &str) -> Result<String, Error> {
        let create = format!("CREATE DATABASE {}", plain(name)?);
        // Tests can then name the tables of a server with the default schema without the schema's name.
        let search_path = format!("ALTER DATABASE {name} SET search_path = jobqueue, public");
        // One connection for both: most of the time goes into starting processes.
        let mut psql = self.psql(&self.admin_url);
        psql.args(["--command", &create, "--command", &search_path]);
        process::run(&mut psql)?;
        Ok(self.url(name))
    }

    /// Creates an empty database with a unique name that begins with `prefix`; returns its URL.
    pub fn fresh_database(&self, prefix: &str) -> Result<String, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.create_database(&format!("{prefix}_{}_{number}", std::process::id()))
    }

    /// Removes a database, ending the connections to it. A missing database is no error.
    pub fn drop_database(&self, name: &str) -> Result<(), Error> {
        self.execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", plain(name)?))
    }

    /// TCP port of a cluster that this process has started.
    pub fn port(&self) -> Result<u16, Error> {
        Ok(self.own()?.port())
    }

    /// Temporary folder of a cluster that this process has started: data, sockets and `server.log`.
    pub fn folder(&self) -> Result<&Path, Error> {
        Ok(self.own()?.folder())
    }

    /// Kills every process of the server with SIGKILL, as a crash of the machine would, and waits until they are gone.
    pub fn kill9(&self) -> Result<(), Error> {
        self.own()?.kill9()
    }

    /// Stops the server without a checkpoint, as `pg_ctl stop -m immediate` does: the next start recovers from the log.
    pub fn stop_immediate(&self) -> Result<(), Error> {
        self.own()?.stop(Stop::Immediate)
    }

    /// Stops the server in order, as `pg_ctl stop -m fast` does: open transactions are rolled back, connections ended.
    pub fn stop_fast(&self) -> Result<(), Error> {
        self.own()?.stop(Stop::Fast)
    }

    /// Starts the server again on the same port and data, stopping it first when it runs; returns when it accepts
    /// connections.
    pub fn restart(&self) -> Result<(), Error> {
        self.own()?.restart()
    }

    /// True while the server runs; a crash may have ended it for good.
    pub fn is_running(&self) -> Result<bool, Error> {
        Ok(self.own()?.pid().is_some())
    }

    /// Ids of the server's processes: the postmaster first, then its children.
    pub fn processes(&self) -> Result<Vec<i32>, Error> {
        let postmaster = self.own()?.pid().ok_or(Error::NotRunning)?;
        Ok(std::iter::once(postmaster).chain(process::children(postmaster)).collect())
    }

    /// Runs statements in the database `postgres`; returns the rows of the last one, unaligned: `a|b` a line.
    pub fn query(&self, sql: &str) -> Result<String, Error> {
        self.query_at(&self.admin_url, sql)
    }

    /// Runs statements in another database, as [`Cluster::query`].
    pub fn query_in(&self, database: &str, sql: &str) -> Result<String, Error> {
        self.query_at(&self.url(database), sql)
    }

    fn query_at(&self, url: &str, sql: &str) -> Result<String, Error> {
        let mut command = self.psql(url);
        command.args(["--no-align", "--tuples-only", "--command", sql]);
        process::run(&mut command).map(|rows| rows.trim_end().to_owned())
    }

    fn own(&self) -> Result<&Own, Error> {
        self.own.as_ref().ok_or(Error::NotOwn)
    }

    fn execute(&self, sql: &str) -> Result<(), Error> {
        self.query(sql).map(drop)
    }

    fn psql(&self, url: &str) -> Command {
        let psql = match &self.own {
            Some(own) => own.binaries().path("psql"),
            // A server given by URL may be on another machine; the client on PATH serves then.
            None => Binaries::find().map_or_else(|_| PathBuf::from("psql"), |binaries| binaries.path("psql")),
        };
        let mut command = Command::new(&psql);
        command.args(["--no-psqlrc", "--quiet", "--no-password", "--set=ON_ERROR_STOP=1"]);
        command.arg("--dbname").arg(OsString::from(url));
        command
    }
}

impl From<Own> for Cluster {
    fn from(own: Own) -> Self {
        Self { admin_url: format!("postgres://postgres@127.0.0.1:{}/postgres", own.port()), own: Some(own) }
    }
}

fn plain(name: &str) -> Result<&str, Error> {
    let ok = !name.is_empty()
        && name.len() <= 63
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
        && !name.starts_with(|first: char| first.is_ascii_digit());
    if ok { Ok(name) } else { Err(Error::Name(name.to_owned())) }
}

/// `url` with its database replaced; user, host and parameters stay.
fn with_database(url: &str, database: &str) -> String {
    let (base, query) = url.split_at(url.find('?').unwrap_or(url.len()));
    let host = base.find("://").map_or(0, |scheme| scheme + 3);
    let end = base[host..].find('/').map_or(base.len(), |slash| host + slash);
    format!("{}/{database}{query}", &base[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_database_is_the_only_part_of_a_url_that_changes() {
        assert_eq!(with_database("postgres://u:p@h:1/postgres", "a"), "postgres://u:p@h:1/a");
        assert_eq!(with_database("postgresql://h", "a"), "postgresql://h/a");
        assert_eq!(with_database("postgres://h/x?sslmode=disable&a=/b", "a"), "postgres://h/a?sslmode=disable&a=/b");
        assert_eq!(with_database("postgres://h?host=/tmp", "a"), "postgres://h/a?host=/tmp");
    }

    #[test]
    fn names_that_would_need_quoting_are_refused() {
        assert!(plain("jobs_1").is_ok());
        for bad in ["", "1a", "Jobs", "a-b", "a\"; DROP DATABASE postgres", &"a".repeat(64)] {
            assert!(plain(bad).is_err(), "{bad}");
        }
    }
}
