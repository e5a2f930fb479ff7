//! PostgreSQL, a database that several servers share.

use std::{sync::Arc, time::Duration};

use futures::future::join_all;
use jobqueue_server::database::{backup, connect};
use jobqueue_shared::state::State;
use jobqueue_store::{ConnectOptions, NewJob, Notification, Retention, Start, StoreError, UnitAnswer};
use jobqueue_test_postgres::Cluster;
use jobqueue_tests::{
    database::{Database, Driver},
    poll::eventually,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use uuid::Uuid;

use crate::{
    session_client::Session,
    store_fixture::{KEEP_NOTHING, StoreFixture, insert_on, job, jobs, keyed, open, open_by, session},
};

async fn fixture() -> StoreFixture {
    StoreFixture::new(Driver::Postgres).await
}

/// The schema's owner has created it; the server's role may read and write rows, and nothing more.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_owns_nothing_can_do_all_but_change_partitions() {
    let fixture = StoreFixture::new(Driver::Postgres).await;
    let role = format!("writer_{}", Uuid::new_v4().simple());
    let grants = format!(
        "CREATE ROLE {role} LOGIN; GRANT USAGE ON SCHEMA jobqueue TO {role};
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA jobqueue TO {role};
         GRANT SELECT ON ALL SEQUENCES IN SCHEMA jobqueue TO {role};"
    );
    fixture.sql("", &grants).await;
    let (before, after) = fixture.database.url().split_once("postgres@").expect("the tests' user");
    let store = open(&format!("{before}{role}@{after}")).await;
    insert_on(&*store, jobs("w", 20)).await;
    let session = Session::register(Arc::clone(&store), &session("w")).await;
    let leased = session.acquire(10).await;
    session.complete(leased[0].lease).await;
    store.end_session(session.id).await.unwrap();
    let none = Retention { done_ms: 0, cancelled_ms: 0, dead_letters_ms: 0, keys_ms: 0, operations_ms: 0 };
    assert_eq!(store.maintain(&none).await.unwrap(), 0);
    eventually("old jobs go row by row", async || (store.prune(&none, 100).await.unwrap() > 0).then_some(())).await;
    store.compact_counters(100).await.unwrap();
    store.rescue(100).await.unwrap();
    store.try_write().await.unwrap();
    store.pause("w", "why").await.unwrap();
    assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
    store.close().await;
    // The schema is up to date for a server that runs as its owner, too.
    open(fixture.database.url()).await.close().await;
    fixture.sql("", &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    fixture.check().await;
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_server_did_is_seen_by_the_other_at_once() {
    let fixture = fixture().await;
    let second = fixture.second_store().await;
    let id = fixture.submit(keyed("w", "k", 1)).await;
    let session = fixture.session("w").await.on(&second);
    let lease = session.acquire_one().await.lease;
    assert_eq!(fixture.state(id).await, State::Running);
    assert_eq!(fixture.tally("w").await, [0, 1, 0, 0, 0]);
    session.on(&fixture.store).complete(lease).await;
    assert_eq!(second.get(&[id]).await.unwrap()[0].as_ref().unwrap().state, State::Done);
    assert_eq!(second.counts().await.unwrap()[0].done, 1);
    fixture.check().await;
    fixture.close().await;
}

/// The job is an hour below the scan cursor. The server that inserts it does not lower the other server's cursor, and
/// the scan that follows a short answer does not go that far below.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_server_puts_far_below_the_floor_is_found() {
    let fixture = fixture().await;
    let second = fixture.second_store().await;
    let session = fixture.session("w").await;
    fixture.submit(job("w")).await;
    session.complete(session.acquire_one().await.lease).await;
    let run_at_ms = fixture.now_ms().await - 3_600_000;
    let old = NewJob { start: Start::At { run_at_ms }, ..job("w") };
    let UnitAnswer::Stored(stored) = crate::store_fixture::insert_on(&*second, vec![old]).await else { panic!() };
    assert_eq!(session.acquire(10).await.len(), 0, "the floor hides it at first");
    let found = eventually("the job is found", async || session.acquire(10).await.pop()).await;
    assert_eq!(found.job.id, stored[0].id);
    fixture.check().await;
    fixture.close().await;
}

/// Waits until a statement in this database waits for a lock of this kind.
pub(crate) async fn waits_for(connection: &mut PgConnection, kind: &str) {
    const WAITS: &str = "SELECT EXISTS (
        SELECT FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND wait_event = $1)";
    eventually(&format!("somebody waits for a lock: {kind}"), async || {
        let waits: bool = sqlx::query_scalar(WAITS).bind(kind).fetch_one(&mut *connection).await.unwrap();
        waits.then_some(())
    })
    .await;
}

