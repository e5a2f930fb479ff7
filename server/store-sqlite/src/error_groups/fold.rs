//! Adds the changes of a transaction to the rows of error groups.

use std::collections::HashSet;

use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    error_groups::{
        changes::ErrorChanges,
        fold::{self, DeltaRow, Fold},
    },
    types::ErrorGroupId,
};
use sqlx::QueryBuilder;

use crate::{Tx, batches};

/// Adds the changes of a transaction. To be called after it has written and deleted dead letters.
pub(crate) async fn write(tx: &mut Tx, changes: &ErrorChanges, now: i64) -> StoreResult<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let rows = fold::rows(changes, now);
    let fold = sum_up(tx, &rows).await?;
    write_groups(tx, &fold).await?;
    write_worker_ids(tx, &fold).await?;
    write_series(tx, &fold).await
}

const KNOWN: &str = "SELECT fingerprint FROM error_groups WHERE fingerprint IN (SELECT value FROM json_each(?1))";

/// Finds the oldest groups without dead letters.
const OLDEST: &str = "
    SELECT fingerprint FROM error_groups
    WHERE dead_letters = 0 AND fingerprint NOT IN (SELECT value FROM json_each(?2)) ORDER BY last_seen LIMIT ?1";

/// Dead letters of a group, those that this transaction has written included.
const DEAD_LETTERS: &str = "
    SELECT fingerprint, worker_id, count(*) FROM dead_letters WHERE fingerprint IN (SELECT value FROM json_each(?1))
    GROUP BY fingerprint, worker_id";

