//! Scenarios of the benchmark. Each is a file with one function, `run`, which measures and returns a report; its first
//! sentence says what is measured and in which unit, and its sizes and times are the constants at its top.

mod cost;
mod drain;
mod history;
mod latency;
mod limits;
mod mixed;
mod peers;
mod pinned;
mod scale;
mod storm;
mod submit;

use anyhow::Result;
use clap::ValueEnum;

use crate::{bench::Bench, measure::report::Report};

/// Scenarios in the order in which they run: the limits, with which the others are compared, come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Scenario {
    /// Limits of this machine: disk, commits, bare statements, calls that do nothing
    Limits,
    /// Jobs acknowledged per second
    Submit,
    /// Rate at which waiting jobs are worked off
    Drain,
    /// Submitting and working at once, with failures, priorities and many worker_ids
    Mixed,
    /// Time from submit to the start of the handler
    Latency,
    /// Speed and the dashboard's calls with millions of finished jobs
    History,
    /// Speed while somebody holds a snapshot
    Pinned,
    /// More servers, workers, worker_ids; idle sessions
    Scale,
    /// WAL, commits, CPU and memory per job
    Cost,
    /// Ten times as many callers as can be served
    Storm,
    /// Other queues on the same PostgreSQL
    Peers,
}

impl Scenario {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Scenarios to run: those named, each once and in order, and the limits, as shares of which the others are given;
    /// every scenario when none is named.
    pub fn chosen(named: &[Self]) -> Vec<Self> {
        let all = Self::value_variants().iter().copied();
        all.filter(|it| named.is_empty() || named.contains(it) || *it == Self::Limits).collect()
    }

    pub async fn run(self, bench: &Bench) -> Result<Report> {
        match self {
            Self::Limits => limits::run(bench).await,
            Self::Submit => submit::run(bench).await,
            Self::Drain => drain::run(bench).await,
            Self::Mixed => mixed::run(bench).await,
            Self::Latency => latency::run(bench).await,
            Self::History => history::run(bench).await,
            Self::Pinned => pinned::run(bench).await,
            Self::Scale => scale::run(bench).await,
            Self::Cost => cost::run(bench).await,
            Self::Storm => storm::run(bench).await,
            Self::Peers => peers::run(bench).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_measured_in_every_run_and_first() {
        assert_eq!(
            Scenario::chosen(&[Scenario::Peers, Scenario::Drain]),
            [Scenario::Limits, Scenario::Drain, Scenario::Peers]
        );
        assert_eq!(Scenario::chosen(&[]), Scenario::value_variants());
    }
}
