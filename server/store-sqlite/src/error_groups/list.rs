//! Pages of error groups.

use jobqueue_store::{
    error::StoreResult,
    error_groups::{
        details::{self, PageRows},
        list::{self, GroupRow, NAMES_READ},
    },
    types::{ErrorGroupPage, ErrorGroupQuery, ErrorOrder, ErrorWindow},
};

use super::fold::number_list;
use crate::{SqliteStore, Tx};

/// Numbers of all groups, or of group ?5. Attempts in the window, from the slot ?3 of ?2 ms on, are read if ?4 asks for
/// them. With a worker_id (?1), dead letters and attempts in the window are its own.
const GROUPS: &str = "
    WITH in_window AS (
        SELECT fingerprint, sum(attempts) AS attempts FROM error_series
        WHERE ?4 AND step = ?2 AND slot >= ?3 AND (?1 IS NULL OR worker_id = ?1)
        GROUP BY fingerprint
    )
    SELECT g.fingerprint, g.first_seen, g.last_seen, g.attempts,
           CASE WHEN ?1 IS NULL THEN g.dead_letters ELSE m.dead_letters END AS dead_letters,
           coalesce(w.attempts, 0) AS in_window, g.state, g.state_attempts, g.ignore_until, g.ignore_attempts
    FROM error_groups g
         LEFT JOIN error_worker_ids m ON m.fingerprint = g.fingerprint AND m.worker_id = ?1
         LEFT JOIN in_window w ON w.fingerprint = g.fingerprint
    WHERE (?5 IS NULL OR g.fingerprint = ?5) AND (?1 IS NULL OR m.fingerprint IS NOT NULL) AND g.attempts > 0";

pub(super) async fn rows(
    tx: &mut Tx,
    query: &ErrorGroupQuery,
    only: Option<i64>,
    now: i64,
) -> StoreResult<Vec<GroupRow>> {
    Ok(sqlx::query_as(GROUPS)
        .bind(query.worker_id.as_deref())
        .bind(query.window.step_ms())
        .bind(query.window.first_slot(now))
        .bind(query.order == ErrorOrder::Attempts)
        .bind(only)
        .fetch_all(&mut *tx)
        .await?)
}

const TEXTS: &str = "
    SELECT fingerprint, task, title, note, link, changed_at FROM error_groups
    WHERE fingerprint IN (SELECT value FROM json_each(?1))";

const SLOTS: &str = "
    SELECT fingerprint, slot, sum(attempts) AS attempts, sum(died) AS died FROM error_series
    WHERE fingerprint IN (SELECT value FROM json_each(?1)) AND step = ?2 AND slot >= ?3 AND (?4 IS NULL OR worker_id = ?4)
    GROUP BY fingerprint, slot";

/// The first names of each group. SQLite has no LATERAL, so a subquery finds the last of them.
const NAMES: &str = "
    SELECT w.fingerprint, w.worker_id FROM json_each(?1) AS f JOIN error_worker_ids w ON w.fingerprint = f.value
    WHERE w.worker_id <= coalesce(
        (SELECT l.worker_id FROM error_worker_ids l WHERE l.fingerprint = f.value ORDER BY l.worker_id LIMIT 1 OFFSET ?2 - 1),
        (SELECT max(l.worker_id) FROM error_worker_ids l WHERE l.fingerprint = f.value))";

pub(super) async fn page_rows(
    tx: &mut Tx,
    ids: &[i64],
    window: ErrorWindow,
    worker_id: Option<&str>,
    now: i64,
) -> StoreResult<PageRows> {
    let ids = number_list(ids);
    Ok(PageRows {
        texts: sqlx::query_as(TEXTS).bind(&ids).fetch_all(&mut *tx).await?,
        slots: sqlx::query_as(SLOTS)
            .bind(&ids)
            .bind(window.step_ms())
            .bind(window.first_slot(now))
            .bind(worker_id)
            .fetch_all(&mut *tx)
            .await?,
        names: sqlx::query_as(NAMES).bind(&ids).bind(NAMES_READ).fetch_all(&mut *tx).await?,
    })
}

/// Reads a page on one snapshot.
pub(crate) async fn error_groups(store: &SqliteStore, query: &ErrorGroupQuery) -> StoreResult<ErrorGroupPage> {
    let mut tx = store.readers.begin().await?;
    let now = store.clock.now_ms();
    let (rows, mut page) = list::choose(rows(&mut tx, query, None, now).await?, query, now);
    let ids: Vec<_> = rows.iter().map(|row| row.fingerprint).collect();
    let read = page_rows(&mut tx, &ids, query.window, query.worker_id.as_deref(), now).await?;
    page.groups = details::groups(rows, read, query.window, now);
    Ok(page)
}
