//! Folding: adds the changes of error groups to the groups' rows, one server at a time.

use std::collections::HashSet;

use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    error_groups::fold::{self, DeltaRow, Fold},
    types::ErrorGroupId,
};

use crate::{
    PostgresStore, Tx,
    retain::low_watermark::{DeltaTable, delta_table},
};

const DELTAS: DeltaTable = delta_table!("error_deltas", "error_delta_watermark", "jobqueue_fold_errors");

const TAKE_DELTAS: &str = "
    DELETE FROM error_deltas WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM error_deltas WHERE id > $2 ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED))
    RETURNING fingerprint, worker_id, at, attempts, died, dead_letters, task, title, error, job_id";

/// Folds up to `limit` changes, and returns their number. A change is taken and added in one transaction.
pub(crate) async fn fold_errors(store: &PostgresStore, limit: u32) -> StoreResult<u64> {
    let mut tx = store.begin().await?;
    let Some(turn) = store.error_folding.begin_turn(&mut tx, &DELTAS).await? else { return Ok(0) };
    let rows: Vec<DeltaRow> =
        sqlx::query_as(TAKE_DELTAS).bind(i64::from(limit)).bind(turn.mark).fetch_all(&mut *tx).await?;
    if rows.is_empty() {
        return Ok(0);
    }
    let fold = sum_up(&mut tx, &rows).await?;
    write_groups(&mut tx, &fold).await?;
    write_worker_ids(&mut tx, &fold).await?;
    write_series(&mut tx, &fold).await?;
    let next = turn.end(&mut tx, &DELTAS, rows.len() < limit as usize).await?;
    tx.commit().await?;
    store.error_folding.set(next);
    Ok(rows.len() as u64)
}

const KNOWN: &str = "SELECT fingerprint FROM error_groups WHERE fingerprint = ANY($1)";

/// Removes the oldest groups without dead letters. Groups that a person is changing are left out.
const EVICT: &str = "
    WITH oldest AS (
        DELETE FROM error_groups WHERE ctid = ANY(ARRAY(
            SELECT ctid FROM error_groups WHERE dead_letters = 0 AND fingerprint <> ALL($2)
            ORDER BY last_seen LIMIT $1 FOR UPDATE SKIP LOCKED))
        RETURNING fingerprint
    ), names AS (
        DELETE FROM error_worker_ids WHERE fingerprint IN (SELECT fingerprint FROM oldest)
    ), slots AS (
        DELETE FROM error_series WHERE fingerprint IN (SELECT fingerprint FROM oldest)
    )
    SELECT count(*) FROM oldest";

/// Dead letters of a group less the changes that are not folded: those that were folded into another group, or that
/// this turn has taken.
const FOLDED_DEAD_LETTERS: &str = "
    SELECT fingerprint, worker_id, sum(n)::bigint FROM (
        SELECT fingerprint, worker_id, 1 AS n FROM dead_letters WHERE fingerprint = ANY($1)
        UNION ALL
        SELECT fingerprint, worker_id, -dead_letters FROM error_deltas WHERE fingerprint = ANY($1)
    ) AS t GROUP BY fingerprint, worker_id";

/// Sums up changes: makes room for new groups, and decides which groups get none.
async fn sum_up(tx: &mut Tx, rows: &[DeltaRow]) -> StoreResult<Fold> {
    let all = fold::fingerprints(rows);
    let known: Vec<i64> = sqlx::query_scalar(KNOWN).bind(&all).fetch_all(&mut **tx).await?;
    let missing = fold::missing(rows, &known);
    if missing.new.is_empty() {
        return Ok(Fold::of(rows, &missing.gone.into_iter().collect()));
    }
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM error_groups").fetch_one(&mut **tx).await?;
    let mut room = limits::ERROR_GROUPS as i64 - count;
    let lacking = missing.new.len() as i64 - room;
    if lacking > 0 {
        room += sqlx::query_scalar::<_, i64>(EVICT).bind(lacking).bind(&all).fetch_one(&mut **tx).await?;
    }
    let (admitted, refused) = missing.new.split_at((room.max(0) as usize).min(missing.new.len()));
    let to_other: HashSet<i64> = refused.iter().chain(&missing.gone).copied().collect();
    let mut fold = Fold::of(rows, &to_other);
    let others: Option<i64> = sqlx::query_scalar("SELECT dead_letters FROM error_groups WHERE fingerprint = $1")
        .bind(ErrorGroupId::OTHER.0)
        .fetch_optional(&mut **tx)
        .await?;
    if others.is_some_and(|others| others > 0) && !admitted.is_empty() {
        let folded: Vec<(i64, String, i64)> =
            sqlx::query_as(FOLDED_DEAD_LETTERS).bind(admitted).fetch_all(&mut **tx).await?;
        for (fingerprint, worker_id, dead_letters) in folded {
            let taken = rows.iter().filter(|row| row.fingerprint == fingerprint && row.worker_id == worker_id);
            let taken: i64 = taken.map(|row| i64::from(row.dead_letters)).sum();
            fold.adopt(fingerprint, &worker_id, dead_letters - taken);
        }
    }
    Ok(fold)
}