/// Number of index entries read in the indexes whose name is LIKE `name`; waits until the statistics show at least
/// `least`.
async fn entries_read(connection: &mut PgConnection, name: &str, least: i64) -> i64 {
    const READ: &str =
        "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE indexrelname LIKE $1";
    eventually("the database has counted", async || {
        let read: i64 = sqlx::query_scalar(READ).bind(name).fetch_one(&mut *connection).await.unwrap();
        (read >= least).then_some(read)
    })
    .await
}

/// Statistics of a table that was empty make a sequential scan and a sort seem as cheap as an ordered index scan. Here
/// they seem cheaper because of a setting.
#[tokio::test(flavor = "multi_thread")]
async fn an_acquire_reads_little_more_than_it_takes_whatever_that_seems_to_cost() {
    const WAITING: i64 = 2_000;
    let fixture = fixture().await;
    fixture.submit_all(jobs("w", WAITING as usize)).await;
    let mut connection = fixture.postgres().await;
    let name: String = sqlx::query_scalar("SELECT current_database()").fetch_one(&mut connection).await.unwrap();
    let dear = format!("ALTER DATABASE {name} SET enable_indexscan = off");
    sqlx::raw_sql(AssertSqlSafe(dear)).execute(&mut connection).await.unwrap();
    let fixture = fixture.reopened().await;
    sqlx::raw_sql("SELECT pg_stat_reset()").execute(&mut connection).await.unwrap();
    let session = fixture.session("w").await;
    for _ in 0..10 {
        assert_eq!(session.acquire(10).await.len(), 10);
    }
    let fixture = fixture.reopened().await;
    let read = entries_read(&mut connection, "ready_in_order", 100).await;
    assert!(read < WAITING, "{read} entries were read to take 100 of {WAITING}");
    connection.close().await.unwrap();
    fixture.check().await;
    fixture.close().await;
}

/// The statistics were taken when the table of claims was nearly empty, and its dead rows cannot be vacuumed: a
/// snapshot is held.
#[tokio::test(flavor = "multi_thread")]
async fn a_settle_does_not_read_what_is_dead_whatever_the_statistics_say() {
    const DEAD: i64 = 5_000;
    let fixture = fixture().await;
    fixture.submit_all(jobs("w", 141)).await;
    let mut snapshot = fixture.postgres().await;
    let mut held = snapshot.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ").await.unwrap();
    sqlx::query("SELECT FROM claims").execute(&mut *held).await.unwrap();
    let mut connection = fixture.postgres().await;
    let churn = format!(
        "INSERT INTO claims SELECT gen_random_uuid(), 'w', gen_random_uuid(), 1, 0, 1, NULL, '', '' FROM generate_series(1, {DEAD});
         DELETE FROM claims"
    );
    sqlx::raw_sql(AssertSqlSafe(churn)).execute(&mut connection).await.unwrap();
    let session = fixture.session("w").await;
    let first = session.acquire_next().await;
    sqlx::raw_sql("ANALYZE claims, sessions; SELECT pg_stat_reset()").execute(&mut connection).await.unwrap();
    session.complete(first.lease).await;
    for _ in 0..2 {
        let jobs = session.acquire(70).await;
        for leased in jobs {
            session.complete(leased.lease).await;
        }
    }
    let fixture = fixture.reopened().await;
    let read = entries_read(&mut connection, "claims%", 280).await;
    assert!(read < DEAD, "{read} entries were read to settle 141 times, where {DEAD} are dead");
    held.rollback().await.unwrap();
    for connection in [connection, snapshot] {
        connection.close().await.unwrap();
    }
    fixture.check().await;
    fixture.close().await;
}

