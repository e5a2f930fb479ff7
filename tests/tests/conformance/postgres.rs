//! What only a database that several servers share must do.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jobqueue_server::store::{ConnectOptions, Hint, NewJob, Retention, Start, StoreError, UnitAnswer, backup, connect};
use jobqueue_shared::state::State;
use jobqueue_test_postgres::Cluster;
use jobqueue_tests::{
    database::{Database, Driver},
    poll::eventually,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    bed::{Bed, NOTHING, insert_on, job, jobs, keyed, open, open_by, session},
    session::Session,
};

async fn bed() -> Bed {
    Bed::new(Driver::Postgres).await
}

/// The owner has made the schema; the server's role may read and write rows, and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_owns_nothing_can_do_all_but_change_partitions() {
    let bed = Bed::new(Driver::Postgres).await;
    let role = format!("writer_{}", Uuid::new_v4().simple());
    let grants = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA jobqueue TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA jobqueue TO {role};
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA jobqueue TO {role};"
    );
    bed.sql("", &grants).await;
    let (before, after) = bed.database.url().split_once("postgres@").expect("the tests' user");
    let store = open(&format!("{before}{role}@{after}")).await;
    insert_on(&*store, jobs("w", 20)).await;
    let session = Session::register(Arc::clone(&store), &session("w")).await;
    let leased = session.acquire(10).await;
    session.complete(leased[0].lease).await;
    store.end_session(session.id).await.unwrap();
    let none = Retention { done_ms: 0, cancelled_ms: 0, dead_letters_ms: 0, keys_ms: 0 };
    assert_eq!(store.maintain(&none).await.unwrap(), 0);
    eventually("old jobs go row by row", async || (store.prune(&none, 100).await.unwrap() > 0).then_some(())).await;
    store.fold(100).await.unwrap();
    store.rescue(100).await.unwrap();
    store.try_write().await.unwrap();
    store.pause("w", "why").await.unwrap();
    assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
    store.close().await;
    // As its owner it is up to date, too.
    open(bed.database.url()).await.close().await;
    bed.sql("", &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    bed.check().await;
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_did_is_seen_by_the_other_at_once() {
    let bed = bed().await;
    let second = bed.second_store().await;
    let id = bed.submit(keyed("w", "k", 1)).await;
    let session = bed.session("w").await.on(&second);
    let lease = session.acquire_one().await.lease;
    assert_eq!(bed.state(id).await, State::Running);
    assert_eq!(bed.tally("w").await, [0, 1, 0, 0, 0]);
    session.on(&bed.store).complete(lease).await;
    assert_eq!(second.get(&[id]).await.unwrap()[0].as_ref().unwrap().state, State::Done);
    assert_eq!(second.counts().await.unwrap()[0].done, 1);
    bed.check().await;
    bed.close().await;
}

/// An hour below the floor: neither lowered for it by the server that put it there, nor near enough for a short answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_server_puts_far_below_the_floor_is_found() {
    let bed = bed().await;
    let second = bed.second_store().await;
    let session = bed.session("w").await;
    bed.submit(job("w")).await;
    session.complete(session.acquire_one().await.lease).await;
    let run_at_ms = bed.now_ms().await - 3_600_000;
    let old = NewJob { start: Start::At { run_at_ms }, ..job("w") };
    let UnitAnswer::Stored(stored) = crate::bed::insert_on(&*second, vec![old]).await else { panic!() };
    assert_eq!(session.acquire(10).await.len(), 0, "the floor hides it at first");
    let found = eventually("the job is found", async || session.acquire(10).await.pop()).await;
    assert_eq!(found.job.id, stored[0].id);
    bed.check().await;
    bed.close().await;
}

/// Until somebody in this database waits for a lock of this kind.
pub(crate) async fn waits_for(connection: &mut PgConnection, kind: &str) {
    const WAITS: &str = "SELECT EXISTS (
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = $1)";
    eventually(&format!("somebody waits for a lock: {kind}"), async || {
        let waits: bool = sqlx::query_scalar(WAITS).bind(kind).fetch_one(&mut *connection).await.unwrap();
        waits.then_some(())
    })
    .await;
}

