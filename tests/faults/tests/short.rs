//! Short run on each store: every promise holds while all kinds of faults happen.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;

use jobqueue_faults::run::{Options, Programs, Store, run};
use jobqueue_tests::binaries;
use tokio::sync::Mutex;

/// Seed of the runs; `cargo xtask faults --seed` repeats one of them.
const SEED: u64 = 20;

/// Lock that lets one run go at a time: each needs the whole machine.
static MACHINE: Mutex<()> = Mutex::const_new(());

async fn survives(store: Store, seconds: u64) {
    let _alone = MACHINE.lock().await;
    let programs =
        Programs { server: binaries::server(), clients: PathBuf::from(env!("CARGO_BIN_EXE_jobqueue-faults")) };
    let options = Options { store, seed: SEED, seconds, programs };
    let outcome = run(&options, &mut |line| println!("{line}")).await;
    println!("{}", outcome.map_err(|error| format!("{error:#}")).unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_holds_on_sqlite_whatever_fails() {
    survives(Store::Sqlite, 45).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_holds_on_postgres_whatever_fails() {
    survives(Store::Postgres, 60).await;
}
