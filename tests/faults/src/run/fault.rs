//! Faults: each one's action, its target and its duration.

use rand::{Rng as _, rngs::StdRng, seq::IndexedRandom as _};

/// Database of the jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Store {
    Sqlite,
    Postgres,
}

impl Store {
    pub fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::Postgres => "postgres",
        }
    }

    /// Number of servers: SQLite's file belongs to one process.
    pub fn servers(self) -> usize {
        match self {
            Self::Sqlite => 1,
            Self::Postgres => 2,
        }
    }
}

pub(super) const WORKERS: usize = 4;
pub(super) const SUBMITTERS: usize = 4;
/// Lease time of the workers' sessions, in milliseconds: the shortest that is allowed.
pub(super) const LEASE_MS: u64 = 5_000;

/// Kind of a fault, by which figures are grouped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    KillWorker,
    KillServer,
    KillPostmaster,
    Promote,
    StallWorker,
    Failpoints,
    ClientResets,
    KillBackend,
    FsyncError,
    DiskFull,
    RestartServers,
    RestartWorkers,
    StallServer,
    ClientHalfOpen,
    DatabaseHalfOpen,
    ClientOneWay,
    DatabaseOneWay,
    DatabaseResets,
    EndBackends,
    WorkerClock,
    ServerClock,
    ClientLatency,
    DatabaseLatency,
}

impl Kind {
    /// Every kind, the most important first: a short run leaves out the last ones.
    pub const ALL: [Self; 23] = [
        Self::KillWorker,
        Self::KillServer,
        Self::KillPostmaster,
        Self::Promote,
        Self::StallWorker,
        Self::Failpoints,
        Self::ClientResets,
        Self::KillBackend,
        Self::FsyncError,
        Self::DiskFull,
        Self::RestartServers,
        Self::RestartWorkers,
        Self::StallServer,
        Self::ClientHalfOpen,
        Self::DatabaseHalfOpen,
        Self::ClientOneWay,
        Self::DatabaseOneWay,
        Self::DatabaseResets,
        Self::EndBackends,
        Self::WorkerClock,
        Self::ServerClock,
        Self::ClientLatency,
        Self::DatabaseLatency,
    ];

    pub fn of(store: Store) -> Vec<Self> {
        Self::ALL.into_iter().filter(|kind| store == Store::Postgres || !kind.needs_postgres()).collect()
    }

    /// True if the kind needs PostgreSQL: with SQLite the server's clock is the only one, and no network lies behind
    /// it.
    fn needs_postgres(self) -> bool {
        matches!(
            self,
            Self::KillPostmaster
                | Self::Promote
                | Self::KillBackend
                | Self::EndBackends
                | Self::DatabaseHalfOpen
                | Self::DatabaseOneWay
                | Self::DatabaseResets
                | Self::DatabaseLatency
                | Self::ServerClock
        )
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::KillWorker => "kill -9 of a worker",
            Self::KillServer => "kill -9 of a server",
            Self::KillPostmaster => "kill -9 of the postmaster",
            Self::Promote => "promotion of the standby",
            Self::StallWorker => "SIGSTOP of a worker past its lease",
            Self::Failpoints => "failpoints around commits",
            Self::ClientResets => "resets between clients and a server",
            Self::KillBackend => "kill -9 of a backend",
            Self::FsyncError => "fsync error",
            Self::DiskFull => "disk full",
            Self::RestartServers => "SIGTERM of the servers",
            Self::RestartWorkers => "SIGTERM of the workers",
            Self::StallServer => "SIGSTOP of a server",
            Self::ClientHalfOpen => "half-open connections to a server",
            Self::DatabaseHalfOpen => "half-open connections to PostgreSQL",
            Self::ClientOneWay => "one-way loss between clients and a server",
            Self::DatabaseOneWay => "one-way loss between a server and PostgreSQL",
            Self::DatabaseResets => "resets between a server and PostgreSQL",
            Self::EndBackends => "pg_terminate_backend of all",
            Self::WorkerClock => "a worker's clock an hour off",
            Self::ServerClock => "a server's clock an hour off",
            Self::ClientLatency => "latency between clients and a server",
            Self::DatabaseLatency => "latency between a server and PostgreSQL",
        }
    }

    /// True for an operator's normal actions, for which no attempt may be charged.
    pub fn is_planned(self) -> bool {
        matches!(self, Self::RestartServers | Self::RestartWorkers)
    }

    /// True if PostgreSQL may restart without commits that it did not have to flush at once: hand-overs and heartbeats.
    pub fn crashes_database(self) -> bool {
        matches!(self, Self::KillPostmaster | Self::KillBackend | Self::FsyncError | Self::DiskFull | Self::Promote)
    }
}