/// How many entries of the indexes of this name have been read; at least so many, once the database has counted.
async fn entries_read(connection: &mut PgConnection, name: &str, least: i64) -> i64 {
    const READ: &str =
        "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE indexrelname LIKE $1";
    eventually("the database has counted", async || {
        let read: i64 = sqlx::query_scalar(READ).bind(name).fetch_one(&mut *connection).await.unwrap();
        (read >= least).then_some(read)
    })
    .await
}

/// Statistics of a table that was empty make reading all of it to sort it seem as cheap as an index in order. Here it
/// seems cheaper because of a setting.
#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_reads_little_more_than_it_takes_whatever_that_seems_to_cost() {
    const WAITING: i64 = 2_000;
    let bed = bed().await;
    bed.submit_all(jobs("w", WAITING as usize)).await;
    let mut connection = bed.postgres().await;
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await.unwrap();
    let dear = format!("ALTER DATABASE {name} SET enable_indexscan = off");
    sqlx::raw_sql(AssertSqlSafe(dear)).execute(&mut connection).await.unwrap();
    let bed = bed.reopened().await;
    sqlx::raw_sql("SELECT pg_stat_reset()").execute(&mut connection).await.unwrap();
    let session = bed.session("w").await;
    for _ in 0..10 {
        assert_eq!(session.acquire(10).await.len(), 10);
    }
    let bed = bed.reopened().await;
    let read = entries_read(&mut connection, "ready_in_order", 100).await;
    assert!(read < WAITING, "{read} entries were read to take 100 of {WAITING}");
    connection.close().await.unwrap();
    bed.check().await;
    bed.close().await;
}

/// When the table of claims was looked at it was nearly empty. What is dead in it cannot go: somebody holds a snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn a_settle_does_not_read_what_is_dead_whatever_the_statistics_say() {
    const DEAD: i64 = 5_000;
    let bed = bed().await;
    bed.submit_all(jobs("w", 141)).await;
    let mut snapshot = bed.postgres().await;
    let mut held = snapshot.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    sqlx::query("SELECT FROM claims").execute(&mut *held).await.unwrap();
    let mut connection = bed.postgres().await;
    let churn = format!(
        "INSERT INTO claims SELECT gen_random_uuid(), 'w', gen_random_uuid(), 1, 0, 1, NULL, '', '' FROM generate_series(1, {DEAD});
         DELETE FROM claims"
    );
    sqlx::raw_sql(AssertSqlSafe(churn)).execute(&mut connection).await.unwrap();
    let session = bed.session("w").await;
    let first = session.acquire_next().await;
    sqlx::raw_sql("ANALYZE claims, sessions; SELECT pg_stat_reset()").execute(&mut connection).await.unwrap();
    session.complete(first.lease).await;
    for _ in 0..2 {
        let jobs = session.acquire(70).await;
        for leased in jobs {
            session.complete(leased.lease).await;
        }
    }
    let bed = bed.reopened().await;
    let read = entries_read(&mut connection, "claims%", 280).await;
    assert!(read < DEAD, "{read} entries were read to settle 141 times, where {DEAD} are dead");
    held.rollback().await.unwrap();
    for connection in [connection, snapshot] {
        connection.close().await.unwrap();
    }
    bed.check().await;
    bed.close().await;
}

/// The acquire has looked before the pause was there, and takes what it found.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_answered_when_the_acquires_under_way_have_ended() {
    const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE locktype = $1 AND NOT granted
        AND (database IS NULL OR database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    let bed = bed().await;
    bed.submit(job("w")).await;
    let session = bed.session("w").await;
    let mut connection = bed.postgres().await;
    let mut blocking = connection.begin().await.unwrap();
    sqlx::query("SELECT FROM sessions WHERE id = $1 FOR UPDATE")
        .bind(session.id)
        .execute(&mut *blocking)
        .await
        .unwrap();
    let waiting = async |what: &str| -> i64 {
        let mut connection = bed.postgres().await;
        sqlx::query_scalar(WAITING).bind(what).fetch_one(&mut connection).await.unwrap()
    };
    let acquire = tokio::spawn({
        let session = session.clone();
        async move { session.acquire(1).await }
    });
    eventually("the acquire waits", async || (waiting("transactionid").await > 0).then_some(())).await;
    let store = bed.store.clone();
    let pause = tokio::spawn(async move { store.pause("w", "").await.unwrap() });
    eventually("the pause waits", async || {
        assert!(!pause.is_finished(), "answered while an acquire was under way");
        (waiting("advisory").await > 0).then_some(())
    })
    .await;
    blocking.rollback().await.unwrap();
    assert_eq!(acquire.await.unwrap().len(), 1);
    pause.await.unwrap();
    bed.submit(job("w")).await;
    assert_eq!(session.acquire(1).await.len(), 0);
    connection.close().await.unwrap();
    bed.check().await;
    bed.close().await;
}

