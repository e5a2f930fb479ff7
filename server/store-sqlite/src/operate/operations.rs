//! Operations: their rows, and their steps. With one writer no step is under way while an operation is paused or
//! stopped.

use jobqueue_store::{
    error::{StoreError, StoreResult},
    error_groups::changes::ErrorChanges,
    operation_columns,
    operations::{self, OperationRow, RefusalRow, StepUnderWay},
    retention::KeyTreatment,
    rows::write::Deltas,
    types::{
        AttemptOutcome, Change, ClaimedOperation, MovedJob, NewOperation, OperationRecord, OperationStarted,
        OperationState, Outcomes, Refusal, Step, StepAnswer, Stepped,
    },
};
use sqlx::{FromRow, QueryBuilder};
use uuid::Uuid;

use super::operator_actions as actions;
use crate::{SqliteStore, Tx, batches, begin, deltas, error_groups::fold, id_list, observe::read};

const START: &str = concat!(
    "
    INSERT INTO operations (id, request_id, request_hash, spec, state, note, caller, started_at, updated_at, total,
                            total_is_floor, changed, refused, progress, lease_until, next_at, brief)
    VALUES (?1, ?2, ?3, ?4, 1, '', ?5, ?8, ?8, ?6, ?7, 0, 0, '', 0, 0, ?9)
    ON CONFLICT (request_id) DO NOTHING
    RETURNING ",
    operation_columns!()
);

const BY_REQUEST: &str =
    concat!("SELECT request_hash, ", operation_columns!(), " FROM operations WHERE request_id = ?1");

#[derive(FromRow)]
struct Earlier {
    request_hash: Vec<u8>,
    #[sqlx(flatten)]
    row: OperationRow,
}

