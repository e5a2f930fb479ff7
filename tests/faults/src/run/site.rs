//! Parts of a run: databases, servers, workers, submitters, and the network between them.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use jobqueue_test_postgres::{Cluster, Setup};
use jobqueue_tests::api::Api;

use super::{
    Programs,
    disk::Disk,
    fault::{LEASE_MS, SUBMITTERS, Store, WORKERS},
    slot::{Slot, Surprise},
};
use crate::proxy::Proxy;

/// Size of a disk, enough for a long run; unused space costs nothing.
const DISK_BYTES: u64 = 4 << 30;
/// Maximum number of connections of a server to PostgreSQL.
const CONNECTIONS: u32 = 8;
const TICK: Duration = Duration::from_millis(10);
/// Time limit for a part to come up on a busy machine.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// PostgreSQL server with a disk of its own.
#[derive(Debug)]
pub(super) struct Node {
    // The fields are dropped in this order: the server before its disk.
    pub(super) cluster: Cluster,
    pub(super) disk: Disk,
}

#[derive(Debug)]
pub(super) enum Database {
    Sqlite(Disk),
    /// The standby is `None` only while a new one is made.
    Postgres {
        primary: Box<Node>,
        standby: Option<Box<Node>>,
    },
}

pub(super) struct Site {
    pub(super) store: Store,
    seed: u64,
    programs: Programs,
    /// Folder of histories and logs.
    pub(super) folder: PathBuf,
    pub(super) submitters: Vec<Slot>,
    pub(super) workers: Vec<Slot>,
    pub(super) servers: Vec<Slot>,
    pub(super) server_addrs: Vec<SocketAddr>,
    /// Proxies between the clients and each server.
    pub(super) to_servers: Vec<Proxy>,
    /// Proxies between each server and PostgreSQL.
    pub(super) to_database: Vec<Proxy>,
    pub(super) database: Database,
    pub(super) surprises: Vec<Surprise>,
}

impl Site {
    /// Starts all parts; returns when the servers listen and the workers and submitters run.
    pub(super) async fn start(store: Store, seed: u64, programs: Programs, folder: PathBuf) -> Result<Self> {
        let database = match store {
            Store::Sqlite => Database::Sqlite(Disk::mount(DISK_BYTES)?),
            Store::Postgres => {
                let primary = Node::start()?;
                primary.cluster.create_database("faults")?;
                let standby = Some(Box::new(primary.standby()?));
                Database::Postgres { primary: Box::new(primary), standby }
            }
        };
        let mut site = Self {
            store,
            seed,
            programs,
            folder,
            submitters: (1..=SUBMITTERS).map(|number| Slot::new("submitter", number, false)).collect(),
            workers: (1..=WORKERS).map(|number| Slot::new("worker", number, false)).collect(),
            servers: (1..=store.servers()).map(|number| Slot::new("server", number, true)).collect(),
            server_addrs: Vec::new(),
            to_servers: Vec::new(),
            to_database: Vec::new(),
            database,
            surprises: Vec::new(),
        };
        for _ in 0..store.servers() {
            let addr = free_addr()?;
            site.server_addrs.push(addr);
            site.to_servers.push(Proxy::start(addr).await?);
            if store == Store::Postgres {
                site.to_database.push(Proxy::start(site.primary_addr()?).await?);
            }
        }
        site.until("all parts run", PATIENCE, |site| Ok(site.all_ready())).await?;
        Ok(site)
    }

    pub(super) fn primary(&self) -> Result<&Node> {
        match &self.database {
            Database::Postgres { primary, .. } => Ok(primary),
            Database::Sqlite(_) => bail!("SQLite has no primary"),
        }
    }

    pub(super) fn primary_addr(&self) -> Result<SocketAddr> {
        Ok((Ipv4Addr::LOCALHOST, self.primary()?.cluster.port()?).into())
    }

    /// The disk that the jobs are written to.
    pub(super) fn disk(&self) -> &Disk {
        match &self.database {
            Database::Sqlite(disk) => disk,
            Database::Postgres { primary, .. } => &primary.disk,
        }
    }

    pub(super) fn api(&self, server: usize) -> Api {
        Api::at(self.server_addrs[server])
    }

    fn slots(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.servers.iter_mut().chain(&mut self.workers).chain(&mut self.submitters)
    }

    pub(super) fn all_ready(&self) -> bool {
        self.servers.iter().chain(&self.workers).chain(&self.submitters).all(Slot::is_ready)
    }