/// Of a table and its indexes, by connections that are closed.
async fn blocks_read(connection: &mut PgConnection, table: &str) -> i64 {
    sqlx::query_scalar(
        "SELECT (SELECT sum(idx_blks_hit + idx_blks_read)::bigint FROM pg_statio_user_indexes WHERE relname = $1)
              + (SELECT heap_blks_hit + heap_blks_read FROM pg_statio_user_tables WHERE relname = $1)",
    )
    .bind(table)
    .fetch_one(connection)
    .await
    .unwrap()
}

/// The mark from which deltas are read does not pass what may still come.
#[tokio::test(flavor = "multi_thread")]
async fn counts_that_commit_late_are_seen_and_folded_too() {
    let bed = bed().await;
    let second = bed.second_store().await;
    bed.submit(job("w")).await;
    let mut late = PgConnection::connect(bed.database.url()).await.unwrap();
    sqlx::raw_sql(
        "BEGIN; INSERT INTO deltas (worker_id, bucket, minute, first, retry, running, done, failed, cancelled, submitted,
                                    completed, died, retried)
         SELECT 'w', 0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM unnest(ARRAY[5, -2]) AS t(n)",
    )
    .execute(&mut late)
    .await
    .unwrap();
    for n in 2..8 {
        bed.submit(job("w")).await;
        let store = if n % 2 == 0 { &bed.store } else { &second };
        assert!(store.fold(100).await.unwrap() > 0);
        assert_eq!(bed.counts("w").await.pending, n);
    }
    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    assert_eq!(bed.counts("w").await.pending, 10);
    assert_eq!(bed.store.fold(100).await.unwrap(), 2);
    assert_eq!(bed.counts("w").await.pending, 10);
    sqlx::raw_sql("UPDATE counters SET first = first - 3").execute(&mut late).await.unwrap();
    bed.check().await;
    late.close().await.unwrap();
    bed.close().await;
}

