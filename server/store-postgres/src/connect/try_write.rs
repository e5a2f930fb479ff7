//! Whether the database takes writes now.

use jobqueue_store::error::StoreResult;

use crate::PostgresStore;

/// Writes about 1 MiB of new pages, which are dropped at the commit, and to the write-ahead log a change of a row.
const TRY_WRITE: &str = "
    CREATE TEMPORARY TABLE jobqueue_room ON COMMIT DROP AS SELECT n FROM generate_series(1, 30000) AS t(n);
    UPDATE schema_compat SET min_server_level = min_server_level";

pub(crate) async fn try_write(store: &PostgresStore) -> StoreResult<()> {
    let mut tx = store.begin().await?;
    sqlx::raw_sql(TRY_WRITE).execute(&mut *tx).await?;
    Ok(tx.commit().await?)
}
