//! Settings of the server: its command line and environment variables.

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Parser, Subcommand, value_parser};
use http::HeaderValue;
use jobqueue_shared::limits;
use jobqueue_store::{ConnectOptions, Pooler, Retention, SchemaName};

use crate::{
    telemetry::{self, LogFormat},
    transport::serve::Lifetimes,
};

const DAY: Duration = Duration::from_hours(24);
const KEYS: Duration = DAY;

/// A durable job queue: programs submit jobs over gRPC, workers lease and run them, people watch in a browser.
///
/// Without a command it serves: gRPC and gRPC-web on both addresses; the dashboard, /metrics, /healthz and /readyz too.
/// Each option can be given as an environment variable instead.
#[derive(Debug, Parser)]
#[command(name = "jobqueue-server", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub serve: Serve,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Migrate the database's schema to this version and exit.
    Migrate,
    /// Write a consistent copy of an SQLite database into a new file and exit.
    Backup {
        /// The file to create; it must not exist.
        file: PathBuf,
    },
    /// Set back stored times after a server has run on an SQLite database with a clock that was ahead, and exit. Stop
    /// the server, set this machine's clock right and make a backup first.
    SetClockBack,
    /// Read the whole database, print all contradictions in it, and exit with 1 if there are any.
    Check,
}

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
        value_parser = telemetry::filter
    )]
    pub log: String,
}

/// Settings of the server that serves.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Address for programs and workers (gRPC and gRPC-web). Port 0 takes a free one.
    #[arg(long, env = "JOBQUEUE_GRPC_ADDR", default_value = "127.0.0.1:50051", value_name = "IP:PORT")]
    pub grpc_addr: SocketAddr,

    /// Address for browsers and Prometheus (dashboard, /metrics, gRPC-web). Port 0 takes a free one.
    #[arg(long, env = "JOBQUEUE_HTTP_ADDR", default_value = "127.0.0.1:8080", value_name = "IP:PORT")]
    pub http_addr: SocketAddr,

    /// Allow addresses that other machines can reach. Everyone who reaches them may do everything: for closed networks
    /// only.
    #[arg(long, env = "JOBQUEUE_INSECURE_ALLOW_REMOTE")]
    pub insecure_allow_remote: bool,

    /// Origin, such as `https://tools.example.com`, whose pages may call the API from a browser. Repeatable; none by
    /// default. Behind a proxy, name the origin under which the dashboard is reached.
    #[arg(long = "cors-origin", env = "JOBQUEUE_CORS_ORIGIN", value_delimiter = ',', value_name = "ORIGIN")]
    pub cors_origins: Vec<Origin>,

    /// Host name, without a port, under which browsers reach this server. Requests for other names are refused, so that
    /// no page of another site reaches it by a name that resolves to it. Repeatable. IP addresses, localhost, this
    /// machine's own name and the hosts of --cors-origin are always allowed.
    #[arg(long = "http-host", env = "JOBQUEUE_HTTP_HOST", value_delimiter = ',', value_name = "NAME")]
    pub http_hosts: Vec<HostName>,

    /// Maximum size of a payload, in bytes.
    #[arg(
        long,
        env = "JOBQUEUE_MAX_PAYLOAD_BYTES",
        default_value_t = limits::PAYLOAD_DEFAULT as u32,
        value_name = "BYTES",
        value_parser = value_parser!(u32).range(1..=limits::PAYLOAD_MAX as i64)
    )]
    pub max_payload_bytes: u32,

    /// Maximum number of connections; more wait to be accepted. A quarter of them is kept for the HTTP address.
    #[arg(
        long,
        env = "JOBQUEUE_MAX_CONNECTIONS",
        default_value_t = 900,
        value_name = "N",
        value_parser = value_parser!(u32).range(2..=100_000)
    )]
    pub max_connections: u32,

    /// Maximum bytes of requests that are being read and of answers that are being sent, on all connections together.
    /// Beyond it large calls get RESOURCE_EXHAUSTED.
    #[arg(
        long,
        env = "JOBQUEUE_TRANSFER_MEMORY",
        default_value_t = 256 * 1024 * 1024,
        value_name = "BYTES",
        value_parser = value_parser!(u64).range(8 * 1024 * 1024..=1024 * 1024 * 1024 * 1024)
    )]
    pub transfer_memory: u64,

    /// Time that a client may send nothing of a request that it has begun, or read nothing of an answer.
    #[arg(long, env = "JOBQUEUE_PEER_TIMEOUT", default_value = "20s", value_name = "TIME", value_parser = peer_time)]
    pub peer_timeout: Duration,

    /// Time without a call after which a connection is closed.
    #[arg(long, env = "JOBQUEUE_CONNECTION_IDLE", default_value = "15m", value_name = "TIME", value_parser = peer_time)]
    pub connection_idle: Duration,

    /// Maximum age of a connection, less up to a quarter; calls under way may still finish.
    #[arg(long, env = "JOBQUEUE_CONNECTION_AGE", default_value = "2h", value_name = "TIME", value_parser = peer_time)]
    pub connection_age: Duration,

    /// Time that calls under way have to finish after SIGTERM or Ctrl-C; a second signal exits at once.
    #[arg(
        long,
        env = "JOBQUEUE_SHUTDOWN_GRACE",
        default_value = "30s",
        value_name = "TIME",
        value_parser = humantime::parse_duration
    )]
    pub shutdown_grace: Duration,

    /// Retention of done jobs.
    #[arg(long, env = "JOBQUEUE_RETENTION_DONE", default_value = "7d", value_name = "TIME", value_parser = retention)]
    pub retention_done: Duration,

    /// Retention of cancelled jobs.
    #[arg(
        long,
        env = "JOBQUEUE_RETENTION_CANCELLED",
        default_value = "7d",
        value_name = "TIME",
        value_parser = retention
    )]
    pub retention_cancelled: Duration,

    /// Retention of dead letters.
    #[arg(
        long,
        env = "JOBQUEUE_RETENTION_DEAD_LETTERS",
        default_value = "30d",
        value_name = "TIME",
        value_parser = retention
    )]
    pub retention_dead_letters: Duration,

    /// Interval between searches for lost sessions and timed-out attempts.
    #[arg(
        long,
        env = "JOBQUEUE_RESCUE_INTERVAL",
        default_value = "1s",
        value_name = "TIME",
        value_parser = rescue_interval
    )]
    pub rescue_interval: Duration,
}

