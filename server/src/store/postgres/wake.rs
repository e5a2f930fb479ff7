//! Telling other servers that a worker_id may have runnable jobs. Only a hint: polling is the truth.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::broadcast;

use super::PostgresStore;
use crate::store::error::StoreResult;

const CHANNEL: &str = "jobqueue_wake";
/// A silent connection may be half open; asking it something tells.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// Not in the submitting transaction, where it would take a lock that all commits share. A worker_id is at most
/// 100 bytes; a payload's limit is 8,000.
pub(super) async fn announce(store: &PostgresStore, worker_ids: &[String]) -> StoreResult<()> {
    sqlx::query("SELECT pg_notify($1, w) FROM unnest($2::text[]) AS t(w)")
        .bind(CHANNEL)
        .bind(worker_ids)
        .execute(&store.pool)
        .await?;
    Ok(())
}

pub(super) async fn listen(options: PgConnectOptions, wakes: broadcast::Sender<String>) {
    loop {
        if let Err(error) = listen_once(&options, &wakes).await {
            tracing::debug!(%error, "lost the connection that listens for other servers; polling serves until it is back");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn listen_once(options: &PgConnectOptions, wakes: &broadcast::Sender<String>) -> Result<(), sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect_with(options.clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    loop {
        match tokio::time::timeout(CHECK_EVERY, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                // No receiver is no error: nobody waits.
                let _ = wakes.send(notification.payload().to_owned());
            }
            Ok(Ok(None)) => return Err(sqlx::Error::PoolClosed),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let check = sqlx::query("SELECT 1").execute(&mut listener);
                tokio::time::timeout(CHECK_EVERY, check).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
            }
        }
    }
}
