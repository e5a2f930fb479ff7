//! Pages of error groups.

use jobqueue_store::{
    error::StoreResult,
    error_groups::{
        details::{self, PageRows},
        list::{self, GroupRow, NAMES_READ},
    },
    types::{ErrorGroupPage, ErrorGroupQuery, ErrorOrder, ErrorWindow},
};

use crate::{PostgresStore, Tx};

/// Numbers of all groups, or of group $5: their rows and the changes that are not folded. Attempts in the window, from
/// the slot $3 of $2 ms on, are read if $4 asks for them. With a worker_id ($1), dead letters and attempts in the window
/// are its own.
const GROUPS: &str = "
    WITH fresh AS MATERIALIZED (
        SELECT fingerprint, worker_id, at, attempts, dead_letters FROM error_deltas
        WHERE id > (SELECT up_to FROM error_delta_watermark) AND ($5::bigint IS NULL OR fingerprint = $5)
    ), sums AS (
        SELECT fingerprint, min(at) FILTER (WHERE attempts > 0) AS first_seen, max(at) FILTER (WHERE attempts > 0) AS last_seen,
               sum(attempts)::bigint AS attempts, sum(dead_letters)::bigint AS dead_letters
        FROM fresh GROUP BY fingerprint
    ), mine AS (
        SELECT fingerprint, sum(dead_letters)::bigint AS dead_letters FROM (
            SELECT fingerprint, dead_letters FROM error_worker_ids WHERE worker_id = $1
            UNION ALL
            SELECT fingerprint, dead_letters FROM fresh WHERE worker_id = $1
        ) AS t GROUP BY fingerprint
    ), in_window AS (
        SELECT fingerprint, sum(attempts)::bigint AS attempts FROM (
            SELECT fingerprint, attempts FROM error_series
            WHERE $4 AND step = $2 AND slot >= $3 AND ($1::text IS NULL OR worker_id = $1)
            UNION ALL
            SELECT fingerprint, attempts FROM fresh WHERE $4 AND at >= $2 * $3 AND ($1::text IS NULL OR worker_id = $1)
        ) AS t GROUP BY fingerprint
    )
    SELECT fingerprint, least(g.first_seen, s.first_seen) AS first_seen, greatest(g.last_seen, s.last_seen) AS last_seen,
           coalesce(g.attempts, 0) + coalesce(s.attempts, 0) AS attempts,
           CASE WHEN $1::text IS NULL THEN coalesce(g.dead_letters, 0) + coalesce(s.dead_letters, 0)
                ELSE coalesce(m.dead_letters, 0) END AS dead_letters,
           coalesce(w.attempts, 0) AS in_window, coalesce(g.state, 1::smallint) AS state,
           coalesce(g.state_attempts, 0) AS state_attempts, g.ignore_until, g.ignore_attempts
    FROM (SELECT * FROM error_groups WHERE $5::bigint IS NULL OR fingerprint = $5) AS g
         FULL JOIN sums s USING (fingerprint) LEFT JOIN mine m USING (fingerprint) LEFT JOIN in_window w USING (fingerprint)
    WHERE ($1::text IS NULL OR m.fingerprint IS NOT NULL)
      AND coalesce(g.attempts, 0) + coalesce(s.attempts, 0) > 0";

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
        .fetch_all(&mut **tx)
        .await?)
}

/// Texts of groups. Of a group without a row, those of its newest change serve.
const TEXTS: &str = "
    SELECT fingerprint, task, title, note, link, changed_at FROM (
        SELECT fingerprint, task, title, note, link, changed_at, 0::bigint AS source FROM error_groups WHERE fingerprint = ANY($1)
        UNION ALL
        (SELECT DISTINCT ON (fingerprint) fingerprint, task, title, '', '', NULL, 1 FROM error_deltas
         WHERE id > (SELECT up_to FROM error_delta_watermark) AND fingerprint = ANY($1) AND attempts > 0
         ORDER BY fingerprint, id DESC)
    ) AS t ORDER BY source";

const SLOTS: &str = "
    SELECT fingerprint, slot, sum(attempts)::bigint AS attempts, sum(died)::bigint AS died FROM (
        SELECT fingerprint, slot, attempts, died FROM error_series
        WHERE fingerprint = ANY($1) AND step = $2 AND slot >= $3 AND ($4::text IS NULL OR worker_id = $4)
        UNION ALL
        SELECT fingerprint, at / $2, attempts, died FROM error_deltas
        WHERE id > (SELECT up_to FROM error_delta_watermark) AND fingerprint = ANY($1) AND at >= $2 * $3
          AND ($4::text IS NULL OR worker_id = $4)
    ) AS t GROUP BY fingerprint, slot";

const NAMES: &str = "
    SELECT f.fingerprint, n.worker_id FROM unnest($1::bigint[]) AS f(fingerprint), LATERAL (
        SELECT worker_id FROM error_worker_ids w WHERE w.fingerprint = f.fingerprint ORDER BY worker_id LIMIT $2
    ) AS n
    UNION
    SELECT fingerprint, worker_id FROM error_deltas
    WHERE id > (SELECT up_to FROM error_delta_watermark) AND fingerprint = ANY($1) AND attempts > 0";

pub(super) async fn page_rows(
    tx: &mut Tx,
    ids: &[i64],
    window: ErrorWindow,
    worker_id: Option<&str>,
    now: i64,
) -> StoreResult<PageRows> {
    Ok(PageRows {
        texts: sqlx::query_as(TEXTS).bind(ids).fetch_all(&mut **tx).await?,
        slots: sqlx::query_as(SLOTS)
            .bind(ids)
            .bind(window.step_ms())
            .bind(window.first_slot(now))
            .bind(worker_id)
            .fetch_all(&mut **tx)
            .await?,
        names: sqlx::query_as(NAMES).bind(ids).bind(NAMES_READ).fetch_all(&mut **tx).await?,
    })
}

/// Reads a page on one snapshot, so that what is folded meanwhile is counted once.
pub(crate) async fn error_groups(store: &PostgresStore, query: &ErrorGroupQuery) -> StoreResult<ErrorGroupPage> {
    let mut tx = store.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "").await?;
    let now = store.clock.now_ms();
    let (rows, mut page) = list::choose(rows(&mut tx, query, None, now).await?, query, now);
    let ids: Vec<_> = rows.iter().map(|row| row.fingerprint).collect();
    let read = page_rows(&mut tx, &ids, query.window, query.worker_id.as_deref(), now).await?;
    tx.commit().await?;
    page.groups = details::groups(rows, read, query.window, now);
    Ok(page)
}