pub(crate) async fn start(store: &SqliteStore, new: &NewOperation) -> StoreResult<OperationStarted> {
    let id = store.clock.ids(1).pop().unwrap_or_default();
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let row: Option<OperationRow> = sqlx::query_as(START)
        .bind(id)
        .bind(new.request_id.as_deref())
        .bind(new.request_hash.as_slice())
        .bind(new.spec.as_slice())
        .bind(new.caller.as_str())
        .bind(new.total.map(|(total, _)| total.cast_signed()))
        .bind(new.total.is_some_and(|(_, is_floor)| is_floor))
        .bind(now)
        .bind(new.brief.as_slice())
        .fetch_optional(&mut *tx)
        .await?;
    let started = if let Some(row) = row {
        OperationStarted::New(row.into_record()?)
    } else {
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

const READ: &str = concat!("SELECT ", operation_columns!(), " FROM operations WHERE id = ?1");

const REFUSALS: &str = "SELECT n, job_id, state, later FROM operation_refusals WHERE operation_id = ?1 ORDER BY n";

pub(crate) async fn operation(store: &SqliteStore, id: Uuid) -> StoreResult<Option<(OperationRecord, Vec<Refusal>)>> {
    let mut tx = store.readers.begin().await?;
    let row: Option<OperationRow> = sqlx::query_as(READ).bind(id).fetch_optional(&mut *tx).await?;
    let refusals: Vec<RefusalRow> = sqlx::query_as(REFUSALS).bind(id).fetch_all(&mut *tx).await?;
    tx.commit().await?;
    let refusals = refusals.into_iter().map(RefusalRow::into_refusal).collect();
    row.map(|row| Ok((row.into_record()?, refusals))).transpose()
}

const LIST: &str =
    concat!("SELECT ", operation_columns!(), " FROM operations WHERE ?1 IS NULL OR id < ?1 ORDER BY id DESC LIMIT ?2");

pub(crate) async fn operations(
    store: &SqliteStore,
    before: Option<Uuid>,
    limit: u32,
) -> StoreResult<Vec<OperationRecord>> {
    let rows: Vec<OperationRow> =
        sqlx::query_as(LIST).bind(before).bind(i64::from(limit)).fetch_all(&store.readers).await?;
    rows.into_iter().map(OperationRow::into_record).collect()
}

const MOVE: &str = "
    UPDATE operations SET state = ?3, note = ?4, updated_at = ?6, runner = NULL, lease_until = 0,
           finished_at = CASE WHEN ?5 THEN ?6 END
    WHERE id = ?1 AND state IN (SELECT value FROM json_each(?2))";

pub(crate) async fn move_operation(
    store: &SqliteStore,
    id: Uuid,
    from: &[OperationState],
    to: OperationState,
    note: &str,
) -> StoreResult<Option<(bool, OperationRecord)>> {
    let from: Vec<String> = from.iter().map(|state| i16::from(*state).to_string()).collect();
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let moved = sqlx::query(MOVE)
        .bind(id)
        .bind(format!("[{}]", from.join(",")))
        .bind(i16::from(to))
        .bind(note)
        .bind(to.is_final())
        .bind(now)
        .execute(&mut *tx)
        .await?;
    let row: Option<OperationRow> = sqlx::query_as(READ).bind(id).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    row.map(|row| Ok((moved.rows_affected() > 0, row.into_record()?))).transpose()
}

const CLAIM: &str = concat!(
    "
    UPDATE operations SET runner = ?1, lease_until = ?3 + ?2
    WHERE id = (SELECT id FROM operations WHERE state <= 2 AND lease_until < ?3 ORDER BY id LIMIT 1)
    RETURNING max(next_at - ?3, 0) AS wait_ms, spec, ",
    operation_columns!()
);

#[derive(FromRow)]
struct ClaimedRow {
    wait_ms: i64,
    spec: Vec<u8>,
    #[sqlx(flatten)]
    row: OperationRow,
}

/// Whether an operation is free; asked before the writer is, so that servers without operations do not write.
const IS_FREE: &str = "SELECT EXISTS (SELECT 1 FROM operations WHERE state <= 2 AND lease_until < ?1)";

pub(crate) async fn claim(store: &SqliteStore, token: Uuid, lease_ms: i64) -> StoreResult<Option<ClaimedOperation>> {
    let is_free: bool = sqlx::query_scalar(IS_FREE).bind(store.clock.now_ms()).fetch_one(&store.readers).await?;
    if !is_free {
        return Ok(None);
    }
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let claimed: Option<ClaimedRow> =
        sqlx::query_as(CLAIM).bind(token).bind(lease_ms).bind(now).fetch_optional(&mut *tx).await?;
    tx.commit().await?;
    let Some(ClaimedRow { wait_ms, spec, row }) = claimed else { return Ok(None) };
    Ok(Some(ClaimedOperation { record: row.into_record()?, spec, wait_ms }))
}

const LOCK: &str = "SELECT changed, refused FROM operations WHERE id = ?1 AND runner = ?2 AND state <= 2";

const ADVANCE: &str = "
    UPDATE operations SET changed = changed + ?2, refused = refused + ?3, progress = ?4, note = ?6,
           updated_at = CASE WHEN ?2 + ?3 > 0 OR state <> ?5 THEN ?11 ELSE updated_at END, state = ?5,
           next_at = max(next_at, ?11) + ?7, runner = CASE WHEN ?8 THEN runner END,
           lease_until = CASE WHEN ?8 THEN ?11 + ?9 ELSE 0 END, finished_at = CASE WHEN ?10 THEN ?11 END
    WHERE id = ?1
    RETURNING changed, refused, max(next_at - ?11, 0)";

pub(crate) async fn step(store: &SqliteStore, step: &Step) -> StoreResult<StepAnswer> {
    let mut writer = store.writer().await?;
    let now = store.clock.now_ms();
    let mut tx = begin(&mut writer).await?;
    let id = step.operation_id;
    let locked: Option<(i64, i64)> = sqlx::query_as(LOCK).bind(id).bind(step.token).fetch_optional(&mut *tx).await?;
    let Some((_, refused_before)) = locked else {
        tx.rollback().await?;
        return Ok(StepAnswer::NotRunner);
    };
    let mut under_way = StepUnderWay::new(step);
    change(&mut tx, step, &mut under_way, now).await?;
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
        .bind(now)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    let (changed, refused) = (changed.unsigned_abs(), refused.unsigned_abs());
    Ok(StepAnswer::Stepped(Stepped { changed, refused, wait_ms, moved }))
}

/// Of jobs that a person has retried after ?2.
const RETRIED_SINCE: &str = "
    SELECT DISTINCT job_id FROM attempts
    WHERE job_id IN (SELECT unhex(value) FROM json_each(?1)) AND outcome = ?3 AND ended_at > ?2";

/// Changes the jobs of a step. No job moves meanwhile, so one look finds all of them.
async fn change(tx: &mut Tx, step: &Step, under_way: &mut StepUnderWay<'_>, now: i64) -> StoreResult<()> {
    let until = under_way.until();
    if under_way.is_cancel_of_all() {
        let retried: Vec<Uuid> = sqlx::query_scalar(RETRIED_SINCE)
            .bind(id_list(&step.ids))
            .bind(step.covers_until_ms)
            .bind(AttemptOutcome::Retried as i16)
            .fetch_all(&mut *tx)
            .await?;
        under_way.exclude(retried);
    }
    let answers = &mut under_way.answers;
    if answers.open().is_empty() {
        return Ok(());
    }
    match &step.change {
        Change::Retry { text } => actions::retry_finished(tx, text, until, now, answers).await?,
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
            fold::write(tx, &errors, now).await?;
        }
        change @ (Change::SetPriority(_) | Change::Reschedule { .. }) => {
            actions::change_pending(tx, change, until, now, answers).await?;
        }
    }
    let open = under_way.answers.open();
    if !open.is_empty() {
        under_way.judge(&read::states(tx, &open).await?);
    }
    Ok(())
}

async fn write_refusals(tx: &mut Tx, id: Uuid, rows: &[RefusalRow]) -> StoreResult<()> {
    for rows in batches(rows) {
        let mut query = QueryBuilder::new("INSERT INTO operation_refusals (operation_id, n, job_id, state, later) ");
        query.push_values(rows, |mut out, row| {
            out.push_bind(id).push_bind(row.n).push_bind(row.job_id).push_bind(row.state).push_bind(row.later);
        });
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}

async fn write_samples(tx: &mut Tx, id: Uuid, step: &Step, moved: &[MovedJob]) -> StoreResult<()> {
    for rows in batches(&operations::samples(step, moved)) {
        let mut query = QueryBuilder::new("INSERT OR IGNORE INTO operation_samples (operation_id, job_id, canary) ");
        query.push_values(rows, |mut out, (job_id, canary)| {
            out.push_bind(id).push_bind(*job_id).push_bind(*canary);
        });
        query.build().execute(&mut *tx).await?;
    }
    Ok(())
}

/// Maximum number of jobs whose states one statement reads.
const STATES_AT_ONCE: usize = 500;

pub(crate) async fn outcomes(store: &SqliteStore, id: Uuid, canary: bool) -> StoreResult<Outcomes> {
    let query = "SELECT job_id FROM operation_samples WHERE operation_id = ?1 AND canary = ?2 ORDER BY job_id";
    let mut connection = store.readers.acquire().await?;
    let ids: Vec<Uuid> = sqlx::query_scalar(query).bind(id).bind(canary).fetch_all(&mut *connection).await?;
    let mut records = Vec::with_capacity(ids.len());
    for ids in ids.chunks(STATES_AT_ONCE) {
        records.extend(read::states(&mut connection, ids).await?.into_values());
    }
    Ok(operations::outcomes(ids.len(), &records))
}

/// Deletes operations that ended before a time, and what else is stored of them.
pub(crate) async fn prune(store: &SqliteStore, before: i64, limit: i64) -> StoreResult<u64> {
    let mut writer = store.writer().await?;
    let mut tx = begin(&mut writer).await?;
    let old = "DELETE FROM operations WHERE id IN (
        SELECT id FROM operations WHERE finished_at < ?1 ORDER BY finished_at LIMIT ?2) RETURNING id";
    let gone: Vec<Uuid> = sqlx::query_scalar(old).bind(before).bind(limit).fetch_all(&mut *tx).await?;
    for statement in [
        "DELETE FROM operation_refusals WHERE operation_id IN (SELECT unhex(value) FROM json_each(?1))",
        "DELETE FROM operation_samples WHERE operation_id IN (SELECT unhex(value) FROM json_each(?1))",
    ] {
        if !gone.is_empty() {
            sqlx::query(statement).bind(id_list(&gone)).execute(&mut *tx).await?;
        }
    }
    tx.commit().await?;
    Ok(gone.len() as u64)
}
