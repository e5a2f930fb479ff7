//! Run of the bench: starts what the chosen scenarios need, runs them one after the other, and prints and stores their
//! results.

use std::{collections::BTreeMap, fs, io::Write as _, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use rustix::process::{Resource, getrlimit, setrlimit};

use crate::{
    bench::Bench,
    measure::{machine, report::Report, table::Table},
    scenarios::Scenario,
    under_test::{database::Store, postgres::Postgres},
};

#[derive(Args, Debug)]
pub struct Options {
    /// Scenarios to measure, besides the limits of this machine; all of them when none is named
    #[arg(value_enum, value_name = "SCENARIO")]
    pub scenarios: Vec<Scenario>,
    /// Store that keeps the jobs
    #[arg(long, value_enum, default_value_t = Stores::Both)]
    pub store: Stores,
    /// Smaller sizes, shorter times and no repetitions: all of it within 15 minutes, `pinned` and
    /// `scale` of one store only
    #[arg(long)]
    pub quick: bool,
    /// Keep the results that an earlier run of the same kind has written, and go on with the rest
    #[arg(long)]
    pub resume: bool,
    /// Folder in which results are written
    #[arg(long, value_name = "FOLDER", default_value = "target/bench")]
    pub folder: PathBuf,
    /// Folder with the programs of the peers
    #[arg(long, value_name = "FOLDER")]
    pub peers: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stores {
    Sqlite,
    Postgres,
    Both,
}

impl Stores {
    fn list(self) -> Vec<Store> {
        match self {
            Self::Sqlite => vec![Store::Sqlite],
            Self::Postgres => vec![Store::Postgres],
            Self::Both => vec![Store::Postgres, Store::Sqlite],
        }
    }
}

pub async fn run(options: Options) -> Result<()> {
    allow_many_files();
    let stores = options.store.list();
    let scenarios = Scenario::chosen(&options.scenarios);
    fs::create_dir_all(&options.folder).with_context(|| format!("cannot make {}", options.folder.display()))?;
    // The peers need PostgreSQL, whatever store is measured.
    let needed = stores.contains(&Store::Postgres) || scenarios.contains(&Scenario::Peers);
    let postgres = if needed { Some(Arc::new(Postgres::start().await?)) } else { None };
    let folder = postgres.as_ref().map_or_else(|| Ok(std::env::temp_dir()), |postgres| postgres.folder())?;
    let mut machine = machine::describe(&folder);
    if let Some(postgres) = &postgres {
        machine.extend(postgres.settings.iter().map(|(name, value)| (format!("postgres {name}"), value.clone())));
    }
    let mut bench = Bench {
        quick: options.quick,
        stores,
        postgres,
        folder: options.folder,
        peers: options.peers,
        machine,
        limits: BTreeMap::new(),
    };
    print(&machine_table(&bench.machine))?;
    for scenario in scenarios {
        let name = scenario.name();
        let file = bench.folder.join(format!("{name}.json"));
        let earlier =
            if options.resume { Report::read(&file).filter(|report| has_results_for(report, &bench)) } else { None };
        let report = if let Some(report) = earlier {
            eprintln!("{name}: measured before");
            report
        } else {
            eprintln!("{name}");
            let report = scenario.run(&bench).await.with_context(|| format!("scenario {name}"))?;
            report.write(&file)?;
            report
        };
        print(&report.markdown())?;
        if scenario == Scenario::Limits {
            bench.limits = report.figures;
        }
    }
    Ok(())
}

/// Whether an earlier report has the results that this run asks for.
fn has_results_for(report: &Report, bench: &Bench) -> bool {
    report.quick == bench.quick
        && bench.stores.iter().all(|store| report.stores.iter().any(|name| name == store.name()))
}

fn machine_table(machine: &BTreeMap<String, String>) -> String {
    let mut table = Table::new("", &["measured on", ""]);
    for (name, value) in machine {
        table.row([name.as_str().into(), value.as_str().into()]);
    }
    table.markdown()
}

fn print(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Raises the limit of open files, which is usually 1,024: a thousand sessions have a connection each. Programs that
/// are started here inherit it.
fn allow_many_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    // An error shows where it matters: connections fail.
    let _ = setrlimit(Resource::Nofile, limit);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_report_of_the_same_kind_is_taken_over() {
        let bench = Bench {
            quick: true,
            stores: vec![Store::Postgres],
            postgres: None,
            folder: PathBuf::new(),
            peers: None,
            machine: BTreeMap::new(),
            limits: BTreeMap::new(),
        };
        let report = |quick, stores: &[&str]| Report {
            quick,
            stores: stores.iter().map(|&store| store.to_owned()).collect(),
            ..Report::new("drain")
        };
        assert!(has_results_for(&report(true, &["sqlite", "postgres"]), &bench));
        assert!(!has_results_for(&report(true, &["sqlite"]), &bench));
        assert!(!has_results_for(&report(false, &["postgres"]), &bench));
    }
}