/// The acquire has checked that there is no pause before the pause begins, and takes the jobs that it found.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_is_answered_when_the_acquires_under_way_have_ended() {
    const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE locktype = $1 AND NOT granted
        AND (database IS NULL OR database = (SELECT oid FROM pg_database WHERE datname = current_database()))";
    let fixture = fixture().await;
    fixture.submit(job("w")).await;
    let session = fixture.session("w").await;
    let mut connection = fixture.postgres().await;
    let mut blocking = connection.begin().await.unwrap();
    sqlx::query("SELECT FROM sessions WHERE id = $1 FOR UPDATE")
        .bind(session.id)
        .execute(&mut *blocking)
        .await
        .unwrap();
    let waiting = async |what: &str| -> i64 {
        let mut connection = fixture.postgres().await;
        sqlx::query_scalar(WAITING).bind(what).fetch_one(&mut connection).await.unwrap()
    };
    let acquire = tokio::spawn({
        let session = session.clone();
        async move { session.acquire(1).await }
    });
    eventually("the acquire waits", async || (waiting("transactionid").await > 0).then_some(())).await;
    let store = fixture.store.clone();
    let pause = tokio::spawn(async move { store.pause("w", "").await.unwrap() });
    eventually("the pause waits", async || {
        assert!(!pause.is_finished(), "answered while an acquire was under way");
        (waiting("advisory").await > 0).then_some(())
    })
    .await;
    blocking.rollback().await.unwrap();
    assert_eq!(acquire.await.unwrap().len(), 1);
    pause.await.unwrap();
    fixture.submit(job("w")).await;
    assert_eq!(session.acquire(1).await.len(), 0);
    connection.close().await.unwrap();
    fixture.check().await;
    fixture.close().await;
}

/// Number of blocks of a table and its indexes that closed connections have read.
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

/// The low watermark does not pass the ids of deltas that have not been committed yet.
#[tokio::test(flavor = "multi_thread")]
async fn counts_that_commit_late_are_seen_and_compacted_too() {
    let fixture = fixture().await;
    let second = fixture.second_store().await;
    fixture.submit(job("w")).await;
    let mut late = PgConnection::connect(fixture.database.url()).await.unwrap();
    sqlx::raw_sql(
        "BEGIN; INSERT INTO deltas (worker_id, bucket, minute, first_attempt, retry, running, done, failed, cancelled, submitted,
                                    completed, died, retried)
         SELECT 'w', 0, 0, n, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM unnest(ARRAY[5, -2]) AS t(n)",
    )
    .execute(&mut late)
    .await
    .unwrap();
    for n in 2..8 {
        fixture.submit(job("w")).await;
        let store = if n % 2 == 0 { &fixture.store } else { &second };
        assert!(store.compact_counters(100).await.unwrap() > 0);
        assert_eq!(fixture.counts("w").await.pending, n);
    }
    sqlx::raw_sql("COMMIT").execute(&mut late).await.unwrap();
    assert_eq!(fixture.counts("w").await.pending, 10);
    assert_eq!(fixture.store.compact_counters(100).await.unwrap(), 2);
    assert_eq!(fixture.counts("w").await.pending, 10);
    sqlx::raw_sql("UPDATE counters SET first_attempt = first_attempt - 3").execute(&mut late).await.unwrap();
    fixture.check().await;
    late.close().await.unwrap();
    fixture.close().await;
}

