//! Pinned scenario: drain rate in jobs per second and latency from submit to start in ms, while another connection
//! holds a snapshot, which it has held for long with the queue at work. Rows that died meanwhile cannot be removed; a
//! queue without a snapshot, measured in turns, shows what they cost.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    bench::Bench,
    load::{
        child::{self, Child, Role},
        in_turns,
        steps::{WORKER_ID_PREFIX, progress, warm_up},
        submit::{Amount, SubmitPlan, Submitted},
        work::{Handled, WorkPlan},
    },
    measure::{
        report::Report,
        table::{Cell, Table},
    },
    under_test::{
        api::Api,
        database::{Database, Store},
    },
};

/// Seconds for which a snapshot is held, with the queue at work, before the measurement. In a quick run that takes
/// another minute.
const HELD_SECONDS_QUICK: f64 = 30.0;
const HELD_SECONDS: f64 = 600.0;
/// Seconds for SQLite, which has no dead rows, but a log that grows.
const HELD_SECONDS_SQLITE_QUICK: f64 = 15.0;
const HELD_SECONDS_SQLITE: f64 = 120.0;
/// Seconds for which the other queue has been at work; its dead rows are cleaned up.
const WITHOUT_SECONDS_QUICK: f64 = 10.0;
const CALLERS: usize = 16;
const DRAINED_QUICK: u64 = 50_000;
const DRAINED: u64 = 200_000;
/// Number of rounds, also in a quick run: autovacuum, which passes over dead rows once a minute, may fall into one of
/// them.
const ROUNDS: usize = 3;
const SECONDS_QUICK: f64 = 3.0;
const SECONDS: f64 = 30.0;

/// Kind of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Snapshot {
    ReadOnly,
    WithTransactionId,
}

/// Connection with an open snapshot.
enum OpenSnapshot {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("pinned");
    let before = ["store", "snapshot", "held s", "jobs meanwhile", "dead rows"].map(str::to_owned).to_vec();
    let mut table = Table::new("", &[before, in_turns::columns("without")].concat());
    for &store in bench.stores_for_idle_scenarios() {
        let (snapshots, time): (&[Snapshot], _) = match store {
            Store::Postgres => {
                (&[Snapshot::ReadOnly, Snapshot::WithTransactionId], bench.pick(HELD_SECONDS_QUICK, HELD_SECONDS))
            }
            Store::Sqlite => (&[Snapshot::ReadOnly], bench.pick(HELD_SECONDS_SQLITE_QUICK, HELD_SECONDS_SQLITE)),
        };
        let time_without = bench.pick(WITHOUT_SECONDS_QUICK, time);
        progress(&format!("{}: no snapshot, {time_without} s", store.name()));
        let (_without_database, without) = bench.start_server_apart(store).await?;
        warm_up(&without.endpoint).await?;
        churn(&without.endpoint, time_without).await?;
        for &snapshot in snapshots {
            progress(&format!("{}: {}, {time} s", store.name(), snapshot.name()));
            let (database, server) = bench.start_server(store).await?;
            warm_up(&server.endpoint).await?;
            let held = snapshot.open(&database).await?;
            let since = Instant::now();
            let churned = churn(&server.endpoint, time).await?;
            let jobs = bench.pick(DRAINED_QUICK, DRAINED);
            let seconds = bench.pick(SECONDS_QUICK, SECONDS);
            let speeds = in_turns::measure([&server.endpoint, &without.endpoint], ROUNDS, jobs, seconds).await?;
            let dead = match database.cluster() {
                Some(cluster) => Cell::from(cluster.counters(&database.url).await?.dead_rows_left),
                None => "".into(),
            };
            let held_for = since.elapsed().as_secs_f64();
            held.release().await?;
            server.stop().await?;
            report.figures.insert(format!("pinned.{}.{}.drain", store.name(), snapshot.name()), speeds[0].drain_rate());
            let first = [store.name().into(), snapshot.name().into(), held_for.into(), (churned as f64).into(), dead];
            table.row(first.into_iter().chain(in_turns::cells(&speeds)));
        }
        without.stop().await?;
    }
    report.tables.push(table);
    report.notes.push(format!("meanwhile {CALLERS} submitters and one worker process are at work as fast as they go"));
    report.notes.push(
        "without: a queue that has been at work, too, in a cluster of its own, measured in turns with the other"
            .to_owned(),
    );
    Ok(report)
}

/// Submits and works at once for `seconds` seconds, until all jobs are done; returns their number.
async fn churn(endpoint: &str, seconds: f64) -> Result<u64> {
    let mut worker = Child::start(&Role::Work(WorkPlan::new(endpoint, WORKER_ID_PREFIX, 100))).await?;
    worker.go().await?;
    let amount = Amount::Seconds { warm_up: 0.0, measure: seconds };
    let submitted: Submitted =
        child::run(&Role::Submit(SubmitPlan::new(endpoint, WORKER_ID_PREFIX, CALLERS, amount))).await?;
    let api = Api::connect(endpoint).await?;
    while api.metrics().await?.pending > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    worker.finish::<Handled>().await?;
    Ok(submitted.all)
}

impl Snapshot {
    fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WithTransactionId => "with a transaction id",
        }
    }

    /// Opens a snapshot on a connection of its own.
    async fn open(self, database: &Database) -> Result<OpenSnapshot> {
        if database.cluster().is_none() {
            let file = database.url.trim_start_matches("sqlite://");
            let options = SqliteConnectOptions::new().filename(file).read_only(true);
            let mut connection = SqliteConnection::connect_with(&options).await?;
            sqlx::raw_sql("BEGIN; SELECT count(*) FROM sessions").execute(&mut connection).await?;
            return Ok(OpenSnapshot::Sqlite(connection));
        }
        let mut connection = PgConnection::connect(&database.url).await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM sessions LIMIT 1";
        sqlx::raw_sql(begin).execute(&mut connection).await?;
        if self == Self::WithTransactionId {
            sqlx::raw_sql("SELECT pg_current_xact_id()").execute(&mut connection).await?;
        }
        Ok(OpenSnapshot::Postgres(connection))
    }
}

impl OpenSnapshot {
    async fn release(self) -> Result<()> {
        match self {
            Self::Postgres(connection) => connection.close().await?,
            Self::Sqlite(connection) => connection.close().await?,
        }
        Ok(())
    }
}
