//! SQLite, an embedded file that one server owns.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use jobqueue_server::database::{backup, connect};
use jobqueue_shared::state::State;
use jobqueue_store::{ConnectOptions, Notification, Store, StoreError, StoreResult, Unit};
use jobqueue_tests::{
    database::{Database, Driver},
    poll::eventually,
};
use sqlx::{Connection as _, SqliteConnection};

use crate::store_fixture::{StoreFixture, job, jobs, keyed, open};

async fn fixture() -> StoreFixture {
    StoreFixture::new(Driver::Sqlite).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_the_same_file_is_refused_in_one_line_that_names_the_first() {
    let fixture = fixture().await;
    let error = connect(&ConnectOptions::new(fixture.database.url())).await.err().expect("two servers own one file");
    let StoreError::Startup(line) = &error else { panic!("{error:?}") };
    assert!(line.contains(&std::process::id().to_string()), "it does not name the process: {line}");
    assert!(!line.contains('\n'), "{line}");
    // The first server is not disturbed.
    fixture.submit(job("w")).await;
    fixture.check().await;
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_when_the_file_is_opened_again() {
    let fixture = fixture().await;
    let mut ids = Vec::new();
    for state in State::ALL {
        ids.push(fixture.job_in(state, keyed(state.word(), "k", 1)).await);
    }
    let before = fixture.store.get(&ids).await.unwrap();
    let counts = fixture.store.counts().await.unwrap();
    let fixture = fixture.reopened().await;
    assert_eq!(fixture.store.get(&ids).await.unwrap(), before);
    assert_eq!(fixture.store.counts().await.unwrap(), counts);
    assert!(fixture.submit_or_known(keyed("done", "k", 1)).await.deduplicated);
    assert!(fixture.now_ms().await >= before.iter().flatten().map(|job| job.updated_at_ms).max().unwrap());
    fixture.check().await;
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_dropped_without_goodbye_leaves_the_file_to_the_next() {
    let database = Database::create(Driver::Sqlite).await;
    let store = open(database.url()).await;
    let answer = crate::store_fixture::insert_on(&*store, jobs("w", 3)).await;
    drop(store);
    let store = eventually("the file is free", async || connect(&ConnectOptions::new(database.url())).await.ok()).await;
    assert_eq!(store.counts().await.unwrap()[0].pending, 3, "{answer:?}");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_a_whole_database_of_one_moment() {
    let fixture = fixture().await;
    for state in State::ALL {
        fixture.job_in(state, job(state.word())).await;
    }
    // Other clients go on submitting and working meanwhile.
    let busy = tokio::spawn({
        let (store, session) = (Arc::clone(&fixture.store), fixture.session("w").await);
        async move {
            for _ in 0..50 {
                crate::store_fixture::insert_on(&*store, jobs("w", 5)).await;
                for leased in session.acquire(4).await {
                    session.complete(leased.lease).await;
                }
            }
        }
    });
    let file = fixture.database.folder().join("backups of today").join("copy.db");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    backup(fixture.database.url(), &file).await.unwrap();
    busy.await.unwrap();

    let copy = open(&format!("sqlite://{}", file.display())).await;
    assert_eq!(copy.audit().await.unwrap(), Vec::<String>::new());
    let counts = copy.counts().await.unwrap();
    for state in State::ALL {
        assert!(counts.iter().any(|counts| counts.worker_id == state.word()), "{counts:?}");
    }
    copy.close().await;

    let before = std::fs::read(&file).unwrap();
    assert!(backup(fixture.database.url(), &file).await.is_err(), "a backup must not overwrite another");
    assert_eq!(std::fs::read(&file).unwrap(), before);
    fixture.check().await;
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_new_file_is_made() {
    let database = Database::create(Driver::Sqlite).await;
    let file = database.folder().join("not").join("yet there").join("jobqueue.db");
    let store = open(&format!("sqlite://{}", file.display())).await;
    assert!(file.is_file());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_can_wake_it() {
    let fixture = fixture().await;
    assert!(fixture.store.notifications().is_none());
    fixture.store.announce(&[Notification::Runnable("w".to_owned())]).await.unwrap();
    fixture.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_is_refused_and_left_alone() {
    let database = Database::create(Driver::Sqlite).await;
    let file = database.folder().join("letter.txt");
    let text = "Dear database, ".repeat(1_000);
    std::fs::write(&file, &text).unwrap();
    let error = connect(&ConnectOptions::new(format!("sqlite://{}", file.display()))).await.err();
    assert!(error.is_some());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_schema_is_used_only_if_it_allows_this_server() {
    let database = Database::create(Driver::Sqlite).await;
    open(database.url()).await.close().await;
    let alter = async |statements: &'static str| {
        let mut connection = SqliteConnection::connect(database.url()).await.unwrap();
        sqlx::raw_sql(statements).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    };
    alter(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', TRUE, x'00', 0);
         CREATE TABLE from_the_future (id integer PRIMARY KEY);",
    )
    .await;
    let store = open(database.url()).await;
    crate::store_fixture::insert_on(&*store, jobs("w", 1)).await;
    store.close().await;

    alter("UPDATE schema_compat SET min_server_level = 9999").await;
    let error = connect(&ConnectOptions::new(database.url())).await.err().expect("it needs a newer server");
    assert!(matches!(&error, StoreError::Startup(line) if line.contains("newer")), "{error:?}");
    // The newer schema was not touched.
    let mut connection = SqliteConnection::connect(database.url()).await.unwrap();
    let versions: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations ORDER BY version DESC")
        .fetch_all(&mut connection)
        .await
        .unwrap();
    assert_eq!(versions[0], 9999);
    connection.close().await.unwrap();
}

async fn try_insert(store: &dyn Store) -> StoreResult<()> {
    store.insert(&[Unit { jobs: jobs("w", 1) }], &[]).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_file_was_removed_leaves_the_log_of_its_successor_alone() {
    let database = Database::create(Driver::Sqlite).await;
    let old = open(database.url()).await;
    try_insert(&*old).await.unwrap();
    for suffix in ["", "-wal", "-shm"] {
        fs::remove_file(database.folder().join(format!("jobqueue.db{suffix}"))).unwrap();
    }
    assert!(matches!(try_insert(&*old).await, Err(StoreError::Unavailable(_))));
    assert!(!database.folder().join("jobqueue.db").exists());
    // Another server starts on a new file in its place, and this one is ended later.
    let new = open(database.url()).await;
    try_insert(&*new).await.unwrap();
    assert!(matches!(try_insert(&*old).await, Err(StoreError::Unavailable(_))));
    old.close().await;
    assert!(database.folder().join("jobqueue.db-wal").exists(), "it has removed the log of another database");
    try_insert(&*new).await.unwrap();
    assert_eq!(new.counts().await.unwrap()[0].pending, 2);
    new.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_shrinks_again_when_a_reader_that_was_held_lets_go() {
    const LARGE: u64 = 50 * 1024 * 1024;
    let fixture = StoreFixture::new(Driver::Sqlite).await;
    let log = fixture.database.folder().join("jobqueue.db-wal");
    let size = || fs::metadata(&log).unwrap().len();
    fixture.submit(job("w")).await;
    let mut reader = SqliteConnection::connect(fixture.database.url()).await.unwrap();
    sqlx::raw_sql("BEGIN; SELECT count(*) FROM jobs").execute(&mut reader).await.unwrap();
    let mut large = job("w");
    large.payload = format!("\"{}\"", "x".repeat(900_000));
    while size() < LARGE {
        fixture.submit(large.clone()).await;
        fixture.store.housekeeping().await.unwrap();
    }
    sqlx::raw_sql("COMMIT").execute(&mut reader).await.unwrap();
    // Other calls go on reading and writing meanwhile. The task ends by itself, because a commit that is cut off can
    // still happen.
    let (store, over) = (Arc::clone(&fixture.store), Arc::new(AtomicBool::new(false)));
    let busy = tokio::spawn({
        let over = Arc::clone(&over);
        async move {
            while !over.load(Ordering::Relaxed) {
                try_insert(&*store).await.unwrap();
                store.counts().await.unwrap();
            }
        }
    });
    eventually("the log is small again", async || {
        fixture.store.housekeeping().await.unwrap();
        (size() <= LARGE / 3).then_some(())
    })
    .await;
    over.store(true, Ordering::Relaxed);
    busy.await.unwrap();
    reader.close().await.unwrap();
    fixture.check().await;
    fixture.close().await;
}
