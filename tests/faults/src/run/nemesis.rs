//! Nemesis: causes the faults, and proves of each that it happened.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use chrono::{DateTime, Utc};
use rustix::process::Signal;

use super::{
    fault::{Fault, Hop, Kind, Store},
    site::{Database, Node, PATIENCE, Site},
    slot::Running,
    strace::FailingSync,
};
use crate::{
    history::{self, Phase, Recorder, Recovery},
    proxy::{Counts, Proxy, Weather},
};

/// Time within which a fault that depends on traffic must have had an effect.
const FELT_WITHIN: Duration = Duration::from_secs(20);

pub(super) struct Nemesis<'a> {
    pub(super) site: &'a mut Site,
    pub(super) recorder: &'a Recorder,
    next: u32,
    pub(super) calls: u64,
}

impl<'a> Nemesis<'a> {
    pub(super) fn new(site: &'a mut Site, recorder: &'a Recorder) -> Self {
        Self { site, recorder, next: 0, calls: 0 }
    }

    /// Carries out a fault on a healthy site and waits until it is healthy again. An error means that the fault could
    /// not be caused or that a part did not recover.
    pub(super) async fn inflict(&mut self, fault: &Fault) -> Result<()> {
        let kind = fault.kind();
        self.inflict_inner(kind, fault).await.with_context(|| format!("{}: {fault:?}", kind.name()))
    }

