//! Operations: their rows, and their steps. A step locks its operation's row first, so that a pause or a stop waits for
//! it, and whatever takes the operation from its runner makes the runner's next step void.

use jobqueue_store::{
    error::{StoreError, StoreResult},
    error_groups::changes::ErrorChanges,
    operation_columns,
    operations::{self, LOOKS, OperationRow, RefusalRow, StepUnderWay},
    retention::KeyTreatment,
    rows::write::{Deltas, ReadyRow},
    types::{
        AttemptOutcome, Change, ClaimedOperation, MovedJob, NewOperation, OperationRecord, OperationStarted,
        OperationState, Outcomes, Refusal, Step, StepAnswer, Stepped,
    },
};
use sqlx::FromRow;
use uuid::Uuid;

use super::operator_actions as actions;
use crate::{PostgresStore, Tx, deltas, error_groups::error_deltas, observe::read};

const START: &str = concat!(
    "
    INSERT INTO operations (id, request_id, request_hash, spec, state, note, caller, started_at, updated_at, total,
                            total_is_floor, changed, refused, progress, lease_until, next_at, brief)
    VALUES ($1, $2, $3, $4, 1, '', $5, now_ms(), now_ms(), $6, $7, 0, 0, '', 0, 0, $8)
    ON CONFLICT (request_id) DO NOTHING
    RETURNING ",
    operation_columns!()
);

const BY_REQUEST: &str =
    concat!("SELECT request_hash, ", operation_columns!(), " FROM operations WHERE request_id = $1");

#[derive(FromRow)]
struct Earlier {
    request_hash: Vec<u8>,
    #[sqlx(flatten)]
    row: OperationRow,
}

pub(crate) async fn start(store: &PostgresStore, new: &NewOperation) -> StoreResult<OperationStarted> {
    let id = store.clock.ids(1).pop().unwrap_or_default();
    let mut tx = store.begin().await?;
    let row: Option<OperationRow> = sqlx::query_as(START)
        .bind(id)
        .bind(new.request_id.as_deref())
        .bind(new.request_hash.as_slice())
        .bind(new.spec.as_slice())
        .bind(new.caller.as_str())
        .bind(new.total.map(|(total, _)| total.cast_signed()))
        .bind(new.total.is_some_and(|(_, is_floor)| is_floor))
        .bind(new.brief.as_slice())
        .fetch_optional(&mut *tx)
        .await?;
    let started = if let Some(row) = row {
        OperationStarted::New(row.into_record()?)
    } else {
        // The loser of a conflict sees no row in the same statement.
        let earlier: Option<Earlier> =
            sqlx::query_as(BY_REQUEST).bind(new.request_id.as_deref()).fetch_optional(&mut *tx).await?;
        let earlier = earlier.ok_or_else(|| StoreError::Conflict("the operation was pruned meanwhile".into()))?;
        let record = earlier.row.into_record()?;
        if earlier.request_hash == new.request_hash {
            OperationStarted::Existing(record)
        } else {
            OperationStarted::KeyConflict(record.id)
        }
    };
    tx.commit().await?;
    Ok(started)
}

const READ: &str = concat!("SELECT ", operation_columns!(), " FROM operations WHERE id = $1");

const REFUSALS: &str = "SELECT n, job_id, state, later FROM operation_refusals WHERE operation_id = $1 ORDER BY n";

