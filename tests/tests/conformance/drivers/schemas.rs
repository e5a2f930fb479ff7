//! Schemas: an application, another queue or a search_path in the same database have no effect on a queue.

use std::{sync::Arc, time::Duration};

use jobqueue_server::database::connect;
use jobqueue_store::{ConnectOptions, NewSession, Notification, Pooler, Store};
use jobqueue_test_postgres::Cluster;
use jobqueue_tests::{
    database::{Database, Driver},
    poll::{PATIENCE, eventually},
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::{sync::broadcast, time::timeout};

use crate::{
    session_client::Session,
    store_fixture::{insert_on, jobs, session},
};

/// Tables of an application with the names of the queue's own, its history of migrations, and a search_path that finds
/// them.
const APPLICATION: &str = "
    CREATE TABLE public._sqlx_migrations (
        version bigint PRIMARY KEY, description text NOT NULL, installed_on timestamptz NOT NULL DEFAULT now(),
        success boolean NOT NULL, checksum bytea NOT NULL, execution_time bigint NOT NULL);
    INSERT INTO public._sqlx_migrations VALUES (1, 'the application''s own', now(), true, '\\x00', 0);
    CREATE TABLE public.jobs (id integer PRIMARY KEY);
    CREATE TABLE public.ready (nothing text);
    CREATE FUNCTION public.now_ms() RETURNS bigint LANGUAGE sql RETURN 1;";

async fn sql(url: &str, statements: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Runs jobs through all of their states, and all background work once.
pub(crate) async fn works(store: &Arc<dyn Store>, worker_id: &str, count: usize) {
    insert_on(&**store, jobs(worker_id, count)).await;
    let session = Session::register(Arc::clone(store), &NewSession { slots: 5, ..session(worker_id) }).await;
    for leased in session.acquire(5).await {
        session.complete(leased.lease).await;
    }
    store.note_heard().await.unwrap();
    store.rescue(100).await.unwrap();
    store.compact_counters(100).await.unwrap();
    store.pause(worker_id, "why").await.unwrap();
    store.resume(worker_id).await.unwrap();
    store.end_session(session.id).await.unwrap();
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.iter().map(|it| (it.pending + it.done) as usize).sum::<usize>(), count, "{counts:?}");
    assert_eq!(store.audit().await.unwrap(), Vec::<String>::new());
}

async fn beside_others(pooler: Pooler) {
    let database = Database::create(if pooler == Pooler::None { Driver::Postgres } else { Driver::Pooled }).await;
    // PostgreSQL's own URL, past the pooler.
    let name = database.url().rsplit('/').next().unwrap();
    let direct = Cluster::shared().unwrap().url(name);
    sql(&direct, &format!("{APPLICATION} ALTER DATABASE {name} SET search_path = public, pg_catalog")).await;
    let options = |schema: &str| ConnectOptions {
        pooler,
        schema: schema.parse().unwrap(),
        ..ConnectOptions::new(database.url())
    };
    let one = connect(&options("jobqueue")).await.unwrap();
    let other = connect(&options("second_queue")).await.unwrap();
    works(&one, "w", 7).await;
    works(&other, "w", 9).await;
    let [ones, others] = [one.counts().await.unwrap(), other.counts().await.unwrap()];
    assert_ne!(ones, others, "each has its own jobs");
    // A further start finds the existing schema.
    let again = connect(&options("second_queue")).await.unwrap();
    assert_eq!(again.counts().await.unwrap(), others);
    for store in [one, other, again] {
        store.close().await;
    }
    let mut connection = PgConnection::connect(&direct).await.unwrap();
    let left: (i64, i64, i64) = sqlx::query_as(
        "SELECT (SELECT count(*) FROM public._sqlx_migrations), (SELECT count(*) FROM public.jobs),
                (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                 WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p'))",
    )
    .fetch_one(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    assert_eq!(left, (1, 0, 3), "the application's tables are as it left them");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_queues_and_an_application_share_a_database_whatever_its_search_path() {
    beside_others(Pooler::None).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_queues_and_an_application_share_a_database_behind_a_pooler() {
    beside_others(Pooler::Transaction).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn queues_that_share_a_database_do_not_hear_each_other() {
    let database = Database::create(Driver::Postgres).await;
    let open = async |schema: &str| {
        let options = ConnectOptions { schema: schema.parse().unwrap(), ..ConnectOptions::new(database.url()) };
        connect(&options).await.unwrap()
    };
    let (own, same, foreign) = (open("jobqueue").await, open("jobqueue").await, open("other").await);
    let (mut heard, mut not_heard) = (same.notifications().unwrap(), foreign.notifications().unwrap());
    // Listening begins in the background: each store announces until it receives its own notification.
    until_heard(&*foreign, &mut not_heard, "mine").await;
    until_heard(&*own, &mut heard, "w").await;
    // Notifications arrive in the order of their commits: one of the other queue would be before this one.
    foreign.announce(&[Notification::Runnable("last".to_owned())]).await.unwrap();
    loop {
        let hint = timeout(PATIENCE, not_heard.recv()).await.expect("it hears itself").unwrap();
        if hint == Notification::Runnable("last".to_owned()) {
            break;
        }
        assert_eq!(hint, Notification::Runnable("mine".to_owned()), "of another queue");
    }
    for store in [own, same, foreign] {
        store.close().await;
    }
}

/// Announces a runnable worker_id until the notification arrives.
async fn until_heard(store: &dyn Store, heard: &mut broadcast::Receiver<Notification>, worker_id: &str) {
    let hint = Notification::Runnable(worker_id.to_owned());
    eventually("the hint is heard", async || {
        store.announce(std::slice::from_ref(&hint)).await.unwrap();
        let next = timeout(Duration::from_millis(200), heard.recv()).await.ok()?.unwrap();
        (next == hint).then_some(())
    })
    .await;
}