    async fn inflict_inner(&mut self, kind: Kind, fault: &Fault) -> Result<()> {
        let ms = Duration::from_millis;
        match *fault {
            Fault::KillWorker { worker, down_ms, calm_ms } => {
                let target = self.site.workers[worker].name();
                let open = self.begin(kind, &target, Recovery::JobsOfTarget)?;
                let killed = self.site.workers[worker].kill9(ms(down_ms))?;
                self.proven_killed(&open, killed.map(|(_, status)| status))?;
                self.site.live_for(ms(calm_ms)).await?;
                self.well(open).await
            }
            Fault::KillServer { server, down_ms } => {
                let target = self.site.servers[server].name();
                let open = self.begin(kind, &target, Recovery::AnyJob)?;
                let killed = self.site.servers[server].kill9(ms(down_ms))?;
                self.proven_killed(&open, killed.map(|(_, status)| status))?;
                self.well(open).await
            }
            Fault::StallWorker { worker, ms: for_ms } => {
                let target = self.site.workers[worker].name();
                let open = self.begin(kind, &target, Recovery::NotMeasured)?;
                self.stall(open, ms(for_ms), |site| site.workers[worker].running.as_ref()).await
            }
            Fault::StallServer { server, ms: for_ms } => {
                let target = self.site.servers[server].name();
                let open = self.begin(kind, &target, Recovery::NotMeasured)?;
                self.stall(open, ms(for_ms), |site| site.servers[server].running.as_ref()).await
            }
            Fault::RestartWorkers { gap_ms } => {
                let mut all = Vec::new();
                for worker in 0..self.site.workers.len() {
                    let target = self.site.workers[worker].name();
                    all.push((worker, target.clone(), self.begin(kind, &target, Recovery::AnyJob)?));
                    self.site.workers[worker].terminate()?;
                    self.site.live_for(ms(gap_ms)).await?;
                }
                for (worker, target, open) in all {
                    let ended = |site: &mut Site| Ok(site.workers[worker].name() != target);
                    self.site.until("a worker that was told to end has ended", PATIENCE, ended).await?;
                    self.injected(&open, "it has ended")?;
                    self.well(open).await?;
                }
                Ok(())
            }
            Fault::RestartServers { times } => {
                let servers = self.site.servers.len();
                for server in (0..times).flat_map(|_| 0..servers) {
                    let target = self.site.servers[server].name();
                    let open = self.begin(kind, &target, Recovery::AnyJob)?;
                    self.site.servers[server].terminate()?;
                    let ended = |site: &mut Site| Ok(site.servers[server].name() != target);
                    self.site.until("a server that was told to end has ended", PATIENCE, ended).await?;
                    self.injected(&open, "it has ended")?;
                    self.well(open).await?;
                }
                Ok(())
            }
            Fault::WorkerClock { worker, hours, ms: for_ms } => {
                let target = self.site.workers[worker].next_name();
                let open = self.begin(kind, &target, Recovery::NotMeasured)?;
                self.site.workers[worker].changes.hours = Some(hours);
                self.restart_worker(worker).await?;
                let loaded = |site: &mut Site| match &site.workers[worker].running {
                    Some(running) => Ok(running.has_loaded("libfaketime")?),
                    None => Ok(false),
                };
                self.site.until("the worker runs with another clock", FELT_WITHIN, loaded).await?;
                self.injected(&open, &format!("{hours:+} h"))?;
                self.site.live_for(ms(for_ms)).await?;
                self.site.workers[worker].changes.hours = None;
                self.restart_worker(worker).await?;
                self.well(open).await
            }
            Fault::ServerClock { server, hours, ms: for_ms } => {
                let target = self.site.servers[server].next_name();
                let open = self.begin(kind, &target, Recovery::NotMeasured)?;
                self.site.servers[server].changes.hours = Some(hours);
                self.restart_server(server).await?;
                let log = self.site.servers[server].running.as_ref().map(Running::log).unwrap_or_default();
                let off = hours_off(&log).context("its log tells no time")?;
                ensure!((off - f64::from(hours)).abs() < 0.1, "its log is {off} hours off");
                self.injected(&open, &format!("its log is {off:+.2} h off"))?;
                self.site.live_for(ms(for_ms)).await?;
                self.site.servers[server].changes.hours = None;
                self.restart_server(server).await?;
                self.well(open).await
            }
            Fault::Failpoints { server, ref spec, ms: for_ms } => {
                let target = self.site.servers[server].next_name();
                let open = self.begin(kind, &target, Recovery::NotMeasured)?;
                self.site.servers[server].changes.failpoints.clone_from(spec);
                let first = self.site.servers[server].latest() + 1;
                self.restart_server(server).await?;
                self.site.live_for(ms(for_ms)).await?;
                let fired = |site: &mut Site| site.failpoints_fired(server, first);
                self.site.until("a failpoint fired", FELT_WITHIN, |site| Ok(fired(site) > 0)).await?;
                let times = fired(self.site);
                self.injected(&open, &format!("fired {times} times: {spec}"))?;
                self.site.servers[server].changes.failpoints.clear();
                self.restart_server(server).await?;
                self.well(open).await
            }
            Fault::DiskFull { ms: for_ms } => self.fill_disk(kind, ms(for_ms)).await,
            Fault::FsyncError { ms: for_ms } => self.fail_syncs(kind, ms(for_ms)).await,
            Fault::KillPostmaster { down_ms } => {
                let open = self.begin(kind, "postgres", Recovery::AnyJob)?;
                self.site.primary()?.cluster.kill9()?;
                ensure!(!self.site.primary()?.cluster.is_running()?, "it still runs");
                self.injected(&open, "all its processes are gone")?;
                self.site.live_for(ms(down_ms)).await?;
                self.site.primary()?.cluster.restart()?;
                self.well(open).await
            }
            Fault::KillBackend => {
                let open = self.begin(kind, "postgres", Recovery::AnyJob)?;
                let pid = self.a_backend()?;
                let target = rustix::process::Pid::from_raw(pid).context("no process")?;
                rustix::process::kill_process(target, Signal::KILL)?;
                let gone = |_: &mut Site| Ok(!std::path::Path::new(&format!("/proc/{pid}")).exists());
                self.site.until("the backend is gone", FELT_WITHIN, gone).await?;
                self.injected(&open, &format!("process {pid} is gone"))?;
                self.well(open).await
            }
            Fault::EndBackends { times } => {
                let open = self.begin(kind, "postgres", Recovery::NotMeasured)?;
                let mut ended = 0;
                for _ in 0..times {
                    let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'faults'";
                    ended += self.site.primary()?.cluster.query(sql)?.parse::<u64>().unwrap_or_default();
                    self.site.live_for(ms(300)).await?;
                }
                ensure!(ended > 0, "nobody was connected");
                self.injected(&open, &format!("{ended} connections ended"))?;
                self.well(open).await
            }
            Fault::Promote { kill_old } => self.promote(kind, kill_old).await,
            Fault::Latency { hop, late_ms, ms: for_ms } => {
                let weather = Weather { latency: ms(late_ms), ..Weather::default() };
                self.weather(kind, hop, weather, ms(for_ms), |counts| counts.delayed).await
            }
            Fault::OneWay { hop, to_target, ms: for_ms } => {
                let weather = Weather { block_to_target: to_target, block_to_client: !to_target, ..Weather::default() };
                self.weather(kind, hop, weather, ms(for_ms), |counts| counts.held).await
            }
            Fault::Resets { hop, times, every_ms } => {
                let open = self.begin(kind, &hop_name(hop), Recovery::NotMeasured)?;
                let mut reset = 0;
                for _ in 0..times {
                    reset += self.site.proxy(hop).reset_all();
                    self.site.live_for(ms(every_ms)).await?;
                }
                ensure!(reset > 0, "there were no connections");
                self.injected(&open, &format!("{reset} connections were reset"))?;
                self.well(open).await
            }
            Fault::HalfOpen { hop, ms: for_ms } => {
                let open = self.begin(kind, &hop_name(hop), Recovery::NotMeasured)?;
                let dead = self.site.proxy(hop).half_open();
                ensure!(dead > 0, "there were no connections");
                self.injected(&open, &format!("{dead} connections are dead and open"))?;
                self.site.live_for(ms(for_ms)).await?;
                self.well(open).await
            }
        }
    }

