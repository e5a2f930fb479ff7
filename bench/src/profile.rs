//! Profile, recorded with perf, of where the server, the database and the client spend their time under a load.

use std::{fs, path::PathBuf, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail};
use clap::{Args, ValueEnum};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child as Process, Command};

use crate::{
    load::{
        child::{Child, Role},
        steps::{SLOTS, WORKER_ID_PREFIX, preload, progress, warm_up},
        submit::{Amount, SubmitPlan, Submitted},
        work::{Handled, WorkPlan},
    },
    measure::resources,
    under_test::{
        api::Api,
        database::{Database, Store},
        postgres::Postgres,
        server::Server,
    },
};

/// Samples per second; not a divisor of anything that happens at a steady pace.
const FREQUENCY: &str = "199";
/// Call graphs by DWARF tables, for programs built without frame pointers, with 16,384 bytes of stack per sample.
const CALL_GRAPH: &str = "dwarf,16384";
const CALLERS: usize = 64;
const SECONDS: f64 = 10.0;
const DRAINED: u64 = 400_000;

#[derive(Args, Debug)]
pub struct Options {
    #[arg(value_enum)]
    pub what: Load,
    #[arg(long, value_enum, default_value = "postgres")]
    pub store: Store,
    /// Folder for the recordings: WHAT-PROCESS.perf
    #[arg(long, value_name = "FOLDER")]
    pub folder: PathBuf,
}

/// Load that is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Load {
    /// 64 callers that submit one job a call
    Submit,
    /// A no-op worker that works off waiting jobs
    Drain,
}

pub async fn run(options: Options) -> Result<()> {
    fs::create_dir_all(&options.folder)?;
    let database = match options.store {
        Store::Sqlite => Database::in_file()?,
        Store::Postgres => Database::in_cluster(&Arc::new(Postgres::start().await?))?,
    };
    let server = Server::start(&database, &[]).await?;
    warm_up(&server.endpoint).await?;
    let role = match options.what {
        Load::Submit => {
            let amount = Amount::Seconds { warm_up: 0.0, measure: SECONDS };
            Role::Submit(SubmitPlan::new(&server.endpoint, WORKER_ID_PREFIX, CALLERS, amount))
        }
        Load::Drain => {
            progress(&format!("{DRAINED} jobs to drain"));
            preload(&server.endpoint, DRAINED, |_| {}).await?;
            Role::Work(WorkPlan::new(&server.endpoint, WORKER_ID_PREFIX, SLOTS))
        }
    };
    let mut client = Child::start(&role).await?;
    let api = Api::connect(&server.endpoint).await?;
    let done = api.done().await?;
    let mut recordings = vec![
        Recording::start(&options, "server", &[server.pid()])?,
        Recording::start(&options, "client", &[client.pid()])?,
    ];
    if let Some(cluster) = database.cluster() {
        recordings.push(Recording::start(&options, "postgres", &resources::descendants(cluster.pid()?))?);
    }
    progress("recording");
    client.go().await?;
    let jobs = match options.what {
        Load::Submit => client.receive::<Submitted>().await?.all,
        Load::Drain => {
            api.until_done(done + DRAINED).await?;
            DRAINED
        }
    };
    for recording in recordings {
        recording.stop().await?;
    }
    if options.what == Load::Drain {
        client.finish::<Handled>().await?;
    }
    progress(&format!("{jobs} jobs"));
    server.stop().await
}

/// Running perf that records some processes.
struct Recording {
    name: String,
    perf: Process,
}

impl Recording {
    /// Starts perf with the event `cpu-clock`, because virtual machines have no counter of cycles.
    fn start(options: &Options, part: &str, pids: &[u32]) -> Result<Self> {
        let what = options.what.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let name = format!("{what}-{part}");
        let pids: Vec<String> = pids.iter().map(u32::to_string).collect();
        let mut perf = Command::new("perf");
        perf.args(["record", "--event=cpu-clock", "--freq", FREQUENCY, "--call-graph", CALL_GRAPH]);
        perf.arg("--output").arg(options.folder.join(format!("{name}.perf"))).args(["--pid", &pids.join(",")]);
        perf.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true);
        Ok(Self { name, perf: perf.spawn().context("cannot run perf")? })
    }

    async fn stop(mut self) -> Result<()> {
        if let Some(status) = self.perf.try_wait()? {
            // The recorded processes have ended before perf was told to stop.
            if status.success() {
                return Ok(());
            }
            bail!("perf did not record {} ({status})", self.name);
        }
        let pid = self.perf.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)).context("perf is gone")?;
        kill_process(pid, Signal::INT)?;
        let ended = tokio::time::timeout(Duration::from_mins(2), self.perf.wait()).await;
        ended.context("perf does not end")??;
        Ok(())
    }
}
