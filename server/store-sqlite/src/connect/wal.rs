//! SQLite's write-ahead log (the `-wal` file), kept small.
//!
//! SQLite starts the log anew once all of it is in the database file and no reader needs it any more. While a reader is
//! held, the log grows, and the file keeps its size afterwards unless it is truncated.

use std::time::Duration;

use jobqueue_store::error::StoreResult;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::{SqliteStore, connect::file::OwnedFile};

/// Bytes of the log that stay on disk: more than SQLite lets it grow to while no reader is held for long (1,000 pages,
/// and one large group of submits), so that a busy log is not truncated only to grow again.
pub(crate) const KEPT: u64 = 16 * 1024 * 1024;
/// Maximum number of pages left to copy while writers wait; about as many as SQLite copies by itself after a commit.
const LEFT: i64 = 1_000;
/// Time that writers wait for readers.
const PATIENCE: Duration = Duration::from_millis(10);

/// Copies a log that has become large into the database file, beside writers, and truncates it once no reader needs it.
/// While a reader is held, that is put off to the next call.
pub(crate) async fn shrink(store: &SqliteStore) -> StoreResult<()> {
    if store.with_file(OwnedFile::log_bytes)? <= KEPT {
        return Ok(());
    }
    store.verify()?;
    let mut connection = store.options.clone().busy_timeout(PATIENCE).connect().await?;
    let (_, pages, copied): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(&mut connection).await?;
    if pages - copied <= LEFT {
        // This process does not write meanwhile. If another one is in the way, the checkpoint does nothing and reports
        // `busy`.
        let writer = store.writer().await?;
        let (busy, ..): (i64, i64, i64) =
            sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)").fetch_one(&mut connection).await?;
        drop(writer);
        tracing::debug!(busy, "a large log was to be cut off");
    }
    Ok(connection.close().await?)
}