/// A standby that is promoted may lack the newest deltas, so that their ids are given out again: the low watermark of
/// the old primary must not apply.
#[tokio::test(flavor = "multi_thread")]
async fn a_watermark_noted_in_another_postgres_is_not_set() {
    const COUNT: &str = "
        INSERT INTO deltas (worker_id, bucket, minute, first_attempt, retry, running, done, failed, cancelled, submitted,
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
    assert_eq!(store.compact_counters(10_000).await.unwrap(), 1_000);
    let it = Arc::clone(&cluster);
    tokio::task::spawn_blocking(move || it.restart().unwrap()).await.unwrap();
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("ALTER TABLE deltas ALTER id RESTART").execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    eventually("it is connected again", async || store.counts().await.ok()).await;
    for n in 1..5 {
        count(1).await;
        assert_eq!(store.counts().await.unwrap()[0].pending, 1_000 + n);
        assert_eq!(store.compact_counters(100).await.unwrap(), 1);
    }
    store.close().await;
}

/// Compacted deltas stay in the table as dead rows as long as a snapshot of it is held.
#[tokio::test(flavor = "multi_thread")]
async fn counts_are_read_and_compacted_without_walking_what_is_dead() {
    let fixture = fixture().await;
    let mut connection = fixture.postgres().await;
    let mut snapshot = fixture.postgres().await;
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT FROM deltas").execute(&mut snapshot).await.unwrap();
    sqlx::raw_sql(
        "ALTER TABLE deltas SET (autovacuum_enabled = off);
         INSERT INTO deltas (worker_id, bucket, minute, first_attempt, retry, running, done, failed, cancelled, submitted,
                             completed, died, retried)
         SELECT 'w', 0, 0, n % 2 * 2 - 1, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM generate_series(1, 100000) AS t(n)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    while fixture.store.compact_counters(50_000).await.unwrap() > 0 {}
    // Each of these compactions may advance the low watermark.
    for _ in 0..2 {
        fixture.submit(job("w")).await;
        fixture.store.compact_counters(100).await.unwrap();
    }
    assert_eq!(fixture.number("SELECT count(*) FROM deltas").await, 0);
    assert!(fixture.number("SELECT up_to FROM delta_watermark").await >= 100_000);
    let fixture = fixture.reopened().await;
    let before = blocks_read(&mut connection, "deltas").await;
    for _ in 0..3 {
        fixture.submit(job("w")).await;
        fixture.counts("w").await;
        fixture.store.throughput(None, 0).await.unwrap();
        fixture.store.compact_counters(100).await.unwrap();
    }
    assert_eq!(fixture.counts("w").await.pending, 5);
    let fixture = fixture.reopened().await;
    let blocks = eventually("the database has counted what was read", async || {
        let blocks = blocks_read(&mut connection, "deltas").await - before;
        (blocks > 0).then_some(blocks)
    })
    .await;
    assert!(blocks < 300, "{blocks} blocks were read");
    sqlx::raw_sql("COMMIT").execute(&mut snapshot).await.unwrap();
    fixture.check().await;
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_hears_what_another_made_runnable_and_stopped() {
    let fixture = fixture().await;
    let second = fixture.second_store().await;
    let mut notifications = second.notifications().unwrap();
    let names = ["w".to_owned(), "😀".repeat(25), "it's \"w\"".to_owned()];
    let hints = names.map(Notification::Runnable).into_iter().chain([Notification::Stopped(Uuid::new_v4())]);
    for hint in hints {
        // A notification is lost while the listener does not listen yet.
        eventually("the hint arrives", async || {
            fixture.store.announce(std::slice::from_ref(&hint)).await.unwrap();
            let heard = tokio::time::timeout(Duration::from_millis(100), notifications.recv()).await;
            (heard.is_ok_and(|heard| heard.unwrap() == hint)).then_some(())
        })
        .await;
    }
    fixture.store.announce(&[]).await.unwrap();
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_servers_that_start_at_once_on_an_empty_database_all_start() {
    let database = Database::create(Driver::Postgres).await;
    // A small pool suffices.
    let options = ConnectOptions { max_connections: 1, ..ConnectOptions::new(database.url()) };
    let starts = join_all((0..4).map(|_| connect(&options))).await;
    let stores: Vec<_> = starts.into_iter().map(Result::unwrap).collect();
    for (n, store) in stores.iter().enumerate() {
        crate::store_fixture::insert_on(&**store, jobs("w", 1)).await;
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
    crate::store_fixture::insert_on(&*store, jobs("w", 1)).await;
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
    crate::store_fixture::insert_on(&*store, jobs("w", 1)).await;
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
    let fixture = fixture().await;
    // A backup or report holds a snapshot for a long time, so dead rows stay. No live row behind them may be missed.
    let mut reader = PgConnection::connect(fixture.database.url()).await.unwrap();
    sqlx::raw_sql("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM jobs")
        .execute(&mut reader)
        .await
        .unwrap();
    let session = fixture.session("w").await;
    for _ in 0..10 {
        fixture.submit_all(jobs("w", 20)).await;
        for leased in session.acquire(15).await {
            session.complete(leased.lease).await;
        }
    }
    let urgent = fixture.submit(jobqueue_store::NewJob { priority: 0, ..job("w") }).await;
    assert_eq!(session.acquire(1).await[0].job.id, urgent);
    assert_eq!(session.acquire(100).await.len(), 50);
    fixture.check().await;
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    reader.close().await.unwrap();
    fixture.close().await;
}

/// Another server retries the dead letter, and the job fails once more, after the pruner has selected it and before it
/// is deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_is_new_again_is_not_pruned_for_what_it_was() {
    let fixture = fixture().await;
    let id = fixture.job_in(State::Failed, job("w")).await;
    fixture.pass(fixture.now_ms().await).await;
    let mut other = PgConnection::connect(fixture.database.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; UPDATE dead_letters SET failed_at = now_ms() + 3600000").execute(&mut other).await.unwrap();
    let store = fixture.store.clone();
    let prune = tokio::spawn(async move { store.prune(&KEEP_NOTHING, 100).await });
    let mut watcher = PgConnection::connect(fixture.database.url()).await.unwrap();
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
    assert_eq!(fixture.state(id).await, State::Failed);
    fixture.check().await;
    fixture.close().await;
}

/// The acquire has checked that there is no pause before the pause begins, and has not yet taken its jobs.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_waits_for_acquires_that_are_under_way() {
    let fixture = fixture().await;
    let session = fixture.session("w").await;
    let key = session.id.as_u64_pair().0.cast_signed();
    let mut acquire = PgConnection::connect(fixture.database.url()).await.unwrap();
    sqlx::query("BEGIN").execute(&mut acquire).await.unwrap();
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(key).execute(&mut acquire).await.unwrap();
    let store = fixture.store.clone();
    let pause = tokio::spawn(async move { store.pause("w", "").await });
    let mut watcher = PgConnection::connect(fixture.database.url()).await.unwrap();
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
    fixture.check().await;
    fixture.close().await;
}

/// The table has no statistics.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_job_waits_for_is_read_without_reading_all_that_comes_before_it() {
    let fixture = fixture().await;
    let job = fixture.get(fixture.submit(job("w")).await).await;
    let mut connection = PgConnection::connect(fixture.database.url()).await.unwrap();
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
    assert_eq!(fixture.store.explain_inputs(&job).await.unwrap().ahead, 1_000);
    let rows = eventually("the database has counted what was read", async || {
        let rows = read().await - before;
        (rows >= 1_000).then_some(rows)
    })
    .await;
    assert!(rows < 2_000, "{rows} rows were read");
    fixture.close().await;
}

/// The table has no statistics.
#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_found_and_cancelled_without_reading_what_else_waits() {
    let fixture = fixture().await;
    let ids = fixture.submit_all(jobs("w", 2)).await;
    fixture.store.cancel(&ids[..1], "").await.unwrap();
    fixture.store.retry(&ids[..1]).await.unwrap();
    let mut connection = fixture.postgres().await;
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
    let fixture = fixture.reopened().await;
    let mut connection = fixture.postgres().await;
    let before = blocks_read(&mut connection, "ready").await;
    assert_eq!(fixture.states(&ids).await, [State::Pending; 2]);
    fixture.store.cancel(&ids, "").await.unwrap();
    assert_eq!(fixture.states(&ids).await, [State::Cancelled; 2]);
    // Closed connections have reported their statistics.
    let fixture = fixture.reopened().await;
    let blocks = eventually("the database has counted what was read", async || {
        let blocks = blocks_read(&mut connection, "ready").await - before;
        (blocks > 0).then_some(blocks)
    })
    .await;
    assert!(blocks < 200, "{blocks} blocks were read");
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_no_backup_into_a_file() {
    let fixture = fixture().await;
    let error = backup(fixture.database.url(), std::path::Path::new("/nowhere")).await.err().unwrap();
    assert!(matches!(error, StoreError::Unsupported(_)), "{error:?}");
    fixture.close().await;
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
    let fixture = fixture().await;
    let id = fixture.job_in(State::Failed, job("w")).await;
    let kept = fixture.attempts(id).await;
    let leave = "INSERT INTO attempts (job_id, run_no, outcome, host, ended_at, error)
                 SELECT gen_random_uuid(), 1, 0, '', 0, '' FROM generate_series(1, 25)";
    fixture.sql("", leave).await;
    assert_eq!(fixture.store.audit().await.unwrap().len(), 1);
    let day = 86_400_000;
    let retention =
        Retention { done_ms: day, cancelled_ms: day, dead_letters_ms: day, keys_ms: day, operations_ms: day };
    for _ in 0..4 {
        fixture.store.prune(&retention, 10).await.unwrap();
    }
    assert_eq!(fixture.store.audit().await.unwrap(), Vec::<String>::new());
    assert_eq!(fixture.attempts(id).await, kept);
    fixture.check().await;
    fixture.close().await;
}