impl Common {
    pub fn connect_options(&self) -> ConnectOptions {
        ConnectOptions {
            max_connections: self.database_max_connections,
            pooler: self.database_pooler,
            schema: self.database_schema.clone(),
            direct_url: self.database_direct_url.as_ref().map(|url| url.0.clone()),
            ..ConnectOptions::new(self.database_url.0.clone())
        }
    }
}

impl Serve {
    /// Checks that the addresses are local unless others are allowed; the error is one line for the operator.
    pub fn check_addresses(&self) -> Result<(), String> {
        let open = [("--grpc-addr", self.grpc_addr), ("--http-addr", self.http_addr)]
            .into_iter()
            .find(|(_, addr)| !addr.ip().is_loopback());
        match open {
            Some((flag, addr)) if !self.insecure_allow_remote => Err(format!(
                "{flag} {addr} can be reached from other machines, and there is no authentication yet: whoever \
                 reaches it could submit, read and delete jobs. Listen on 127.0.0.1, or, on a closed network, add \
                 --insecure-allow-remote"
            )),
            _ => Ok(()),
        }
    }

    /// Maximum number of connections on the gRPC address, and on the HTTP address.
    pub fn connections(&self) -> [usize; 2] {
        let all = self.max_connections as usize;
        let http = all.div_ceil(4);
        [all - http, http]
    }

    pub fn lifetimes(&self) -> Lifetimes {
        Lifetimes { idle: self.connection_idle, age: self.connection_age, unread: self.peer_timeout }
    }

    pub fn retention(&self) -> Retention {
        Retention {
            done_ms: self.retention_done.as_millis() as i64,
            cancelled_ms: self.retention_cancelled.as_millis() as i64,
            dead_letters_ms: self.retention_dead_letters.as_millis() as i64,
            keys_ms: KEYS.as_millis() as i64,
        }
    }
}

fn retention(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_secs(1)..=DAY * 36_500)
}

fn peer_time(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(100)..=DAY * 365)
}

fn rescue_interval(text: &str) -> Result<Duration, String> {
    within(text, Duration::from_millis(10)..=Duration::from_mins(1))
}

fn within(text: &str, range: std::ops::RangeInclusive<Duration>) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if range.contains(&duration) {
        return Ok(duration);
    }
    let [from, to] = [range.start(), range.end()].map(|it| humantime::format_duration(*it).to_string());
    Err(format!("it must be from {from} to {to}"))
}