    async fn stall(
        &mut self,
        open: history::Fault,
        time: Duration,
        running: impl Fn(&Site) -> Option<&Running>,
    ) -> Result<()> {
        let process = |site: &Site| running(site).map(Running::pid);
        let pid = process(self.site).context("it does not run")?;
        let signal = |site: &Site, signal| match running(site) {
            Some(it) if it.pid() == pid => Ok(it.signal(signal)?),
            _ => bail!("it ended while it was stopped"),
        };
        signal(self.site, Signal::STOP)?;
        let stopped = |site: &mut Site| Ok(running(site).context("it ended")?.state()? == 'T');
        self.site.until("the process is stopped", FELT_WITHIN, stopped).await?;
        self.injected(&open, "its state is T")?;
        self.site.live_for(time).await?;
        signal(self.site, Signal::CONT)?;
        self.well(open).await
    }

    async fn weather(
        &mut self,
        kind: Kind,
        hop: Hop,
        weather: Weather,
        time: Duration,
        count: impl Fn(Counts) -> u64,
    ) -> Result<()> {
        let open = self.begin(kind, &hop_name(hop), Recovery::NotMeasured)?;
        let before = count(self.site.proxy(hop).counts());
        self.site.proxy(hop).set(weather);
        self.site.live_for(time).await?;
        let felt = |site: &mut Site| Ok(count(site.proxy(hop).counts()) > before);
        let felt = self.site.until("somebody felt it", FELT_WITHIN, felt).await;
        let felt_by = count(self.site.proxy(hop).counts()) - before;
        self.site.proxy(hop).heal();
        felt?;
        self.injected(&open, &format!("{felt_by} chunks felt it"))?;
        self.well(open).await
    }

    async fn fill_disk(&mut self, kind: Kind, time: Duration) -> Result<()> {
        let open = self.begin(kind, "the database's disk", Recovery::NotMeasured)?;
        let before = self.site.complaints_of_space()?;
        self.site.disk().fill()?;
        // Writes that need no new space still succeed.
        let felt = |site: &mut Site| Ok(site.complaints_of_space()? > before);
        let felt = self.site.until("a write found no space", FELT_WITHIN, felt).await;
        self.site.live_for(time).await?;
        self.site.disk().empty()?;
        felt?;
        let complaints = self.site.complaints_of_space()? - before;
        self.injected(&open, &format!("{complaints} complaints in the log"))?;
        if self.site.store == Store::Postgres && !self.site.primary()?.cluster.is_running()? {
            // PostgreSQL had no space even for its recovery; with space again, an operator can start it.
            self.site.primary()?.cluster.restart()?;
        }
        self.well(open).await
    }

