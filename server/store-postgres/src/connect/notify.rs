//! Notifications between the servers of one queue: a worker_id may have runnable jobs, or a session has to stop a
//! lease.
//!
//! Each may be lost: polling and heartbeats find the same later.

use std::time::Duration;

use jobqueue_store::{error::StoreResult, options::SchemaName, types::Notification};
use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::PostgresStore;

/// Names of the notification channels of one schema, so that queues that share a database do not hear each other.
#[derive(Clone, Debug)]
pub(crate) struct Channels {
    runnable: String,
    for_handler: String,
    stopped: String,
}

impl Channels {
    pub(crate) fn of(schema: &SchemaName) -> Self {
        let channel = |name| format!("{schema}_{name}");
        Self { runnable: channel("wake"), for_handler: channel("handler"), stopped: channel("stop") }
    }
}

/// Time without a notification after which the connection is checked: it may be half open, or lead to a server that a
/// failover has left behind.
const CHECK_EVERY: Duration = Duration::from_secs(5);
const CHECK: &str = "SELECT pg_is_in_recovery() OR current_setting('transaction_read_only')::boolean";

/// Sends notifications. The submitting transaction does not send them, because NOTIFY takes a lock that all commits
/// share. A worker_id is at most 100 bytes; a payload's limit is 8,000.
pub(crate) async fn announce(store: &PostgresStore, hints: &[Notification]) -> StoreResult<()> {
    let (channels, payloads): (Vec<_>, Vec<_>) = hints
        .iter()
        .map(|hint| match hint {
            Notification::Runnable(worker_id) => (store.channels.runnable.as_str(), worker_id.clone()),
            Notification::ForHandler(worker_id) => (store.channels.for_handler.as_str(), worker_id.clone()),
            Notification::Stopped(session_id) => {
                (store.channels.stopped.as_str(), format!("{session_id} {}", store.server_id))
            }
        })
        .unzip();
    sqlx::query("SELECT pg_notify(channel, payload) FROM unnest($1::text[], $2::text[]) AS t(channel, payload)")
        .bind(channels)
        .bind(payloads)
        .execute(&store.pool)
        .await?;
    Ok(())
}

/// Parses a notification. `None` for one that only a newer server understands, and for a stop that this server, `name`,
/// has sent itself: the session has heard of it, and would be told again. This server's own notifications of jobs are
/// not skipped, since an acquire too many does no harm.
fn hint(channels: &Channels, channel: &str, payload: &str, name: Uuid) -> Option<Notification> {
    if channel == channels.runnable {
        return Some(Notification::Runnable(payload.to_owned()));
    }
    if channel == channels.for_handler {
        return Some(Notification::ForHandler(payload.to_owned()));
    }
    if channel != channels.stopped {
        return None;
    }
    let (session_id, teller) = payload.split_once(' ')?;
    let session_id = Uuid::try_parse(session_id).ok()?;
    (teller != name.to_string()).then_some(Notification::Stopped(session_id))
}

pub(crate) async fn listen(
    options: PgConnectOptions,
    channels: Channels,
    name: Uuid,
    notifications: broadcast::Sender<Notification>,
) {
    loop {
        if let Err(error) = listen_once(&options, &channels, name, &notifications).await {
            tracing::debug!(%error, "lost the connection that listens for other servers; polling serves until it is back");
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn listen_once(
    options: &PgConnectOptions,
    channels: &Channels,
    name: Uuid,
    notifications: &broadcast::Sender<Notification>,
) -> Result<(), sqlx::Error> {
    let pool =
        PgPoolOptions::new().max_connections(1).acquire_timeout(CHECK_EVERY).connect_with(options.clone()).await?;
    let mut listener = PgListener::connect_with(&pool).await?;
    let channels_of_all = [&channels.runnable, &channels.for_handler, &channels.stopped];
    listener.listen_all(channels_of_all.map(String::as_str)).await?;
    loop {
        match tokio::time::timeout(CHECK_EVERY, listener.try_recv()).await {
            Ok(Ok(Some(notification))) => {
                if let Some(hint) = hint(channels, notification.channel(), notification.payload(), name) {
                    // Having no receiver is no error: no poll is parked.
                    let _ = notifications.send(hint);
                }
            }
            Ok(Ok(None)) => return Err(sqlx::Error::PoolClosed),
            Ok(Err(error)) => return Err(error),
            Err(_) => {
                let check = sqlx::query_scalar(CHECK).fetch_one(&mut listener);
                let read_only: bool =
                    tokio::time::timeout(CHECK_EVERY, check).await.map_err(|_| sqlx::Error::PoolTimedOut)??;
                if read_only {
                    return Err(sqlx::Error::PoolClosed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_does_not_listen_to_its_own_stops_and_not_to_what_it_does_not_understand() {
        let [own, other, session_id] = [1, 2, 3].map(Uuid::from_u128);
        let channels = Channels::of(&SchemaName::default());
        let heard = |channel, teller: &str| hint(&channels, channel, &format!("{session_id}{teller}"), own);
        assert_eq!(heard("jobqueue_stop", &format!(" {other}")), Some(Notification::Stopped(session_id)));
        assert_eq!(heard("jobqueue_stop", &format!(" {own}")), None);
        assert_eq!(heard("jobqueue_stop", ""), None);
        for channel in ["jobqueue_news", "other_stop"] {
            assert_eq!(heard(channel, &format!(" {other}")), None);
        }
        assert_eq!(hint(&channels, "jobqueue_wake", "a b", own), Some(Notification::Runnable("a b".to_owned())));
        assert_eq!(hint(&channels, "jobqueue_handler", "a b", own), Some(Notification::ForHandler("a b".to_owned())));
    }
}
