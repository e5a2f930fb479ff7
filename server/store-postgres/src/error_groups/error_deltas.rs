//! Changes of error groups, as transactions append them: no two settles wait for the row of one group.

use jobqueue_store::{
    error::StoreResult,
    error_groups::{changes::ErrorChanges, fold},
};

use crate::Tx;

const INSERT: &str = "
    INSERT INTO error_deltas (fingerprint, worker_id, at, attempts, died, dead_letters, task, title, error, job_id)
    SELECT t.fingerprint, t.worker_id, $1, t.attempts, t.died, t.dead_letters, t.task, t.title, t.error, t.job_id
    FROM unnest($2::bigint[], $3::text[], $4::integer[], $5::integer[], $6::integer[], $7::text[], $8::text[], $9::text[],
                $10::uuid[])
        AS t(fingerprint, worker_id, attempts, died, dead_letters, task, title, error, job_id)";

pub(crate) async fn write(tx: &mut Tx, changes: &ErrorChanges, now: i64) -> StoreResult<()> {
    if changes.is_empty() {
        return Ok(());
    }
    let rows = fold::rows(changes, now);
    sqlx::query(INSERT)
        .bind(now)
        .bind(rows.iter().map(|row| row.fingerprint).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.worker_id.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.attempts).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.died).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.dead_letters).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.task.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.title.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.error.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.job_id).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