    async fn fail_syncs(&mut self, kind: Kind, time: Duration) -> Result<()> {
        let open = self.begin(kind, "the database's disk", Recovery::NotMeasured)?;
        let output = self.site.folder.join(format!("strace-{}", open.id));
        let strace = match &self.site.database {
            Database::Sqlite(_) => {
                let server = self.site.servers[0].running.as_ref().context("the server does not run")?;
                FailingSync::attach(&[server.pid()], true, &output)?
            }
            // Only the present child processes: PostgreSQL ends them all at the first error, and the new ones can sync.
            Database::Postgres { primary, .. } => {
                let processes = primary.cluster.processes()?;
                FailingSync::attach(&processes[1..], false, &output)?
            }
        };
        let felt = self.site.until("a sync failed", FELT_WITHIN, |_| Ok(strace.injected() > 0)).await;
        if self.site.store == Store::Sqlite {
            self.site.live_for(time).await?;
        }
        let failed = strace.detach();
        felt?;
        self.injected(&open, &format!("{failed} calls failed with EIO"))?;
        if self.site.store == Store::Postgres && !self.site.primary()?.cluster.is_running()? {
            self.site.primary()?.cluster.restart()?;
        }
        self.well(open).await
    }

    async fn promote(&mut self, kind: Kind, kill_old: bool) -> Result<()> {
        let open = self.begin(kind, "postgres", Recovery::AnyJob)?;
        let Database::Postgres { primary, standby } = &mut self.site.database else { bail!("SQLite has no standby") };
        let promoted = standby.take().context("there is no standby")?;
        if kill_old {
            primary.cluster.kill9()?;
        }
        promoted.cluster.promote()?;
        let old = std::mem::replace(primary, promoted);
        let addr = self.site.primary_addr()?;
        for proxy in &self.site.to_database {
            proxy.retarget(addr);
        }
        let at_home = |site: &mut Site| {
            let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = 'faults'";
            Ok(site.primary()?.cluster.query(sql)? != "0")
        };
        self.site.until("a server has found the new primary", PATIENCE, at_home).await?;
        self.injected(&open, if kill_old { "the old one was lost" } else { "the old one lived on" })?;
        if !kill_old {
            // No server reaches the old primary any more, and commits that wait in it for a standby stay
            // unacknowledged.
            let rows = |node: &Node| {
                let sql = "SELECT (SELECT count(*) FROM jobs), (SELECT count(*) FROM done)";
                node.cluster.query_in("faults", sql)
            };
            let before = rows(&old)?;
            self.site.live_for(Duration::from_millis(700)).await?;
            let after = rows(&old)?;
            ensure!(before == after, "somebody wrote to the old primary: {before} rows became {after}");
        }
        // The old primary is replaced by a new standby; commits that only the old one had are lost.
        drop(old);
        let standby = self.site.primary()?.standby()?;
        if let Database::Postgres { standby: place, .. } = &mut self.site.database {
            *place = Some(Box::new(standby));
        }
        self.well(open).await
    }

    /// Process id of a backend that serves one of the servers, an active one if there is any.
    fn a_backend(&self) -> Result<i32> {
        let sql = "SELECT pid FROM pg_stat_activity WHERE datname = 'faults'
                   ORDER BY state = 'active' DESC, xact_start NULLS LAST, pid LIMIT 1";
        let pid = self.site.primary()?.cluster.query(sql)?;
        pid.parse().with_context(|| format!("no backend serves the servers: {pid:?}"))
    }