/// A standby that takes over may not have heard of the newest deltas: it gives their ids to others.
#[tokio::test(flavor = "multi_thread")]
async fn a_mark_noted_in_another_postgres_is_not_set() {
    const COUNT: &str = "
        INSERT INTO deltas (worker_id, bucket, minute, first, retry, running, done, failed, cancelled, submitted,
                            completed, died, retried)
        SELECT 'w', 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM generate_series(1, $1)";
    let cluster = tokio::task::spawn_blocking(|| Arc::new(Cluster::start().unwrap())).await.unwrap();
    let it = Arc::clone(&cluster);
    let url = tokio::task::spawn_blocking(move || it.fresh_database("mark").unwrap()).await.unwrap();
    let store = open_by(Driver::Postgres, &url).await;
    let count = async |deltas: i32| {
        let mut connection = PgConnection::connect(&url).await.unwrap();
        sqlx::query(COUNT).bind(deltas).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    count(1_000).await;
    assert_eq!(store.fold(10_000).await.unwrap(), 1_000);
    let it = Arc::clone(&cluster);
    tokio::task::spawn_blocking(move || it.restart().unwrap()).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("ALTER TABLE deltas ALTER id RESTART").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    eventually("it is connected again", async || store.counts().await.ok()).await;
    for n in 1..5 {
        count(1).await;
        assert_eq!(store.counts().await.unwrap()[0].pending, 1_000 + n);
        assert_eq!(store.fold(100).await.unwrap(), 1);
    }
    store.close().await;
}

/// What was counted stays in the table as long as somebody holds a snapshot of it.
#[tokio::test(flavor = "multi_thread")]
async fn counts_are_read_and_folded_without_walking_what_is_dead() {
    let bed = bed().await;
    let mut connection = bed.postgres().await;
    let mut snapshot = bed.postgres().await;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM deltas").execute(&mut snapshot).await.unwrap();
    sqlx::raw_sql(
        "ALTER TABLE deltas SET (autovacuum_enabled = off);
         INSERT INTO deltas (worker_id, bucket, minute, first, retry, running, done, failed, cancelled, submitted,
                             completed, died, retried)
         SELECT 'w', 0, 0, n % 2 * 2 - 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM generate_series(1, 100000) AS t(n)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    while bed.store.fold(50_000).await.unwrap() > 0 {}
    // Each is a turn that may set the mark.
    for _ in 0..2 {
        bed.submit(job("w")).await;
        bed.store.fold(100).await.unwrap();
    }
    assert_eq!(bed.number("SELECT count(*) FROM deltas").await, 0);
    assert!(bed.number("SELECT up_to FROM deltas_folded").await >= 100_000);
    let bed = bed.reopened().await;
    let before = blocks_read(&mut connection, "deltas").await;
    for _ in 0..3 {
        bed.submit(job("w")).await;
        bed.counts("w").await;
        bed.store.throughput(None, 0).await.unwrap();
        bed.store.fold(100).await.unwrap();
    }
    assert_eq!(bed.counts("w").await.pending, 5);
    let bed = bed.reopened().await;
    let blocks = eventually("the database has counted what was read", async || {
        let blocks = blocks_read(&mut connection, "deltas").await - before;
        (blocks > 0).then_some(blocks)
    })
    .await;
    assert!(blocks < 300, "{blocks} blocks were read");
    sqlx::raw_sql("COMMIT").execute(&mut snapshot).await.unwrap();
    bed.check().await;
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_hears_what_another_made_runnable_and_stopped() {
    let bed = bed().await;
    let second = bed.second_store().await;
    let mut wakes = second.wakes().unwrap();
    let names = ["w".to_owned(), "😀".repeat(25), "it's \"w\"".to_owned()];
    let hints = names.map(Hint::Runnable).into_iter().chain([Hint::Stopped(Uuid::new_v4())]);
    for hint in hints {
        // A hint can be lost, as long as the listener is not there yet.
        eventually("the hint arrives", async || {
            bed.store.announce(std::slice::from_ref(&hint)).await.unwrap();
            let heard = tokio::time::timeout(Duration::from_millis(100), wakes.recv()).await;
            (heard.is_ok_and(|heard| heard.unwrap() == hint)).then_some(())
        })
        .await;
    }
    bed.store.announce(&[]).await.unwrap();
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_servers_that_start_at_once_on_an_empty_database_all_start() {
    let database = Database::create(Driver::Postgres).await;
    // A small pool must do.
    let options = ConnectOptions { max_connections: 1, ..ConnectOptions::new(database.url()) };
    let starts = join_all((0..4).map(|_| connect(&options))).await;
    let stores: Vec<_> = starts.into_iter().map(Result::unwrap).collect();
    for (n, store) in stores.iter().enumerate() {
        crate::bed::insert_on(&**store, jobs("w", 1)).await;
        assert_eq!(store.counts().await.unwrap()[0].pending, n as u64 + 1);
    }
    assert_eq!(stores[0].audit().await.unwrap(), Vec::<String>::new());
    for store in stores {
        store.close().await;
    }
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_is_cancelled_leaves_no_lock_behind() {
    let database = Database::create(Driver::Postgres).await;
    for ms in [1, 5, 10, 20, 40, 60, 80, 120] {
        let options = ConnectOptions::new(database.url());
        let cancelled = tokio::time::timeout(Duration::from_millis(ms), connect(&options)).await;
        if let Ok(store) = cancelled {
            store.unwrap().close().await;
        }
    }
    let store = open(database.url()).await;
    crate::bed::insert_on(&*store, jobs("w", 1)).await;
    store.close().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_used_only_if_it_allows_this_server() {
    let database = Database::create(Driver::Postgres).await;
    open(database.url()).await.close().await;
    let mut connection = PgConnection::connect(database.url()).await.unwrap();
    sqlx::raw_sql(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', true, '\\x00', 0);
         CREATE TABLE from_the_future (id integer PRIMARY KEY);",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let store = open(database.url()).await;
    crate::bed::insert_on(&*store, jobs("w", 1)).await;
    store.close().await;

    sqlx::raw_sql("UPDATE schema_compat SET min_server_level = 9999").execute(&mut connection).await.unwrap();
    let error = connect(&ConnectOptions::new(database.url())).await.err().expect("it needs a newer server");
    assert!(matches!(&error, StoreError::Startup(line) if line.contains("newer")), "{error:?}");
    let version: i64 =
        sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(&mut connection).await.unwrap();
    assert_eq!(version, 9999, "nothing of the newer schema was touched");
    connection.close().await.unwrap();
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_there_is_told_in_one_line() {
    let options = ConnectOptions::new("postgres://nobody@127.0.0.1:1/nothing");
    let error = connect(&options).await.err().unwrap();
    assert!(matches!(&error, StoreError::Startup(line) if !line.contains('\n')), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_an_old_snapshot_hides_no_job() {
    let bed = bed().await;
    // Somebody's backup or report holds a snapshot for long: dead rows stay, and nothing may be missed behind them.
    let mut reader = PgConnection::connect(bed.database.url()).await.unwrap();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM jobs")
        .execute(&mut reader)
        .await
        .unwrap();
    let session = bed.session("w").await;
    for _ in 0..10 {
        bed.submit_all(jobs("w", 20)).await;
        for leased in session.acquire(15).await {
            session.complete(leased.lease).await;
        }
    }
    let urgent = bed.submit(jobqueue_server::store::NewJob { priority: 0, ..job("w") }).await;
    assert_eq!(session.acquire(1).await[0].job.id, urgent);
    assert_eq!(session.acquire(100).await.len(), 50);
    bed.check().await;
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    reader.close().await.unwrap();
    bed.close().await;
}

/// Another server retries it, and it fails once more, after the pruner has seen it and before it is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_new_again_is_not_pruned_for_what_it_was() {
    let bed = bed().await;
    let id = bed.job_in(State::Failed, job("w")).await;
    bed.pass(bed.now_ms().await).await;
    let mut other = PgConnection::connect(bed.database.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; UPDATE dead_letters SET failed_at = now_ms() + 3600000").execute(&mut other).await.unwrap();
    let store = bed.store.clone();
    let prune = tokio::spawn(async move { store.prune(&NOTHING, 100).await });
    let mut watcher = PgConnection::connect(bed.database.url()).await.unwrap();
    eventually("the pruner has passed by, or waits", async || {
        let waits: bool = sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock')",
        )
        .fetch_one(&mut watcher)
        .await
        .unwrap();
        (waits || prune.is_finished()).then_some(())
    })
    .await;
    sqlx::raw_sql("COMMIT").execute(&mut other).await.unwrap();
    prune.await.unwrap().unwrap();
    assert_eq!(bed.state(id).await, State::Failed);
    bed.check().await;
    bed.close().await;
}

/// The acquire looked before the pause was there, and has not yet taken what it found.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_waits_for_acquires_that_are_under_way() {
    let bed = bed().await;
    let session = bed.session("w").await;
    let key = session.id.as_u64_pair().0.cast_signed();
    let mut acquire = PgConnection::connect(bed.database.url()).await.unwrap();
    sqlx::query("BEGIN").execute(&mut acquire).await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(key).execute(&mut acquire).await.unwrap();
    let store = bed.store.clone();
    let pause = tokio::spawn(async move { store.pause("w", "").await });
    let mut watcher = PgConnection::connect(bed.database.url()).await.unwrap();
    waits_for(&mut watcher, "advisory").await;
    assert!(!pause.is_finished(), "it has answered while an acquire was under way");
    sqlx::query("COMMIT").execute(&mut acquire).await.unwrap();
    pause.await.unwrap().unwrap();
    let held: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database
         WHERE d.datname = current_database() AND l.locktype = 'advisory'",
    )
    .fetch_one(&mut watcher)
    .await
    .unwrap();
    assert_eq!(held, 0, "its locks are gone");
    bed.check().await;
    bed.close().await;
}

/// On a table of which no statistics tell anything.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_waits_for_is_read_without_reading_all_that_comes_before_it() {
    let bed = bed().await;
    let job = bed.get(bed.submit(job("w")).await).await;
    let mut connection = PgConnection::connect(bed.database.url()).await.unwrap();
    sqlx::raw_sql(
        "ALTER TABLE ready SET (autovacuum_enabled = off);
         INSERT INTO ready SELECT 'w', gen_random_uuid(), n % 10, now_ms() - 100000 - n, 0, 0, 10, now_ms(), false
         FROM generate_series(1, 100000) AS t(n)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    let mut read = async || -> i64 {
        sqlx::query_scalar(
            "SELECT (SELECT sum(idx_tup_read)::bigint FROM pg_stat_user_indexes WHERE relname = 'ready')
                  + (SELECT seq_tup_read FROM pg_stat_user_tables WHERE relname = 'ready')",
        )
        .fetch_one(&mut connection)
        .await
        .unwrap()
    };
    let before = read().await;
    assert_eq!(bed.store.surroundings(&job).await.unwrap().ahead, 1_000);
    let rows = eventually("the database has counted what was read", async || {
        let rows = read().await - before;
        (rows >= 1_000).then_some(rows)
    })
    .await;
    assert!(rows < 2_000, "{rows} rows were read");
    bed.close().await;
}

/// On a table of which no statistics tell anything.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_found_and_cancelled_without_reading_what_else_waits() {
    let bed = bed().await;
    let ids = bed.submit_all(jobs("w", 2)).await;
    bed.store.cancel(&ids[..1], "").await.unwrap();
    bed.store.retry(&ids[..1]).await.unwrap();
    let mut connection = bed.postgres().await;
    sqlx::raw_sql(
        "ALTER TABLE ready SET (autovacuum_enabled = off);
         INSERT INTO ready SELECT 'w', gen_random_uuid(), 5, now_ms() - 100000 - n, 0, 0, 10, now_ms(), false,
                                  CASE WHEN n % 2 = 0 THEN ''::bytea END
         FROM generate_series(1, 100000) AS t(n)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let bed = bed.reopened().await;
    let mut connection = bed.postgres().await;
    let before = blocks_read(&mut connection, "ready").await;
    assert_eq!(bed.states(&ids).await, [State::Pending; 2]);
    bed.store.cancel(&ids, "").await.unwrap();
    assert_eq!(bed.states(&ids).await, [State::Cancelled; 2]);
    // Connections that are closed have told what they read.
    let bed = bed.reopened().await;
    let blocks = eventually("the database has counted what was read", async || {
        let blocks = blocks_read(&mut connection, "ready").await - before;
        (blocks > 0).then_some(blocks)
    })
    .await;
    assert!(blocks < 200, "{blocks} blocks were read");
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_backup_into_a_file() {
    let bed = bed().await;
    let error = backup(bed.database.url(), std::path::Path::new("/nowhere")).await.err().unwrap();
    assert!(matches!(error, StoreError::Unsupported(_)), "{error:?}");
    bed.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_utf8_is_refused_and_left_as_it_was() {
    let name = format!("latin_{}", std::process::id());
    let (url, tables, error) = tokio::task::spawn_blocking({
        let name = name.clone();
        move || {
            let cluster = Cluster::shared().unwrap();
            let create =
                format!("CREATE DATABASE {name} ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0");
            cluster.query(&create).unwrap();
            let url = cluster.url(&name);
            let runtime = tokio::runtime::Runtime::new().unwrap();
            let error = runtime.block_on(connect(&ConnectOptions::new(&url))).err().unwrap();
            let tables = cluster
                .query_in(&name, "SELECT count(*) FROM pg_tables WHERE schemaname IN ('public', 'jobqueue')")
                .unwrap();
            cluster.drop_database(&name).unwrap();
            (url, tables, error)
        }
    })
    .await
    .unwrap();
    let text = error.to_string();
    assert!(matches!(error, StoreError::Startup(_)), "{url}: {text}");
    assert!(text.contains("encoding is LATIN1; it must be UTF8"), "{text}");
    assert_eq!(tables.trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_without_its_job_is_pruned_and_that_of_others_stays() {
    let bed = bed().await;
    let id = bed.job_in(State::Failed, job("w")).await;
    let kept = bed.attempts(id).await;
    let leave = "INSERT INTO attempts (job_id, run_no, outcome, host, ended_at, error)
                 SELECT gen_random_uuid(), 1, 0, '', 0, '' FROM generate_series(1, 25)";
    bed.sql("", leave).await;
    assert_eq!(bed.store.audit().await.unwrap().len(), 1);
    let day = 86_400_000;
    let retention = Retention { done_ms: day, cancelled_ms: day, dead_letters_ms: day, keys_ms: day };
    for _ in 0..4 {
        bed.store.prune(&retention, 10).await.unwrap();
    }
    assert_eq!(bed.store.audit().await.unwrap(), Vec::<String>::new());
    assert_eq!(bed.attempts(id).await, kept);
    bed.check().await;
    bed.close().await;
}