/// URL of a database. `Debug` and `Display` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The URL with its password.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for DatabaseUrl {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // libpq also takes the password as a parameter, and other parameters may hold secrets by mistake.
        let (text, query) = self.0.split_once('?').map_or((self.0.as_str(), ""), |(text, _)| (text, "?…"));
        let Some((scheme, rest)) = text.split_once("://") else { return write!(f, "{text}{query}") };
        // A password may hold a ? that should have been written as %3F: the @ is then after it.
        let user = rest.rsplit_once('@').or_else(|| self.0.contains('@').then_some((rest, "")));
        match user.and_then(|(user, host)| Some((user.split_once(':')?.0, host))) {
            Some((user, host)) => write!(f, "{scheme}://{user}:…@{host}{query}"),
            None => write!(f, "{text}{query}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Origin as browsers send it, a scheme and an authority: `https://tools.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    text: String,
    authority: String,
}

impl Origin {
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Host, with the port if it is not the scheme's default.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('/').to_ascii_lowercase();
        let authority = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
        match authority {
            Some(authority)
                if !authority.is_empty()
                    && !authority.contains(['/', '?', '#', '@', '*'])
                    && text.parse::<http::Uri>().is_ok()
                    && HeaderValue::from_str(&text).is_ok() =>
            {
                Ok(Self { authority: authority.to_owned(), text })
            }
            _ => Err("an origin is a scheme and a host, such as https://tools.example.com".into()),
        }
    }
}

/// Host name as browsers send it, in lower case, without a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName(String);

impl HostName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim().trim_end_matches('.').to_ascii_lowercase();
        let is_name = |it: char| it.is_ascii_alphanumeric() || matches!(it, '-' | '_' | '.');
        if text.is_empty() || text.len() > 253 || !text.chars().all(is_name) {
            return Err("a host name has no scheme and no port, such as jobs.example.com".into());
        }
        Ok(Self(text))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["jobqueue-server"].iter().chain(args))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_variable_is_read_as_in_the_other_programs() {
        jobqueue_shared::settings::assert_variables_are_read_alike::<Cli>(&[], &[]);
    }

    #[test]
    fn it_serves_on_loopback_unless_told_otherwise() {
        let cli = parse(&[]).unwrap();
        assert!(cli.command.is_none());
        assert!(cli.serve.check_addresses().is_ok());
        let open = parse(&["--grpc-addr", "0.0.0.0:1"]).unwrap().serve;
        let message = open.check_addresses().unwrap_err();
        assert!(message.contains("--grpc-addr 0.0.0.0:1") && message.contains("--insecure-allow-remote"), "{message}");
        assert!(!message.contains('\n'));
        let open = Serve { insecure_allow_remote: true, ..open };
        assert!(open.check_addresses().is_ok());
        assert!(parse(&["--http-addr", "[::1]:0"]).unwrap().serve.check_addresses().is_ok());
    }

    #[test]
    fn the_database_may_stand_before_or_after_the_command() {
        for args in [["--database-url", "sqlite://x", "check"], ["check", "--database-url", "sqlite://x"]] {
            assert_eq!(parse(&args).unwrap().common.database_url.0, "sqlite://x");
        }
    }

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("postgres://me:se@cret@host/db", "postgres://me:…@host/db"),
            ("postgres://host/db?user=me&password=secret", "postgres://host/db?…"),
            ("postgres://me:a?se@host/db?sslkey_password=secret", "postgres://me:…@?…"),
            ("postgres://me@host/db", "postgres://me@host/db"),
            ("sqlite://data/jobqueue.db", "sqlite://data/jobqueue.db"),
        ] {
            let url: DatabaseUrl = url.parse().unwrap();
            assert_eq!((url.to_string().as_str(), format!("{url:?}").as_str()), (shown, shown));
        }
    }

    #[test]
    fn origins_are_what_browsers_send() {
        assert_eq!("HTTPS://A.example:8443/".parse::<Origin>().unwrap().as_str(), "https://a.example:8443");
        for wrong in ["*", "a.example", "https://", "https://a/b", "https://*.example", "ftp://a", "null"] {
            assert!(wrong.parse::<Origin>().is_err(), "{wrong}");
        }
        let cli = parse(&["--cors-origin", "http://a", "--cors-origin", "http://b,http://c"]).unwrap();
        assert_eq!(cli.serve.cors_origins.len(), 3);
    }

    #[test]
    fn host_names_are_names_and_nothing_else() {
        assert_eq!("Jobs.Example.com.".parse::<HostName>().unwrap().as_str(), "jobs.example.com");
        for wrong in ["", "*", "http://a", "a:80", "a/b", "*.example.com"] {
            assert!(wrong.parse::<HostName>().is_err(), "{wrong}");
        }
        let cli = parse(&["--http-host", "a", "--http-host", "b,c"]).unwrap();
        assert_eq!(cli.serve.http_hosts.len(), 3);
    }

    #[test]
    fn both_addresses_have_places_for_connections() {
        for n in [2, 3, 4, 900] {
            let [grpc, http] = parse(&["--max-connections", &n.to_string()]).unwrap().serve.connections();
            assert!(grpc > 0 && http > 0 && grpc + http == n, "{n}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for args in [
            ["--max-payload-bytes", "1048577"],
            ["--max-payload-bytes", "0"],
            ["--rescue-interval", "0s"],
            ["--retention-done", "soon"],
        ] {
            assert!(parse(&args).is_err(), "{args:?}");
        }
    }
}
