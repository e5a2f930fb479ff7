//! Settings of the server that serves: addresses, limits, intervals and retentions.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, value_parser};
use jobqueue_shared::limits;
use jobqueue_store::Retention;

use super::{
    browser_names::{HostName, Origin},
    durations::{DAY, peer_time, rescue_interval, retention},
};

/// Retention of idempotency keys.
const KEYS: Duration = DAY;

/// Settings of the server that serves.
#[derive(Clone, Debug, Args)]
pub struct Serve {
    /// Address for programs and workers (gRPC and gRPC-web). Port 0 takes a free one.
    #[arg(long, env = "JOBQUEUE_GRPC_ADDR", default_value = "127.0.0.1:50051", value_name = "IP:PORT")]
    pub grpc_addr: SocketAddr,

    /// Address for browsers and Prometheus (dashboard, /metrics, gRPC-web). Port 0 takes a free one.
    #[arg(long, env = "JOBQUEUE_HTTP_ADDR", default_value = "127.0.0.1:8080", value_name = "IP:PORT")]
    pub http_addr: SocketAddr,

    #[command(flatten)]
    pub tls: super::tls::Tls,

    /// Folder of a built dashboard, read at the start, instead of the one in the binary.
    #[arg(long, env = "JOBQUEUE_DASHBOARD_DIR", value_name = "DIR")]
    pub dashboard_dir: Option<PathBuf>,

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

    /// Retention of operations, from their ends.
    #[arg(
        long,
        env = "JOBQUEUE_RETENTION_OPERATIONS",
        default_value = "90d",
        value_name = "TIME",
        value_parser = retention
    )]
    pub retention_operations: Duration,

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

impl Serve {
    /// Checks that other machines can reach the addresses only if their clients prove who they are, or if that is allowed
    /// expressly; the error is one line for the operator.
    pub fn check_addresses(&self) -> Result<(), String> {
        let open = [("--grpc-addr", self.grpc_addr), ("--http-addr", self.http_addr)]
            .into_iter()
            .find(|(_, addr)| !addr.ip().is_loopback());
        match open {
            Some((flag, addr)) if !self.insecure_allow_remote && self.tls.client_ca.is_none() => Err(format!(
                "{flag} {addr} can be reached from other machines, and whoever reaches it could submit, read and delete \
                 jobs. Listen on 127.0.0.1, or let only clients with a certificate in (--tls-cert, --tls-key and \
                 --tls-client-ca), or, on a closed network, add --insecure-allow-remote"
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

    pub fn retention(&self) -> Retention {
        Retention {
            done_ms: self.retention_done.as_millis() as i64,
            cancelled_ms: self.retention_cancelled.as_millis() as i64,
            dead_letters_ms: self.retention_dead_letters.as_millis() as i64,
            keys_ms: KEYS.as_millis() as i64,
            operations_ms: self.retention_operations.as_millis() as i64,
        }
    }
}