const WRITE_GROUPS: &str = "
    INSERT INTO error_groups AS g (fingerprint, task, title, first_seen, last_seen, attempts, dead_letters, error, job_id)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::text[],
                         $9::uuid[])
    ON CONFLICT (fingerprint) DO UPDATE SET
        first_seen = least(g.first_seen, excluded.first_seen), last_seen = greatest(g.last_seen, excluded.last_seen),
        attempts = g.attempts + excluded.attempts, dead_letters = g.dead_letters + excluded.dead_letters,
        error = CASE WHEN excluded.last_seen >= g.last_seen THEN excluded.error ELSE g.error END,
        job_id = CASE WHEN excluded.last_seen >= g.last_seen THEN excluded.job_id ELSE g.job_id END";

async fn write_groups(tx: &mut Tx, fold: &Fold) -> StoreResult<()> {
    let groups = &fold.groups;
    sqlx::query(WRITE_GROUPS)
        .bind(groups.keys().copied().collect::<Vec<_>>())
        .bind(groups.values().map(|it| it.task.as_str()).collect::<Vec<_>>())
        .bind(groups.values().map(|it| it.title.as_str()).collect::<Vec<_>>())
        .bind(groups.values().map(|it| it.first_seen).collect::<Vec<_>>())
        .bind(groups.values().map(|it| it.last_seen).collect::<Vec<_>>())
        .bind(groups.values().map(|it| it.attempts).collect::<Vec<_>>())
        .bind(groups.values().map(|it| it.dead_letters).collect::<Vec<_>>())
        .bind(groups.values().map(|it| it.error.as_str()).collect::<Vec<_>>())
        .bind(groups.values().map(|it| it.job_id).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

const WRITE_WORKER_IDS: &str = "
    INSERT INTO error_worker_ids AS w (fingerprint, worker_id, attempts, dead_letters, last_seen)
    SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])
    ON CONFLICT (fingerprint, worker_id) DO UPDATE SET
        attempts = w.attempts + excluded.attempts, dead_letters = w.dead_letters + excluded.dead_letters,
        last_seen = greatest(w.last_seen, excluded.last_seen)";

async fn write_worker_ids(tx: &mut Tx, fold: &Fold) -> StoreResult<()> {
    let rows = &fold.worker_ids;
    sqlx::query(WRITE_WORKER_IDS)
        .bind(rows.keys().map(|(fingerprint, _)| *fingerprint).collect::<Vec<_>>())
        .bind(rows.keys().map(|(_, worker_id)| worker_id.as_str()).collect::<Vec<_>>())
        .bind(rows.values().map(|it| it.attempts).collect::<Vec<_>>())
        .bind(rows.values().map(|it| it.dead_letters).collect::<Vec<_>>())
        .bind(rows.values().map(|it| it.last_seen).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

const WRITE_SERIES: &str = "
    INSERT INTO error_series AS s (fingerprint, step, slot, worker_id, attempts, died)
    SELECT * FROM unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[], $6::bigint[])
    ON CONFLICT (fingerprint, step, slot, worker_id) DO UPDATE SET
        attempts = s.attempts + excluded.attempts, died = s.died + excluded.died";

async fn write_series(tx: &mut Tx, fold: &Fold) -> StoreResult<()> {
    let rows = &fold.series;
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(WRITE_SERIES)
        .bind(rows.keys().map(|(fingerprint, ..)| *fingerprint).collect::<Vec<_>>())
        .bind(rows.keys().map(|(_, step, ..)| *step).collect::<Vec<_>>())
        .bind(rows.keys().map(|(_, _, slot, _)| *slot).collect::<Vec<_>>())
        .bind(rows.keys().map(|(.., worker_id)| worker_id.as_str()).collect::<Vec<_>>())
        .bind(rows.values().map(|it| it.attempts).collect::<Vec<_>>())
        .bind(rows.values().map(|it| it.died).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