/// Sums up changes: makes room for new groups, and decides which groups get none.
async fn sum_up(tx: &mut Tx, rows: &[DeltaRow]) -> StoreResult<Fold> {
    let all = number_list(&fold::fingerprints(rows));
    let known: Vec<i64> = sqlx::query_scalar(KNOWN).bind(&all).fetch_all(&mut *tx).await?;
    let missing = fold::missing(rows, &known);
    if missing.new.is_empty() {
        return Ok(Fold::of(rows, &missing.gone.into_iter().collect()));
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM error_groups").fetch_one(&mut *tx).await?;
    let mut room = limits::ERROR_GROUPS as i64 - count;
    let lacking = missing.new.len() as i64 - room;
    if lacking > 0 {
        let oldest: Vec<i64> = sqlx::query_scalar(OLDEST).bind(lacking).bind(&all).fetch_all(&mut *tx).await?;
        remove(tx, &oldest).await?;
        room += oldest.len() as i64;
    }
    let (admitted, refused) = missing.new.split_at((room.max(0) as usize).min(missing.new.len()));
    let to_other: HashSet<i64> = refused.iter().chain(&missing.gone).copied().collect();
    let mut fold = Fold::of(rows, &to_other);
    let others: Option<i64> = sqlx::query_scalar("SELECT dead_letters FROM error_groups WHERE fingerprint = ?1")
        .bind(ErrorGroupId::OTHER.0)
        .fetch_optional(&mut *tx)
        .await?;
    if others.is_some_and(|others| others > 0) && !admitted.is_empty() {
        let found: Vec<(i64, String, i64)> =
            sqlx::query_as(DEAD_LETTERS).bind(number_list(admitted)).fetch_all(&mut *tx).await?;
        for (fingerprint, worker_id, dead_letters) in found {
            let own = rows.iter().filter(|row| row.fingerprint == fingerprint && row.worker_id == worker_id);
            let own: i64 = own.map(|row| i64::from(row.dead_letters)).sum();
            fold.adopt(fingerprint, &worker_id, dead_letters - own);
        }
    }
    Ok(fold)
}

/// Removes groups with everything that is stored of them.
pub(super) async fn remove(tx: &mut Tx, groups: &[i64]) -> StoreResult<()> {
    for statement in [
        "DELETE FROM error_series WHERE fingerprint IN (SELECT value FROM json_each(?1))",
        "DELETE FROM error_worker_ids WHERE fingerprint IN (SELECT value FROM json_each(?1))",
        "DELETE FROM error_groups WHERE fingerprint IN (SELECT value FROM json_each(?1))",
    ] {
        sqlx::query(statement).bind(number_list(groups)).execute(&mut *tx).await?;
    }
    Ok(())
}

/// Encodes numbers as one parameter, for `IN (SELECT value FROM json_each(?))`.
pub(super) fn number_list(numbers: &[i64]) -> String {
    let numbers: Vec<_> = numbers.iter().map(i64::to_string).collect();
    format!("[{}]", numbers.join(","))
}

const INSERT_GROUPS: &str = "INSERT INTO error_groups AS g
    (fingerprint, task, title, first_seen, last_seen, attempts, dead_letters, error, job_id) ";
const OR_ADD_TO_GROUPS: &str = " ON CONFLICT (fingerprint) DO UPDATE SET
        first_seen = min(g.first_seen, excluded.first_seen), last_seen = max(g.last_seen, excluded.last_seen),
        attempts = g.attempts + excluded.attempts, dead_letters = g.dead_letters + excluded.dead_letters,
        error = CASE WHEN excluded.last_seen >= g.last_seen THEN excluded.error ELSE g.error END,
        job_id = CASE WHEN excluded.last_seen >= g.last_seen THEN excluded.job_id ELSE g.job_id END";

async fn write_groups(tx: &mut Tx, fold: &Fold) -> StoreResult<()> {
    for rows in batches(&fold.groups.iter().collect::<Vec<_>>()) {
        let mut query = QueryBuilder::new(INSERT_GROUPS);
        query.push_values(rows, |mut out, (fingerprint, it)| {
            out.push_bind(**fingerprint)
                .push_bind(it.task.as_str())
                .push_bind(it.title.as_str())
                .push_bind(it.first_seen)
                .push_bind(it.last_seen)
                .push_bind(it.attempts)
                .push_bind(it.dead_letters)
                .push_bind(it.error.as_str())
                .push_bind(it.job_id);
        });
        query.push(OR_ADD_TO_GROUPS).build().execute(&mut *tx).await?;
    }
    Ok(())
}

const INSERT_WORKER_IDS: &str =
    "INSERT INTO error_worker_ids AS w (fingerprint, worker_id, attempts, dead_letters, last_seen) ";
const OR_ADD_TO_WORKER_IDS: &str = " ON CONFLICT (fingerprint, worker_id) DO UPDATE SET
        attempts = w.attempts + excluded.attempts, dead_letters = w.dead_letters + excluded.dead_letters,
        last_seen = max(w.last_seen, excluded.last_seen)";

async fn write_worker_ids(tx: &mut Tx, fold: &Fold) -> StoreResult<()> {
    for rows in batches(&fold.worker_ids.iter().collect::<Vec<_>>()) {
        let mut query = QueryBuilder::new(INSERT_WORKER_IDS);
        query.push_values(rows, |mut out, ((fingerprint, worker_id), it)| {
            out.push_bind(*fingerprint)
                .push_bind(worker_id.as_str())
                .push_bind(it.attempts)
                .push_bind(it.dead_letters)
                .push_bind(it.last_seen);
        });
        query.push(OR_ADD_TO_WORKER_IDS).build().execute(&mut *tx).await?;
    }
    Ok(())
}

const INSERT_SERIES: &str = "INSERT INTO error_series AS s (fingerprint, step, slot, worker_id, attempts, died) ";
const OR_ADD_TO_SERIES: &str = " ON CONFLICT (fingerprint, step, slot, worker_id) DO UPDATE SET
        attempts = s.attempts + excluded.attempts, died = s.died + excluded.died";

async fn write_series(tx: &mut Tx, fold: &Fold) -> StoreResult<()> {
    for rows in batches(&fold.series.iter().collect::<Vec<_>>()) {
        let mut query = QueryBuilder::new(INSERT_SERIES);
        query.push_values(rows, |mut out, ((fingerprint, step, slot, worker_id), it)| {
            out.push_bind(*fingerprint)
                .push_bind(*step)
                .push_bind(*slot)
                .push_bind(worker_id.as_str())
                .push_bind(it.attempts)
                .push_bind(it.died);
        });
        query.push(OR_ADD_TO_SERIES).build().execute(&mut *tx).await?;
    }
    Ok(())
}