/// Connection that a network fault affects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Between workers and submitters, and this server.
    Clients(usize),
    /// Between this server and PostgreSQL.
    Database(usize),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    KillWorker {
        worker: usize,
        down_ms: u64,
        /// Time without other faults afterwards, so that the recovery that is measured is from this one.
        calm_ms: u64,
    },
    KillServer {
        server: usize,
        down_ms: u64,
    },
    KillPostmaster {
        down_ms: u64,
    },
    Promote {
        /// True if the old primary is killed; otherwise it lives on for a while, and no server may write to it.
        kill_old: bool,
    },
    StallWorker {
        worker: usize,
        ms: u64,
    },
    Failpoints {
        server: usize,
        spec: String,
        ms: u64,
    },
    KillBackend,
    FsyncError {
        ms: u64,
    },
    DiskFull {
        ms: u64,
    },
    RestartServers {
        times: usize,
    },
    RestartWorkers {
        gap_ms: u64,
    },
    StallServer {
        server: usize,
        ms: u64,
    },
    EndBackends {
        times: usize,
    },
    WorkerClock {
        worker: usize,
        hours: i32,
        ms: u64,
    },
    ServerClock {
        server: usize,
        hours: i32,
        ms: u64,
    },
    Latency {
        hop: Hop,
        late_ms: u64,
        ms: u64,
    },
    Resets {
        hop: Hop,
        times: usize,
        every_ms: u64,
    },
    OneWay {
        hop: Hop,
        to_target: bool,
        ms: u64,
    },
    HalfOpen {
        hop: Hop,
        ms: u64,
    },
}

impl Fault {
    /// Random fault of the kind; `brisk` ones have the shortest duration that still has an effect.
    pub(super) fn random(kind: Kind, store: Store, brisk: bool, rng: &mut StdRng) -> Self {
        let server = rng.random_range(0..store.servers());
        let worker = rng.random_range(0..WORKERS);
        let clients = Hop::Clients(server);
        let database = Hop::Database(server);
        // Random milliseconds of a range; a brisk run uses its lower end.
        let ms = |rng: &mut StdRng, from: u64, to: u64| rng.random_range(from..=if brisk { from } else { to });
        let hours = *[-1, 1].choose(rng).unwrap_or(&1);
        match kind {
            Kind::KillWorker => {
                let calm_ms = if brisk { 0 } else { LEASE_MS + 3_000 };
                Self::KillWorker { worker, down_ms: rng.random_range(0..=500), calm_ms }
            }
            Kind::KillServer => Self::KillServer { server, down_ms: ms(rng, 200, 3_000) },
            Kind::KillPostmaster => Self::KillPostmaster { down_ms: ms(rng, 200, 5_000) },
            Kind::Promote => Self::Promote { kill_old: rng.random() },
            Kind::StallWorker => Self::StallWorker { worker, ms: LEASE_MS + ms(rng, 1_500, 6_000) },
            Kind::Failpoints => Self::Failpoints { server, spec: failpoints(rng), ms: ms(rng, 3_000, 10_000) },
            Kind::KillBackend => Self::KillBackend,
            Kind::FsyncError => Self::FsyncError { ms: ms(rng, 1_000, 4_000) },
            Kind::DiskFull => Self::DiskFull { ms: ms(rng, 1_000, 5_000) },
            Kind::RestartServers => Self::RestartServers { times: if brisk { 1 } else { rng.random_range(1..=3) } },
            Kind::RestartWorkers => Self::RestartWorkers { gap_ms: rng.random_range(0..=500) },
            Kind::StallServer => Self::StallServer { server, ms: ms(rng, 1_500, 7_000) },
            Kind::EndBackends => Self::EndBackends { times: rng.random_range(1..=3) },
            Kind::WorkerClock => Self::WorkerClock { worker, hours, ms: ms(rng, 1_500, 8_000) },
            Kind::ServerClock => Self::ServerClock { server, hours, ms: ms(rng, 1_500, 8_000) },
            Kind::ClientLatency | Kind::DatabaseLatency => {
                let (hop, late_ms) = if kind == Kind::ClientLatency {
                    (clients, rng.random_range(20..=400))
                } else {
                    (database, rng.random_range(5..=100))
                };
                Self::Latency { hop, late_ms, ms: ms(rng, 1_500, 6_000) }
            }
            Kind::ClientResets | Kind::DatabaseResets => {
                let hop = if kind == Kind::ClientResets { clients } else { database };
                Self::Resets { hop, times: rng.random_range(3..=8), every_ms: rng.random_range(50..=300) }
            }
            Kind::ClientOneWay | Kind::DatabaseOneWay => {
                let hop = if kind == Kind::ClientOneWay { clients } else { database };
                Self::OneWay { hop, to_target: rng.random(), ms: ms(rng, 1_500, 8_000) }
            }
            Kind::ClientHalfOpen | Kind::DatabaseHalfOpen => {
                let hop = if kind == Kind::ClientHalfOpen { clients } else { database };
                Self::HalfOpen { hop, ms: ms(rng, 2_000, 10_000) }
            }
        }
    }