    async fn restart_server(&mut self, server: usize) -> Result<()> {
        let before = self.site.servers[server].latest();
        self.site.servers[server].terminate()?;
        let is_up = |site: &mut Site| Ok(site.servers[server].is_ready() && site.servers[server].latest() > before);
        self.site.until("the server is up again", PATIENCE, is_up).await
    }

    async fn restart_worker(&mut self, worker: usize) -> Result<()> {
        let before = self.site.workers[worker].latest();
        self.site.workers[worker].terminate()?;
        let is_up = |site: &mut Site| Ok(site.workers[worker].is_ready() && site.workers[worker].latest() > before);
        self.site.until("the worker is up again", PATIENCE, is_up).await
    }

    fn begin(&mut self, kind: Kind, target: &str, recovery: Recovery) -> Result<history::Fault> {
        self.next += 1;
        let fault = history::Fault {
            id: self.next,
            fault: kind.name().to_owned(),
            target: target.to_owned(),
            phase: Phase::Begins,
            planned: kind.is_planned(),
            crashes_database: kind.crashes_database(),
            recovery,
            detail: String::new(),
        };
        self.recorder.record(history::Kind::Fault(fault.clone()))?;
        Ok(fault)
    }

    fn injected(&self, open: &history::Fault, proof: &str) -> Result<()> {
        let fault = history::Fault { phase: Phase::Injected, detail: proof.to_owned(), ..open.clone() };
        Ok(self.recorder.record(history::Kind::Fault(fault))?)
    }

    fn proven_killed(&self, open: &history::Fault, status: Option<std::process::ExitStatus>) -> Result<()> {
        use std::os::unix::process::ExitStatusExt as _;
        let status = status.context("it did not run")?;
        ensure!(status.signal() == Some(Signal::KILL.as_raw()), "it ended with {status}");
        self.injected(open, &status.to_string())
    }

    /// Waits until every part runs and every server serves.
    async fn well(&mut self, open: history::Fault) -> Result<()> {
        self.site.until("all parts run again", PATIENCE, |site| Ok(site.all_ready())).await?;
        self.all_serve().await?;
        let fault = history::Fault { phase: Phase::Healed, ..open };
        Ok(self.recorder.record(history::Kind::Fault(fault))?)
    }
}

impl Site {
    fn proxy(&self, hop: Hop) -> &Proxy {
        match hop {
            Hop::Clients(server) => &self.to_servers[server],
            Hop::Database(server) => &self.to_database[server],
        }
    }

    fn failpoints_fired(&self, server: usize, from: u32) -> usize {
        let mut fired = 0;
        for number in from..=self.servers[server].latest() {
            let log = self.folder.join(format!("server-{}.{number}.log", server + 1));
            let log = std::fs::read(log).unwrap_or_default();
            fired += String::from_utf8_lossy(&log).matches("failpoint fired").count();
        }
        fired
    }

    /// Number of log lines that report a lack of space. PostgreSQL's log is on the full disk itself, and may have had
    /// no room for the line; the servers' logs are elsewhere.
    fn complaints_of_space(&self) -> Result<usize> {
        let mut logs: Vec<String> =
            self.servers.iter().filter_map(|server| server.running.as_ref()).map(Running::log).collect();
        if let Database::Postgres { primary, .. } = &self.database {
            logs.push(primary.log()?);
        }
        let complaints = ["the storage is full", "No space left on device"];
        Ok(logs.iter().map(|log| complaints.iter().map(|what| log.matches(what).count()).sum::<usize>()).sum())
    }
}

fn hop_name(hop: Hop) -> String {
    match hop {
        Hop::Clients(server) => format!("clients to server-{}", server + 1),
        Hop::Database(server) => format!("server-{} to postgres", server + 1),
    }
}

/// Difference, in hours, between the time of a log's last line and the present time.
fn hours_off(log: &str) -> Option<f64> {
    let line = log.lines().rev().find(|line| line.starts_with("20"))?;
    let stamp = line.split_whitespace().next()?;
    let ahead = DateTime::parse_from_rfc3339(stamp).ok()?.to_utc() - Utc::now();
    Some(ahead.as_seconds_f64() / 3_600.0)
}
