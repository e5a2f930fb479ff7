//! Settings of a worker. The builder checks them before the worker runs.

use std::time::Duration;

use crate::connection::tls::Tls;

/// Settings of a worker.
pub(crate) struct Config {
    /// Address of the server: `http://host:port` or `https://host:port`.
    pub(crate) endpoint: String,
    pub(crate) tls: Tls,
    pub(crate) worker_id: String,
    /// Maximum number of jobs that run at once.
    pub(crate) concurrency: usize,
    pub(crate) lease_time: Duration,
    /// Time that running jobs have to finish once the worker is stopped.
    pub(crate) grace: Duration,
    /// Whether the worker declares earlier runs gone when it starts.
    pub(crate) takeover: bool,
    /// Time limit of an attempt of any job.
    pub(crate) attempt_timeout: Option<Duration>,
    /// Name of this host, and version of the program, as the list of workers shows them.
    pub(crate) host: String,
    pub(crate) version: String,
}
