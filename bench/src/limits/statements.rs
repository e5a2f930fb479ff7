//! Limits of PostgreSQL, by pgbench: commits of one row, and the store's statements without the store.

use anyhow::Result;

use super::bare_rates::BareRates;
use crate::{
    bench::Bench,
    load::steps::{BATCH, BATCHES},
    under_test::{database::Database, server::Server},
};

/// Functions with the statements that the store makes.
const FUNCTIONS: &str = include_str!("statements.sql");
/// Table for commits of one row.
const ROWS_TABLE: &str =
    "CREATE TABLE bench_rows (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, payload bytea NOT NULL)";
/// Script of pgbench that commits one row.
const INSERT_ROW: &str = "INSERT INTO bench_rows (payload) VALUES ('{\"n\":1,\"pad\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}');\n";
/// Script of pgbench that stores a batch.
const SUBMIT: &str = "SELECT bench_submit(500, 'w' || :client_id);\n";
/// Script of pgbench that acquires a batch and settles it.
const ACQUIRE_AND_SETTLE: &str = "SELECT bench_acquire(500, 'w' || :client_id) AS claims \\gset\n\
                               SELECT bench_settle(:claims::uuid[], 'w' || :client_id);\n";
/// Settings that the PostgreSQL driver makes on its connections.
const PLANNER_SETTINGS: &str = "DO $$ BEGIN
    EXECUTE format('ALTER DATABASE %I SET enable_seqscan = off', current_database());
    EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
END $$";

/// Number of batches that a client drains.
const DRAINED_QUICK: u32 = 100;
const DRAINED: u32 = 400;
const CLIENTS: [u32; 3] = [1, 16, 64];

/// Measures commits of one row with pgbench: numbers of clients, and their commits per second.
pub(crate) async fn commits(bench: &Bench, seconds: u32) -> Result<Vec<(u32, f64)>> {
    let postgres = bench.postgres()?;
    let mut found = Vec::new();
    let database = Database::in_cluster(postgres)?;
    postgres.run_script(&database.url, ROWS_TABLE).await?;
    postgres.checkpoint().await?;
    for clients in CLIENTS {
        let rate = postgres.pgbench(&database.url, INSERT_ROW, clients, &format!("--time={seconds}")).await?;
        found.push((clients, rate));
    }
    Ok(found)
}

/// Measures the statements of the store, as bare SQL functions.
pub(super) async fn measure(bench: &Bench, seconds: u32) -> Result<BareRates> {
    let postgres = bench.postgres()?;
    let database = Database::in_cluster(postgres)?;
    // Starting the server makes the tables.
    Server::start(&database, &[]).await?.stop().await?;
    for script in [FUNCTIONS, PLANNER_SETTINGS] {
        postgres.run_script(&database.url, script).await?;
    }
    let clients = BATCHES as u32;
    let batches = format!("--transactions={}", bench.pick(DRAINED_QUICK, DRAINED));
    let cycle = format!("{SUBMIT}{ACQUIRE_AND_SETTLE}");
    postgres.checkpoint().await?;
    let cycle = postgres.pgbench(&database.url, &cycle, clients, &format!("--time={seconds}")).await?;
    postgres.checkpoint().await?;
    let insert = postgres.pgbench(&database.url, SUBMIT, clients, &batches).await?;
    let drain = postgres.pgbench(&database.url, ACQUIRE_AND_SETTLE, clients, &batches).await?;
    let batch = BATCH as f64;
    Ok(BareRates { insert: insert * batch, cycle: cycle * batch, drain: Some(drain * batch) })
}