    /// Starts the programs that are due, and records those that have ended unexpectedly.
    pub(super) fn tick(&mut self) -> Result<()> {
        let mut surprises = Vec::new();
        for slot in self.slots() {
            surprises.extend(slot.tick()?);
        }
        self.surprises.append(&mut surprises);
        for server in 0..self.servers.len() {
            if self.servers[server].is_due() {
                let command = self.server(server);
                self.servers[server].start(&command, &self.folder)?;
            }
        }
        if !self.servers.iter().all(Slot::is_ready) && self.workers.iter().all(|worker| worker.running.is_none()) {
            // At the very start, clients are started only once all servers listen.
            return Ok(());
        }
        for worker in 0..self.workers.len() {
            if self.workers[worker].is_due() {
                let command = self.worker(worker);
                self.workers[worker].start(&command, &self.folder)?;
            }
        }
        for submitter in 0..self.submitters.len() {
            if self.submitters[submitter].is_due() {
                let command = self.submitter(submitter);
                self.submitters[submitter].start(&command, &self.folder)?;
            }
        }
        Ok(())
    }

    /// Waits for a time, and keeps the programs running meanwhile.
    pub(super) async fn live_for(&mut self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.tick()?;
            tokio::time::sleep(TICK.min(end.saturating_duration_since(Instant::now()))).await;
        }
        Ok(())
    }

    /// Waits until a condition holds, and keeps the programs running meanwhile.
    pub(super) async fn until(
        &mut self,
        what: &str,
        patience: Duration,
        mut is_so: impl FnMut(&mut Self) -> Result<bool>,
    ) -> Result<()> {
        let end = Instant::now() + patience;
        loop {
            self.tick()?;
            if is_so(self)? {
                return Ok(());
            }
            if Instant::now() > end {
                bail!("not within {patience:?}: {what}");
            }
            tokio::time::sleep(TICK).await;
        }
    }

    /// URL of the servers' database, without the proxies.
    pub(super) fn direct_url(&self) -> String {
        match &self.database {
            Database::Sqlite(disk) => sqlite_url(disk),
            Database::Postgres { primary, .. } => primary.cluster.url("faults"),
        }
    }

    pub(super) fn server_program(&self) -> &Path {
        &self.programs.server
    }

    fn server(&self, server: usize) -> Command {
        let url = match &self.database {
            Database::Sqlite(disk) => sqlite_url(disk),
            Database::Postgres { .. } => format!("postgres://postgres@{}/faults", self.to_database[server].addr()),
        };
        let mut command = Command::new(&self.programs.server);
        command.args(["--database-url", &url, "--database-max-connections", &CONNECTIONS.to_string()]);
        command.args(["--grpc-addr", &self.server_addrs[server].to_string(), "--http-addr", "127.0.0.1:0"]);
        command.args(["--shutdown-grace", "10s", "--log", "info,sqlx=warn"]);
        command
    }

    fn worker(&self, worker: usize) -> Command {
        // Each worker calls one server, so that a fault of one server does not affect all of them.
        let proxy = &self.to_servers[worker % self.to_servers.len()];
        let mut command = self.client("worker", &self.workers[worker], &[proxy.addr()]);
        command.args(["--lease-ms", &LEASE_MS.to_string()]);
        if worker + 1 == WORKERS {
            command.arg("--bare");
        }
        command
    }

    fn submitter(&self, submitter: usize) -> Command {
        let mut addrs: Vec<_> = self.to_servers.iter().map(Proxy::addr).collect();
        let servers = addrs.len();
        addrs.rotate_left(submitter % servers);
        self.client("submitter", &self.submitters[submitter], &addrs)
    }

    fn client(&self, what: &str, slot: &Slot, servers: &[SocketAddr]) -> Command {
        let mut command = Command::new(&self.programs.clients);
        command.args([what, "--name", &slot.next_name(), "--seed", &self.seed.to_string(), "--history"]);
        command.arg(&self.folder);
        for addr in servers {
            command.args(["--server", &format!("http://{addr}")]);
        }
        command
    }
}

impl Node {
    fn start() -> Result<Self> {
        let disk = Disk::mount(DISK_BYTES)?;
        let cluster = Cluster::start_with(&setup(&disk)).context("PostgreSQL does not start")?;
        Ok(Self { cluster, disk })
    }

    /// New standby that follows this server synchronously.
    pub(super) fn standby(&self) -> Result<Self> {
        let disk = Disk::mount(DISK_BYTES)?;
        let cluster = self.cluster.start_standby(&setup(&disk)).context("the standby does not start")?;
        Ok(Self { cluster, disk })
    }

    /// Text of PostgreSQL's log.
    pub(super) fn log(&self) -> Result<String> {
        let log = std::fs::read(self.cluster.folder()?.join("server.log"))?;
        Ok(String::from_utf8_lossy(&log).into_owned())
    }
}

fn setup(disk: &Disk) -> Setup {
    let settings = [
        // A standby that lost its primary connects again quickly; until then no submit is acknowledged.
        ("wal_retrieve_retry_interval", "200ms"),
        ("max_wal_size", "256MB"),
        ("log_line_prefix", "%m [%p] "),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    Setup { settings, parent: Some(disk.path().to_owned()) }
}

fn sqlite_url(disk: &Disk) -> String {
    format!("sqlite://{}", disk.path().join("jobqueue.db").display())
}

/// Address on 127.0.0.1 with a port that is free at present.
fn free_addr() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
