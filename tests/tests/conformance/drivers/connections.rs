//! Connections of a server, as PostgreSQL sees them.

use futures::future::join_all;
use jobqueue_tests::database::Driver;
use sqlx::{Connection as _, PgConnection};

use crate::store_fixture::StoreFixture;

#[tokio::test(flavor = "multi_thread")]
async fn calls_after_each_other_use_the_connection_that_was_used_last() {
    let fixture = StoreFixture::new(Driver::Postgres).await;
    for counts in join_all((0..6).map(|_| fixture.store.counts())).await {
        counts.unwrap();
    }
    let mut watcher = PgConnection::connect(fixture.database.url()).await.unwrap();
    let before: i64 = sqlx::query_scalar("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        .fetch_one(&mut watcher)
        .await
        .unwrap();
    for _ in 0..20 {
        fixture.store.counts().await.unwrap();
    }
    let (open, used): (i64, i64) = sqlx::query_as(
        "SELECT count(*), count(*) FILTER (WHERE extract(epoch FROM query_start) * 1000000 > $1)
         FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'",
    )
    .bind(before)
    .fetch_one(&mut watcher)
    .await
    .unwrap();
    assert!(open >= 4, "{open} connections are too few to choose from");
    // A second connection is used where the machine paused for a second.
    assert!((1..=2).contains(&used), "{used} of {open}");
    watcher.close().await.unwrap();
    fixture.close().await;
}