    pub fn kind(&self) -> Kind {
        let by_hop = |hop: Hop, clients, database| match hop {
            Hop::Clients(_) => clients,
            Hop::Database(_) => database,
        };
        match *self {
            Self::KillWorker { .. } => Kind::KillWorker,
            Self::KillServer { .. } => Kind::KillServer,
            Self::KillPostmaster { .. } => Kind::KillPostmaster,
            Self::Promote { .. } => Kind::Promote,
            Self::StallWorker { .. } => Kind::StallWorker,
            Self::Failpoints { .. } => Kind::Failpoints,
            Self::KillBackend => Kind::KillBackend,
            Self::FsyncError { .. } => Kind::FsyncError,
            Self::DiskFull { .. } => Kind::DiskFull,
            Self::RestartServers { .. } => Kind::RestartServers,
            Self::RestartWorkers { .. } => Kind::RestartWorkers,
            Self::StallServer { .. } => Kind::StallServer,
            Self::EndBackends { .. } => Kind::EndBackends,
            Self::WorkerClock { .. } => Kind::WorkerClock,
            Self::ServerClock { .. } => Kind::ServerClock,
            Self::Latency { hop, .. } => by_hop(hop, Kind::ClientLatency, Kind::DatabaseLatency),
            Self::Resets { hop, .. } => by_hop(hop, Kind::ClientResets, Kind::DatabaseResets),
            Self::OneWay { hop, .. } => by_hop(hop, Kind::ClientOneWay, Kind::DatabaseOneWay),
            Self::HalfOpen { hop, .. } => by_hop(hop, Kind::ClientHalfOpen, Kind::DatabaseHalfOpen),
        }
    }

    /// Approximate time from the fault's beginning until it is healed.
    pub(super) fn expected_ms(&self) -> u64 {
        const START: u64 = 700;
        match *self {
            Self::KillWorker { down_ms, calm_ms, .. } => START + down_ms + calm_ms,
            Self::KillServer { down_ms, .. } => START + down_ms,
            Self::KillPostmaster { down_ms } => 1_500 + down_ms,
            Self::Promote { .. } => 5_000,
            Self::KillBackend => 1_500,
            Self::RestartServers { times } => 2 * START * times as u64,
            Self::RestartWorkers { gap_ms } => 3_000 + gap_ms * WORKERS as u64,
            Self::EndBackends { times } => 300 * times as u64,
            Self::Resets { times, every_ms, .. } => times as u64 * every_ms,
            Self::Failpoints { ms, .. } | Self::WorkerClock { ms, .. } | Self::ServerClock { ms, .. } => ms + 4 * START,
            Self::FsyncError { ms } | Self::DiskFull { ms } => ms + 2 * START,
            Self::StallWorker { ms, .. }
            | Self::StallServer { ms, .. }
            | Self::Latency { ms, .. }
            | Self::OneWay { ms, .. }
            | Self::HalfOpen { ms, .. } => ms,
        }
    }
}

/// Value of FAILPOINTS: five of the places, each with two actions of low probability.
fn failpoints(rng: &mut StdRng) -> String {
    const PLACES: [&str; 9] = [
        "after_insert",
        "after_settle",
        "after_acquire",
        "after_heartbeat",
        "after_end_session",
        "after_rescue",
        "before_insert",
        "before_settle",
        "insert_commit",
    ];
    const ACTIONS: [&str; 4] = ["5%return(lost)", "1%return(exit)", "2%return(panic)", "5%return(wait 400)"];
    // The two places that are reached many times a second are always included: a fault that never fires proves nothing.
    let mut places = vec!["after_insert", "after_settle"];
    places.extend(PLACES[2..].choose_multiple(rng, 3));
    let set = |place: &str| {
        let actions: Vec<&str> = ACTIONS.choose_multiple(rng, 2).copied().collect();
        format!("{place}={}", actions.join("->"))
    };
    places.into_iter().map(set).collect::<Vec<_>>().join(";")
}
