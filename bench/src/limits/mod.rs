//! Limits that no queue on this machine exceeds, each measured by itself. Other figures are given as shares of them.

pub(crate) mod bare_rates;
pub(crate) mod disk;
pub(crate) mod echo_calls;
pub(crate) mod statements;
pub(crate) mod store_alone;

use std::time::Duration;

use anyhow::Result;

use self::bare_rates::BareRates;
use crate::{bench::Bench, under_test::database::Store};

/// Seconds for which each limit is measured.
const SECONDS_QUICK: u32 = 2;
const SECONDS: u32 = 8;

/// Seconds for which each limit is measured in this run.
pub(crate) fn seconds(bench: &Bench) -> u32 {
    bench.pick(SECONDS_QUICK, SECONDS)
}

/// Measures what a store can do at this moment with nothing around it: with PostgreSQL, pgbench with jobqueue's
/// statements; with SQLite, the store in this process.
pub(crate) async fn bare_rates(bench: &Bench, store: Store) -> Result<BareRates> {
    let seconds = seconds(bench);
    match store {
        Store::Postgres => statements::measure(bench, seconds).await,
        Store::Sqlite => store_alone::measure(bench, store, Duration::from_secs(seconds.into())).await,
    }
}
