//! Whether a snapshot that somebody holds for long slows the queue down: what dies meanwhile cannot be removed.

use std::time::{Duration, Instant};

use anyhow::Result;
use sqlx::{Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::{
    bench::{Bench, WORKER_ID, drain, one_worker, paced, preload, progress, warm_up},
    child::{Child, Role},
    report::{Cell, Report, Table},
    server::{Database, Server, Store},
    stats::median,
    submit::{self, Amount, Submitted},
    work::{self, Handled},
};

/// How long a snapshot is held before and while it is measured, with the queue at work.
const PIN_QUICK: f64 = 60.0;
const PIN: f64 = 600.0;
/// SQLite has no dead rows; what grows is its log.
const PIN_SQLITE_QUICK: f64 = 15.0;
const PIN_SQLITE: f64 = 120.0;
const CALLERS: usize = 16;
const DRAINED_QUICK: u64 = 100_000;
const DRAINED: u64 = 200_000;
/// Also in a quick run: autovacuum, which passes over what is dead once a minute, may fall into one of them.
const DRAINS: usize = 3;
const RATE: f64 = 100.0;
const SECONDS_QUICK: f64 = 5.0;
const SECONDS: f64 = 30.0;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pin {
    None,
    ReadOnly,
    WithTransactionId,
}

/// Open for as long as it lives.
enum Held {
    None,
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

pub(crate) async fn run(bench: &Bench) -> Result<Report> {
    let mut report = bench.report("pinned");
    let columns = [
        "store",
        "snapshot",
        "held s",
        "jobs meanwhile",
        "dead rows",
        "drain, jobs/s",
        "of none",
        "p50 ms at 100/s",
        "of none",
        "p99 ms",
    ];
    let mut table = Table::new("", &columns);
    for &store in &bench.stores {
        let pins: &[Pin] = match store {
            Store::Postgres => &[Pin::None, Pin::ReadOnly, Pin::WithTransactionId],
            Store::Sqlite => &[Pin::None, Pin::ReadOnly],
        };
        let mut none: Option<(f64, f64)> = None;
        for &pin in pins {
            let time = match store {
                Store::Postgres => bench.pick(PIN_QUICK, PIN),
                Store::Sqlite => bench.pick(PIN_SQLITE_QUICK, PIN_SQLITE),
            };
            progress(&format!("{}: {}, {time} s", store.name(), pin.name()));
            let (database, server) = bench.fresh(store).await?;
            let once = once(bench, &database, &server, pin, time).await?;
            server.stop().await?;
            let (drained, started) = (median(&once.drains), median(&once.p50));
            let (unpinned, soon) = *none.get_or_insert((drained, started));
            report.figures.insert(format!("pinned.{}.{}.drain", store.name(), pin.name()), drained);
            table.row([
                store.name().into(),
                pin.name().into(),
                once.held.into(),
                once.churned.into(),
                once.dead.map_or_else(|| "".into(), Cell::from),
                (&once.drains).into(),
                Cell::share(drained, Some(unpinned)),
                (&once.p50).into(),
                Cell::share(started, Some(soon)),
                (&once.p99).into(),
            ]);
        }
    }
    report.tables.push(table);
    report.notes.push(format!("meanwhile {CALLERS} submitters and one worker process are at work as fast as they go"));
    Ok(report)
}

struct Once {
    /// Seconds from taking the snapshot to the end of the last measurement; 0 without one.
    held: f64,
    churned: f64,
    dead: Option<f64>,
    drains: Vec<f64>,
    p50: Vec<f64>,
    p99: Vec<f64>,
}

async fn once(bench: &Bench, database: &Database, server: &Server, pin: Pin, time: f64) -> Result<Once> {
    let endpoint = server.endpoint.as_str();
    warm_up(endpoint).await?;
    let held = pin.hold(database).await?;
    let since = Instant::now();
    let churned = churn(endpoint, time).await?;
    let (mut drains, mut p50, mut p99) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..DRAINS {
        preload(endpoint, bench.pick(DRAINED_QUICK, DRAINED), |_| {}).await?;
        drains.push(drain(endpoint, one_worker(endpoint)).await?.rate());
        let paced = paced(endpoint, RATE, bench.pick(SECONDS_QUICK, SECONDS)).await?;
        p50.push(paced.start.p50);
        p99.push(paced.start.p99);
    }
    let dead = match database.cluster() {
        Some(cluster) => Some(cluster.counters(&database.url).await?.dead),
        None => None,
    };
    let held_for = if pin == Pin::None { 0.0 } else { since.elapsed().as_secs_f64() };
    held.release().await?;
    Ok(Once { held: held_for, churned: churned as f64, dead, drains, p50, p99 })
}

/// Submits and works at once for so many seconds, until all is done; returns how many jobs that were.
async fn churn(endpoint: &str, seconds: f64) -> Result<u64> {
    let mut worker = Child::start(&Role::Work(work::Plan::new(endpoint, WORKER_ID, 100))).await?;
    worker.go().await?;
    let amount = Amount::Seconds { warm_up: 0.0, measure: seconds };
    let submitted: Submitted =
        crate::child::run(&Role::Submit(submit::Plan::new(endpoint, WORKER_ID, CALLERS, amount))).await?;
    let api = crate::api::Api::connect(endpoint).await?;
    while api.metrics().await?.pending > 0 {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    worker.finish::<Handled>().await?;
    Ok(submitted.all)
}

impl Pin {
    fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ReadOnly => "read-only",
            Self::WithTransactionId => "with a transaction id",
        }
    }

    /// Takes a snapshot on a connection of its own.
    async fn hold(self, database: &Database) -> Result<Held> {
        if self == Self::None {
            return Ok(Held::None);
        }
        if database.cluster().is_none() {
            let file = database.url.trim_start_matches("sqlite://");
            let options = SqliteConnectOptions::new().filename(file).read_only(true);
            let mut connection = SqliteConnection::connect_with(&options).await?;
            sqlx::raw_sql("BEGIN; SELECT count(*) FROM sessions").execute(&mut connection).await?;
            return Ok(Held::Sqlite(connection));
        }
        let mut connection = PgConnection::connect(&database.url).await?;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM sessions LIMIT 1";
        sqlx::raw_sql(begin).execute(&mut connection).await?;
        if self == Self::WithTransactionId {
            sqlx::raw_sql("SELECT pg_current_xact_id()").execute(&mut connection).await?;
        }
        Ok(Held::Postgres(connection))
    }
}

impl Held {
    async fn release(self) -> Result<()> {
        match self {
            Self::None => {}
            Self::Postgres(connection) => connection.close().await?,
            Self::Sqlite(connection) => connection.close().await?,
        }
        Ok(())
    }
}
