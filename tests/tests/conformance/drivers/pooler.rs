//! PostgreSQL behind a pooler in transaction mode: nothing stays in a session.

use std::time::Duration;

use futures::future::join_all;
use jobqueue_server::database::connect;
use jobqueue_store::{ConnectOptions, Notification, Pooler, StoreError};
use jobqueue_test_postgres::Cluster;
use jobqueue_tests::{
    database::{Database, Driver},
    poll::eventually,
};
use sqlx::{Connection as _, PgConnection};

use crate::store_fixture::{StoreFixture, insert_on, job, jobs, session};

fn behind(database: &Database) -> ConnectOptions {
    ConnectOptions { pooler: Pooler::Transaction, ..ConnectOptions::new(database.url()) }
}

/// The database's own URL, past the pooler.
fn direct(database: &Database) -> String {
    let name = database.url().rsplit('/').next().unwrap();
    Cluster::shared().unwrap().url(name)
}

async fn over(database: Database) {
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_setting_a_server_says_in_one_line_what_to_set() {
    let database = Database::create(Driver::Pooled).await;
    let error = connect(&ConnectOptions::new(database.url())).await.err().expect("it works by chance");
    let StoreError::Startup(line) = &error else { panic!("{error:?}") };
    assert!(line.contains("--database-pooler transaction") && !line.contains('\n'), "{line}");
    over(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_has_no_pooler_before_it() {
    let database = Database::create(Driver::Sqlite).await;
    let direct = ConnectOptions { direct_url: Some("postgres://h/d".into()), ..ConnectOptions::new(database.url()) };
    for options in [behind(&database), direct] {
        let error = connect(&options).await.err().unwrap();
        assert!(matches!(&error, StoreError::Startup(line) if line.contains("--database-pooler")), "{error:?}");
    }
    over(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn four_servers_that_start_at_once_behind_it_all_start() {
    let database = Database::create(Driver::Pooled).await;
    // A small pool suffices.
    let options = ConnectOptions { max_connections: 1, ..behind(&database) };
    let starts = join_all((0..4).map(|_| connect(&options))).await;
    let stores: Vec<_> = starts.into_iter().map(Result::unwrap).collect();
    for (n, store) in stores.iter().enumerate() {
        insert_on(&**store, jobs("w", 1)).await;
        assert_eq!(store.counts().await.unwrap()[0].pending, n as u64 + 1);
    }
    for store in stores {
        store.close().await;
    }
    over(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_behind_it_that_is_cancelled_leaves_no_lock_behind() {
    let database = Database::create(Driver::Pooled).await;
    for ms in [1, 5, 10, 20, 40, 60, 80, 120] {
        if let Ok(store) = tokio::time::timeout(Duration::from_millis(ms), connect(&behind(&database))).await {
            store.unwrap().close().await;
        }
    }
    let store = connect(&behind(&database)).await.unwrap();
    insert_on(&*store, jobs("w", 1)).await;
    store.close().await;
    over(database).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_address_is_used_for_wake_up_calls() {
    let database = Database::create(Driver::Pooled).await;
    let told = ConnectOptions { direct_url: Some(direct(&database)), ..behind(&database) };
    let (store, teller) = (connect(&told).await.unwrap(), connect(&behind(&database)).await.unwrap());
    let mut notifications = store.notifications().unwrap();
    eventually("the hint arrives", async || {
        // A notification is lost while the listener does not listen yet.
        teller.announce(&[Notification::Runnable("w".to_owned())]).await.unwrap();
        let heard = tokio::time::timeout(Duration::from_millis(100), notifications.recv()).await;
        heard.is_ok_and(|heard| heard.unwrap() == Notification::Runnable("w".to_owned())).then_some(())
    })
    .await;
    store.close().await;
    teller.close().await;
    over(database).await;
}

/// Inspects the server sessions after many callers have shared few of them.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_stays_in_the_sessions_that_it_lends() {
    let fixture = StoreFixture::new(Driver::Pooled).await;
    let second = fixture.second_store().await;
    join_all((0..40).map(async |n| {
        let store = if n % 2 == 0 { &fixture.store } else { &second };
        insert_on(&**store, jobs("w", 3)).await;
        let worker = fixture.register(session("w")).await.on(store);
        for leased in worker.acquire(2).await {
            worker.complete(leased.lease).await;
        }
        store.counts().await.unwrap();
    }))
    .await;
    // Through the pooler, as any client that shares its sessions.
    let mut other = PgConnection::connect_with(
        &fixture.database.url().parse::<sqlx::postgres::PgConnectOptions>().unwrap().extra_float_digits(None),
    )
    .await
    .unwrap();
    for _ in 0..20 {
        let rows = sqlx::raw_sql(
            "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''
             UNION ALL SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()
             UNION ALL SELECT count(*) FROM pg_settings WHERE source = 'session' AND name IN
                 ('enable_seqscan', 'jit', 'statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout',
                  'synchronous_commit')",
        )
        .fetch_all(&mut other)
        .await
        .unwrap();
        let left: Vec<i64> = rows.iter().map(|row| sqlx::Row::get(row, 0)).collect();
        assert_eq!(left, [0, 0, 0], "prepared statements, locks, settings");
    }
    other.close().await.unwrap();
    fixture.submit(job("w")).await;
    fixture.check().await;
    fixture.close().await;
}