pub(crate) async fn operation(store: &PostgresStore, id: Uuid) -> StoreResult<Option<(OperationRecord, Vec<Refusal>)>> {
    let mut tx = store.pool.begin_with("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "").await?;
    let row: Option<OperationRow> = sqlx::query_as(READ).bind(id).fetch_optional(&mut *tx).await?;
    let refusals: Vec<RefusalRow> = sqlx::query_as(REFUSALS).bind(id).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let refusals = refusals.into_iter().map(RefusalRow::into_refusal).collect();
    row.map(|row| Ok((row.into_record()?, refusals))).transpose()
}

const LIST: &str = concat!(
    "SELECT ",
    operation_columns!(),
    " FROM operations WHERE $1::uuid IS NULL OR id < $1 ORDER BY id DESC LIMIT $2"
);

pub(crate) async fn operations(
    store: &PostgresStore,
    before: Option<Uuid>,
    limit: u32,
) -> StoreResult<Vec<OperationRecord>> {
    let rows: Vec<OperationRow> =
        sqlx::query_as(LIST).bind(before).bind(i64::from(limit)).fetch_all(&store.pool).await?;
    rows.into_iter().map(OperationRow::into_record).collect()
}

const MOVE: &str = "
    UPDATE operations SET state = $3, note = $4, updated_at = now_ms(), runner = NULL, lease_until = 0,
           finished_at = CASE WHEN $5 THEN now_ms() END
    WHERE id = $1 AND state = ANY($2)";

pub(crate) async fn move_operation(
    store: &PostgresStore,
    id: Uuid,
    from: &[OperationState],
    to: OperationState,
    note: &str,
) -> StoreResult<Option<(bool, OperationRecord)>> {
    let from: Vec<i16> = from.iter().map(|state| i16::from(*state)).collect();
    let mut tx = store.begin().await?;
    let moved = sqlx::query(MOVE)
        .bind(id)
        .bind(from)
        .bind(i16::from(to))
        .bind(note)
        .bind(to.is_final())
        .execute(&mut *tx)
        .await?;
    let row: Option<OperationRow> = sqlx::query_as(READ).bind(id).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    row.map(|row| Ok((moved.rows_affected() > 0, row.into_record()?))).transpose()
}

const CLAIM: &str = concat!(
    "
    UPDATE operations SET runner = $1, lease_until = now_ms() + $2
    WHERE id = (
        SELECT id FROM operations WHERE state <= 2 AND lease_until < now_ms()
        ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    RETURNING greatest(next_at - now_ms(), 0) AS wait_ms, spec, ",
    operation_columns!()
);

#[derive(FromRow)]
struct ClaimedRow {
    wait_ms: i64,
    spec: Vec<u8>,
    #[sqlx(flatten)]
    row: OperationRow,
}

pub(crate) async fn claim(store: &PostgresStore, token: Uuid, lease_ms: i64) -> StoreResult<Option<ClaimedOperation>> {
    let mut tx = store.begin().await?;
    let claimed: Option<ClaimedRow> = sqlx::query_as(CLAIM).bind(token).bind(lease_ms).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    let Some(ClaimedRow { wait_ms, spec, row }) = claimed else { return Ok(None) };
    Ok(Some(ClaimedOperation { record: row.into_record()?, spec, wait_ms }))
}

const LOCK: &str = "
    SELECT changed, refused FROM operations WHERE id = $1 AND runner = $2 AND state <= 2 FOR UPDATE";

const ADVANCE: &str = "
    UPDATE operations SET changed = changed + $2, refused = refused + $3, progress = $4, note = $6,
           updated_at = CASE WHEN $2 + $3 > 0 OR state <> $5 THEN now_ms() ELSE updated_at END, state = $5,
           next_at = greatest(next_at, now_ms()) + $7, runner = CASE WHEN $8 THEN runner END,
           lease_until = CASE WHEN $8 THEN now_ms() + $9 ELSE 0 END, finished_at = CASE WHEN $10 THEN now_ms() END
    WHERE id = $1
    RETURNING changed, refused, greatest(next_at - now_ms(), 0)";

pub(crate) async fn step(store: &PostgresStore, step: &Step) -> StoreResult<StepAnswer> {
    let mut tx = store.begin().await?;
    let id = step.operation_id;
    let locked: Option<(i64, i64)> = sqlx::query_as(LOCK).bind(id).bind(step.token).fetch_optional(&mut *tx).await?;
    let Some((_, refused_before)) = locked else {
        tx.rollback().await?;
        return Ok(StepAnswer::NotRunner);
    };
    let mut under_way = StepUnderWay::new(step);
    let ready = change(store, &mut tx, step, &mut under_way).await?;
    let (moved, refusals) = under_way.finish();
    write_refusals(&mut tx, id, &operations::refusal_rows(refused_before, &refusals)).await?;
    write_samples(&mut tx, id, step, &moved).await?;
    let (state, note, keeps) = operations::after(&step.then);
    let (changed, refused, wait_ms): (i64, i64, i64) = sqlx::query_as(ADVANCE)
        .bind(id)
        .bind(moved.len() as i64)
        .bind(refusals.len() as i64)
        .bind(step.progress.as_str())
        .bind(i16::from(state))
        .bind(note)
        .bind(operations::pace_ms(step.rate, moved.len()))
        .bind(keeps)
        .bind(step.lease_ms)
        .bind(state.is_final())
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    store.scan_cursors.lower(ready.iter().map(ReadyRow::key));
    let (changed, refused) = (changed.unsigned_abs(), refused.unsigned_abs());
    Ok(StepAnswer::Stepped(Stepped { changed, refused, wait_ms, moved }))
}

/// Of jobs that a person has retried after $2.
const RETRIED_SINCE: &str =
    "SELECT DISTINCT job_id FROM attempts WHERE job_id = ANY($1) AND outcome = $3 AND ended_at > $2";

/// Changes the jobs of a step. A job that moves meanwhile is looked for again. Returns the rows put into `ready`.
async fn change(
    store: &PostgresStore,
    tx: &mut Tx,
    step: &Step,
    under_way: &mut StepUnderWay<'_>,
) -> StoreResult<Vec<ReadyRow>> {
    let (now, until) = (store.clock.now_ms(), under_way.until());
    if under_way.is_cancel_of_all() {
        let retried: Vec<Uuid> = sqlx::query_scalar(RETRIED_SINCE)
            .bind(step.ids.as_slice())
            .bind(step.covers_until_ms)
            .bind(AttemptOutcome::Retried as i16)
            .fetch_all(&mut **tx)
            .await?;
        under_way.exclude(retried);
    }
    let mut ready = Vec::new();
    for _ in 0..LOOKS {
        if under_way.answers.open().is_empty() {
            break;
        }
        let answers = &mut under_way.answers;
        match &step.change {
            Change::Retry { text } => ready.extend(actions::retry_finished(tx, text, until, now, answers).await?),
            Change::Cancel { reason, .. } => {
                actions::cancel_pending(tx, reason, until, now, answers).await?;
                actions::cancel_running(tx, reason, until, now, answers).await?;
            }
            Change::Delete => {
                let (mut deltas, mut errors) = (Deltas::default(), ErrorChanges::default());
                let mut gone = actions::delete_set_aside(tx, until, &mut deltas, &mut errors, answers).await?;
                gone.extend(actions::delete_done(tx, until, &mut deltas, answers).await?);
                actions::delete_jobs(tx, &gone, KeyTreatment::Delete).await?;
                deltas::write_deltas(tx, &deltas, now).await?;
                error_deltas::write(tx, &errors, now).await?;
            }
            change @ (Change::SetPriority(_) | Change::Reschedule { .. }) => {
                ready.extend(actions::change_pending(tx, change, until, now, answers).await?);
            }
        }
        let open = under_way.answers.open();
        if open.is_empty() {
            break;
        }
        under_way.judge(&read::states(tx, &open).await?);
    }
    Ok(ready)
}

const WRITE_REFUSALS: &str = "
    INSERT INTO operation_refusals (operation_id, n, job_id, state, later)
    SELECT $1, t.* FROM unnest($2::integer[], $3::uuid[], $4::smallint[], $5::boolean[]) AS t(n, job_id, state, later)";

async fn write_refusals(tx: &mut Tx, id: Uuid, rows: &[RefusalRow]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(WRITE_REFUSALS)
        .bind(id)
        .bind(rows.iter().map(|row| row.n).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.job_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.state).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.later).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

const WRITE_SAMPLES: &str = "
    INSERT INTO operation_samples (operation_id, job_id, canary)
    SELECT $1, t.* FROM unnest($2::uuid[], $3::boolean[]) AS t(job_id, canary)
    ON CONFLICT DO NOTHING";

async fn write_samples(tx: &mut Tx, id: Uuid, step: &Step, moved: &[MovedJob]) -> StoreResult<()> {
    let (jobs, canary): (Vec<Uuid>, Vec<bool>) = operations::samples(step, moved).into_iter().unzip();
    if !jobs.is_empty() {
        sqlx::query(WRITE_SAMPLES).bind(id).bind(jobs).bind(canary).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Maximum number of jobs whose states one statement reads.
const STATES_AT_ONCE: usize = 500;

pub(crate) async fn outcomes(store: &PostgresStore, id: Uuid, canary: bool) -> StoreResult<Outcomes> {
    let query = "SELECT job_id FROM operation_samples WHERE operation_id = $1 AND canary = $2 ORDER BY job_id";
    let mut connection = store.pool.acquire().await?;
    let ids: Vec<Uuid> = sqlx::query_scalar(query).bind(id).bind(canary).fetch_all(&mut *connection).await?;
    let mut records = Vec::with_capacity(ids.len());
    for ids in ids.chunks(STATES_AT_ONCE) {
        records.extend(read::states(&mut connection, ids).await?.into_values());
    }
    connection.commit().await?;
    Ok(operations::outcomes(ids.len(), &records))
}

/// Deletes operations that ended before $1, and what else is stored of them.
const PRUNE: &str = "
    WITH old AS MATERIALIZED (
        SELECT id FROM operations WHERE finished_at < $1 ORDER BY finished_at LIMIT $2 FOR UPDATE SKIP LOCKED
    ), refusals AS (
        DELETE FROM operation_refusals WHERE operation_id = ANY(ARRAY(SELECT id FROM old))
    ), samples AS (
        DELETE FROM operation_samples WHERE operation_id = ANY(ARRAY(SELECT id FROM old))
    )
    DELETE FROM operations WHERE id = ANY(ARRAY(SELECT id FROM old))";

pub(crate) async fn prune(store: &PostgresStore, before: i64, limit: i64) -> StoreResult<u64> {
    let mut tx = store.begin().await?;
    let deleted = sqlx::query(PRUNE).bind(before).bind(limit).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(deleted.rows_affected())
}
