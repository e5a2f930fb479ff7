//! A run: everything is started, the nemesis carries out its plan, all parts heal and drain, and the histories are
//! judged.
//!
//! Read in this order: `fault` defines the faults, `plan` their order and times; `site` is the set of parts, `slot` one
//! program of it; `nemesis` causes the faults, with `disk` and `strace`, and `probe` checks that every server works
//! afterwards; `after` ends the run; `report` summarises it.

mod after;
mod disk;
mod fault;
mod nemesis;
mod plan;
mod probe;
mod report;
mod site;
mod slot;
mod strace;

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

pub use self::{
    fault::{Fault, Hop, Kind, Store},
    plan::{Step, plan},
    report::Outcome,
};
use self::{nemesis::Nemesis, site::Site};
use crate::{
    check::check,
    history::{History, Recorder},
};

/// Time before the first fault, so that there are jobs to lose.
const WARM_UP: Duration = Duration::from_secs(2);
/// Minimum rate of jobs over the whole run: fewer mean that a part was down for long without being noticed.
const LEAST_JOBS_A_SECOND: u64 = 2;

/// Programs of a run.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `jobqueue-server`, built with its failpoints.
    pub server: PathBuf,
    /// `jobqueue-faults`, for workers and submitters.
    pub clients: PathBuf,
}

/// Options of a run on one store.
#[derive(Clone, Debug)]
pub struct Options {
    pub store: Store,
    pub seed: u64,
    /// Seconds of faults.
    pub seconds: u64,
    pub programs: Programs,
}

/// Carries out a run. Fails when a promise was broken, a fault could not be injected or a part did not recover; the
/// error contains the details and names the folder with the histories and logs, which is kept. `say` gets a line for
/// each step.
pub async fn run(options: &Options, say: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let folder = tempfile::Builder::new().prefix("jobqueue-faults-").tempdir()?;
    match in_folder(options, folder.path(), say).await {
        Ok(outcome) if outcome.is_good() => Ok(outcome),
        Ok(outcome) => {
            let complaints = outcome.complaints();
            let all: String = outcome.report.violations.iter().map(ToString::to_string).collect();
            std::fs::write(folder.path().join("violations.txt"), all)?;
            bail!("{outcome}\n{complaints}\n{}", kept(options, folder))
        }
        Err(error) => Err(error.context(kept(options, folder))),
    }
}

fn kept(Options { store, seed, seconds, .. }: &Options, folder: TempDir) -> String {
    let folder = folder.keep();
    format!(
        "{} with seed {seed} and {seconds} s failed; its histories and logs are in {}",
        store.name(),
        folder.display()
    )
}

async fn in_folder(options: &Options, folder: &Path, say: &mut dyn FnMut(&str)) -> Result<Outcome> {
    let Options { store, seed, seconds, ref programs } = *options;
    let begun = Instant::now();
    let steps = plan(seed, store, seconds);
    say(&format!("{}, seed {seed}, {seconds} s: {} faults\n{}", store.name(), steps.len(), report::plan(&steps)));
    let recorder = Recorder::create(folder, "nemesis")?;
    let mut site = Site::start(store, seed, programs.clone(), folder.to_owned()).await?;
    site.live_for(WARM_UP).await?;
    let mut nemesis = Nemesis::new(&mut site, &recorder);
    for step in &steps {
        nemesis.site.live_for(Duration::from_millis(step.calm_ms)).await?;
        let (from, begins) = (begun.elapsed(), Instant::now());
        nemesis.inflict(&step.fault).await?;
        let took = begins.elapsed().as_secs_f64();
        say(&format!("  {:>7.1} s  {} ({took:.1} s)", from.as_secs_f64(), step.fault.kind().name()));
    }
    site.live_for(WARM_UP).await?;
    let draining = Instant::now();
    site.drain().await?;
    let drained_in = draining.elapsed();
    let state = site.final_state().await?;
    let contradictions = site.contradictions().await?;
    std::fs::write(folder.join("final_state.json"), serde_json::to_vec(&state)?)?;
    let history = History::read(folder).context("the histories cannot be read")?;
    let report = check(&history, &state);
    let mut surprises: Vec<_> = site.surprises.iter().map(|it| it.0.clone()).collect();
    let jobs = report.figures.jobs_run as u64;
    if jobs < seconds * LEAST_JOBS_A_SECOND {
        surprises.push(format!("only {jobs} jobs ran in {seconds} s"));
    }
    Ok(Outcome { store, seed, seconds, took: begun.elapsed(), drained_in, report, surprises, contradictions })
}
