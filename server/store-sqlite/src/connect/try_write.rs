//! Whether the database takes writes now.

use jobqueue_store::error::{StoreError, StoreResult};

use crate::{SqliteStore, begin};

/// Free bytes that the disk must have for the server to be ready: a group of submits is 8 MiB of payloads, and with its
/// indexes it is written twice, to the log and to the file.
const ROOM: u64 = 24 * 1024 * 1024;

/// Two changes of a row that cancel out. SQLite would not write a row that does not change.
const TRY_WRITE: &str = "
    UPDATE schema_compat SET min_server_level = min_server_level + 1;
    UPDATE schema_compat SET min_server_level = min_server_level - 1";

/// Writes a page to the log, and checks that the disk has room for more than the largest group.
pub(crate) async fn try_write(store: &SqliteStore) -> StoreResult<()> {
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    sqlx::raw_sql(TRY_WRITE).execute(&mut *tx).await?;
    tx.commit().await?;
    let free = rustix::fs::statvfs(store.options.get_filename())
        .map_err(|error| StoreError::Unavailable(format!("the file system does not answer: {error}")))?;
    let free = free.f_bavail.saturating_mul(free.f_frsize);
    if free < ROOM {
        return Err(StoreError::Full(format!("{} KiB are free, {} are needed", free / 1024, ROOM / 1024)));
    }
    Ok(())
}
