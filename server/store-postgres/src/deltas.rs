//! Counter changes, as every transaction writes them.

use jobqueue_store::{
    error::StoreResult,
    rows::write::{Delta, Deltas},
};
use sqlx::{Arguments as _, error::BoxDynError, postgres::PgArguments};

use crate::Tx;

/// Statement that inserts deltas, as text for statements that do so beside other things. Its parameters are the first
/// thirteen; see [`add_deltas`].
macro_rules! insert_deltas {
    () => {
        "INSERT INTO deltas (worker_id, bucket, minute, first_attempt, retry, running, done, failed, cancelled, submitted,
                            completed, died, retried)
        SELECT t.worker_id, t.bucket, $1, t.first_attempt, t.retry, t.running, t.done, t.failed, t.cancelled, t.submitted,
               t.completed, t.died, t.retried
        FROM unnest($2::text[], $3::bigint[], $4::integer[], $5::integer[], $6::integer[], $7::integer[],
                    $8::integer[], $9::integer[], $10::integer[], $11::integer[], $12::integer[], $13::integer[])
            AS t(worker_id, bucket, first_attempt, retry, running, done, failed, cancelled, submitted, completed, died, retried)"
    };
}
pub(crate) use insert_deltas;

/// Inserts counter changes as deltas. Compaction adds them to the totals later, so that no two transactions wait for
/// one counter.
pub(crate) async fn write_deltas(tx: &mut Tx, deltas: &Deltas, now: i64) -> StoreResult<()> {
    if deltas.rows().next().is_none() {
        return Ok(());
    }
    let mut arguments = PgArguments::default();
    add_deltas(&mut arguments, deltas, now).map_err(sqlx::Error::Encode)?;
    sqlx::query_with(insert_deltas!(), arguments).execute(&mut **tx).await?;
    Ok(())
}

/// Binds the minute and the twelve columns of deltas that differ by row. They come before all other parameters.
pub(crate) fn add_deltas(arguments: &mut PgArguments, deltas: &Deltas, now: i64) -> Result<(), BoxDynError> {
    let rows: Vec<_> = deltas.rows().collect();
    let column = |value: fn(&Delta) -> i32| rows.iter().map(|(.., delta)| value(delta)).collect::<Vec<_>>();
    arguments.add(now.div_euclid(60_000))?;
    arguments.add(rows.iter().map(|(worker_id, ..)| *worker_id).collect::<Vec<_>>())?;
    arguments.add(rows.iter().map(|(_, bucket, _)| *bucket).collect::<Vec<_>>())?;
    arguments.add(column(|delta| delta.first_attempt))?;
    arguments.add(column(|delta| delta.retry))?;
    arguments.add(column(|delta| delta.running))?;
    arguments.add(column(|delta| delta.done))?;
    arguments.add(column(|delta| delta.failed))?;
    arguments.add(column(|delta| delta.cancelled))?;
    arguments.add(column(|delta| delta.submitted))?;
    arguments.add(column(|delta| delta.completed))?;
    arguments.add(column(|delta| delta.died))?;
    arguments.add(column(|delta| delta.retried))
}
