//! Operator actions on jobs: cancel, retry, delete, and changes of pending jobs. Statements that write lock the rows they find; a job that has moved
//! meanwhile is searched again, in a new transaction.

use jobqueue_shared::state::State;
use jobqueue_store::{
    error::StoreResult,
    error_groups::changes::ErrorChanges,
    operator_actions::{self, Answers, FinishedRow, Retried, SetAsideRow},
    retention::KeyTreatment,
    rows::{
        packed_claim,
        write::{Deltas, ReadyRow},
    },
    types::{ActionAnswer, Change},
};
use sqlx::FromRow;
use uuid::Uuid;

use crate::{PostgresStore, Tx, deltas, error_groups::error_deltas, id_range, observe::read, settle};

/// Bound of the times at which jobs came into their states that excludes none.
const FOR_EVER: i64 = i64::MAX;

/// Adds the answers for jobs that were not found in the tables of the action.
async fn explain(tx: &mut Tx, answers: &mut Answers, moves: fn(State) -> bool) -> StoreResult<()> {
    let open = answers.open();
    if !open.is_empty() {
        answers.answer_rest(&read::states(tx, &open).await?, moves);
    }
    Ok(())
}

pub(crate) async fn cancel(store: &PostgresStore, ids: &[Uuid], reason: &str) -> StoreResult<Vec<ActionAnswer>> {
    let mut answers = Answers::to(ids);
    while !answers.open().is_empty() {
        let mut tx = store.begin().await?;
        let now = store.clock.now_ms();
        cancel_pending(&mut tx, reason, FOR_EVER, now, &mut answers).await?;
        cancel_running(&mut tx, reason, FOR_EVER, now, &mut answers).await?;
        explain(&mut tx, &mut answers, State::can_cancel).await?;
        tx.commit().await?;
    }
    Ok(answers.in_order(ids))
}

/// Takes pending jobs out of `ready` that are there since $4 or longer. Rows are found as a read finds them, and locked by their ctid, because FOR UPDATE
/// does not apply to a UNION.
const TAKE_PENDING: &str = concat!(
    "
    DELETE FROM ready WHERE ctid = ANY(ARRAY(
        SELECT ctid FROM ready WHERE enqueued_at <= $4 AND ctid = ANY(ARRAY(
            SELECT r.ctid FROM unnest($1::uuid[]) AS asked(id)
            CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.id = asked.id AND jobs.id BETWEEN $2 AND $3 LIMIT 1) AS j
            CROSS JOIN LATERAL (",
    read::ready_of!("ctid"),
    ") AS r
        ))
        ORDER BY id FOR UPDATE
    ))
    RETURNING worker_id, id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, waits_for_handler, for_task"
);

async fn take_pending(tx: &mut Tx, until: i64, answers: &Answers) -> StoreResult<Vec<ReadyRow>> {
    let open = answers.open();
    let (first, last) = id_range(&open);
    Ok(sqlx::query_as(TAKE_PENDING).bind(open).bind(first).bind(last).bind(until).fetch_all(&mut **tx).await?)
}

pub(super) async fn cancel_pending(
    tx: &mut Tx,
    reason: &str,
    until: i64,
    now: i64,
    answers: &mut Answers,
) -> StoreResult<()> {
    let rows = take_pending(tx, until, answers).await?;
    let (cancelled, deltas) = operator_actions::cancel_pending(rows, reason, now, answers);
    settle::write::write_cancelled(tx, &cancelled).await?;
    deltas::write_deltas(tx, &deltas, now).await
}

/// Changes the priority in the jobs' own rows, from which a later attempt takes it.
const SET_PRIORITY: &str = "UPDATE jobs SET priority = $4 WHERE id = ANY($1) AND id BETWEEN $2 AND $3";

/// Gives pending jobs another priority or run_at. Returns their new rows.
pub(super) async fn change_pending(
    tx: &mut Tx,
    change: &Change,
    until: i64,
    now: i64,
    answers: &mut Answers,
) -> StoreResult<Vec<ReadyRow>> {
    let rows = take_pending(tx, until, answers).await?;
    if rows.is_empty() {
        return Ok(rows);
    }
    let (ready, deltas) = operator_actions::change_pending(rows, change, now, answers);
    if let Change::SetPriority(priority) = change {
        let ids: Vec<Uuid> = ready.iter().map(|row| row.id).collect();
        let (first, last) = id_range(&ids);
        let query = sqlx::query(SET_PRIORITY).bind(ids).bind(first).bind(last).bind(i16::from(*priority));
        query.execute(&mut **tx).await?;
    }
    settle::write::write_ready(tx, &ready).await?;
    deltas::write_deltas(tx, &deltas, now).await?;
    Ok(ready)
}

const FIND_CLAIMS: &str = "
    SELECT DISTINCT c.id FROM unnest($1::uuid[]) AS asked(id)
    JOIN claims c ON position(uuid_send(asked.id) IN c.ids) % 16 = 1";

pub(super) async fn cancel_running(
    tx: &mut Tx,
    reason: &str,
    until: i64,
    now: i64,
    answers: &mut Answers,
) -> StoreResult<()> {
    let claims: Vec<Uuid> = sqlx::query_scalar(FIND_CLAIMS).bind(answers.open()).fetch_all(&mut **tx).await?;
    if claims.is_empty() {
        return Ok(());
    }
    let claims = settle::lock_claims(tx, claims).await?;
    let items = operator_actions::cancel_running(&claims, reason, until, answers);
    settle::end_attempts(tx, &items, claims, now).await?;
    Ok(())
}

pub(crate) async fn retry(store: &PostgresStore, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>> {
    let mut answers = Answers::to(ids);
    while !answers.open().is_empty() {
        let mut tx = store.begin().await?;
        let now = store.clock.now_ms();
        let ready = retry_finished(&mut tx, "", FOR_EVER, now, &mut answers).await?;
        explain(&mut tx, &mut answers, State::can_retry).await?;
        tx.commit().await?;
        store.scan_cursors.lower(ready.iter().map(ReadyRow::key));
    }
    Ok(answers.in_order(ids))
}

/// Takes dead letters and cancelled jobs that are so since $2 or longer.
const TAKE_FINISHED: &str = "
    WITH failed AS (
        DELETE FROM dead_letters WHERE ctid = ANY(ARRAY(SELECT ctid FROM dead_letters WHERE id = ANY($1) AND failed_at <= $2 ORDER BY id FOR UPDATE))
        RETURNING id, run_no, fingerprint
    ), cancelled_rows AS (
        DELETE FROM cancelled WHERE ctid = ANY(ARRAY(SELECT ctid FROM cancelled WHERE id = ANY($1) AND cancelled_at <= $2 ORDER BY id FOR UPDATE))
        RETURNING id, run_no, CASE WHEN session_id IS NULL THEN cancelled_at END AS cancelled_at, note
    )
    SELECT j.id, j.worker_id, t.run_no, t.failed, j.priority, octet_length(j.payload) AS payload_bytes, t.cancelled_at, t.note, t.fingerprint
    FROM (
        SELECT id, run_no, true AS failed, NULL AS cancelled_at, NULL AS note, fingerprint FROM failed
        UNION ALL
        SELECT id, run_no, false, cancelled_at, note, NULL FROM cancelled_rows
    ) AS t
    CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.id = t.id AND jobs.id BETWEEN $3 AND $4 LIMIT 1) AS j";

pub(super) async fn retry_finished(
    tx: &mut Tx,
    text: &str,
    until: i64,
    now: i64,
    answers: &mut Answers,
) -> StoreResult<Vec<ReadyRow>> {
    let open = answers.open();
    let (first, last) = id_range(&open);
    let rows: Vec<FinishedRow> =
        sqlx::query_as(TAKE_FINISHED).bind(open).bind(until).bind(first).bind(last).fetch_all(&mut **tx).await?;
    let Retried { ready, attempts, deltas, errors } = operator_actions::retry(rows, text, now, answers);
    settle::write::write_ready(tx, &ready).await?;
    settle::write::write_attempts(tx, &attempts).await?;
    deltas::write_deltas(tx, &deltas, now).await?;
    error_deltas::write(tx, &errors, now).await?;
    Ok(ready)
}

pub(crate) async fn delete(store: &PostgresStore, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>> {
    let mut answers = Answers::to(ids);
    while !answers.open().is_empty() {
        let mut tx = store.begin().await?;
        let now = store.clock.now_ms();
        let (mut deltas, mut errors) = (Deltas::default(), ErrorChanges::default());
        let mut gone = delete_set_aside(&mut tx, FOR_EVER, &mut deltas, &mut errors, &mut answers).await?;
        gone.extend(delete_done(&mut tx, FOR_EVER, &mut deltas, &mut answers).await?);
        delete_jobs(&mut tx, &gone, KeyTreatment::Delete).await?;
        explain(&mut tx, &mut answers, State::is_finished).await?;
        deltas::write_deltas(&mut tx, &deltas, now).await?;
        error_deltas::write(&mut tx, &errors, now).await?;
        tx.commit().await?;
    }
    Ok(answers.in_order(ids))
}

const DELETE_SET_ASIDE: &str = "
    WITH failed AS (
        DELETE FROM dead_letters WHERE ctid = ANY(ARRAY(SELECT ctid FROM dead_letters WHERE id = ANY($1) AND failed_at <= $2 ORDER BY id FOR UPDATE))
        RETURNING id, worker_id, fingerprint
    ), cancelled_rows AS (
        DELETE FROM cancelled WHERE ctid = ANY(ARRAY(SELECT ctid FROM cancelled WHERE id = ANY($1) AND cancelled_at <= $2 ORDER BY id FOR UPDATE))
        RETURNING id, worker_id
    )
    SELECT id, worker_id, fingerprint FROM failed UNION ALL SELECT id, worker_id, NULL FROM cancelled_rows";

pub(super) async fn delete_set_aside(
    tx: &mut Tx,
    until: i64,
    deltas: &mut Deltas,
    errors: &mut ErrorChanges,
    answers: &mut Answers,
) -> StoreResult<Vec<Uuid>> {
    let rows: Vec<SetAsideRow> =
        sqlx::query_as(DELETE_SET_ASIDE).bind(answers.open()).bind(until).fetch_all(&mut **tx).await?;
    Ok(operator_actions::delete_set_aside(&rows, deltas, errors, answers))
}

#[derive(FromRow)]
struct DoneRow {
    first_id: Uuid,
    claim_id: Uuid,
    finished_at: i64,
    worker_id: String,
    ids: Vec<u8>,
    runs: Option<Vec<u8>>,
}

const LOCK_DONE: &str = "
    SELECT d.first_id, d.claim_id, d.finished_at, d.worker_id, d.ids, d.runs
    FROM done d
    WHERE d.ctid = ANY(ARRAY(
        SELECT e.ctid FROM unnest($1::uuid[], $2::uuid[]) AS asked(id, earliest)
        CROSS JOIN LATERAL (SELECT worker_id FROM jobs WHERE jobs.id = asked.id LIMIT 1) AS j
        JOIN done e ON e.worker_id = j.worker_id AND e.first_id BETWEEN asked.earliest AND asked.id
            AND position(uuid_send(asked.id) IN e.ids) % 16 = 1
        WHERE e.finished_at <= $3))
    ORDER BY d.first_id
    FOR UPDATE";

const SHRINK_DONE: &str = "
    UPDATE done SET ids = $5, runs = $6 WHERE worker_id = $1 AND first_id = $2 AND claim_id = $3 AND finished_at = $4";

const DELETE_DONE: &str = "
    DELETE FROM done WHERE worker_id = $1 AND first_id = $2 AND claim_id = $3 AND finished_at = $4";

/// Removes jobs from done rows, which they share with others.
pub(super) async fn delete_done(
    tx: &mut Tx,
    until: i64,
    deltas: &mut Deltas,
    answers: &mut Answers,
) -> StoreResult<Vec<Uuid>> {
    let open = answers.open();
    if open.is_empty() {
        return Ok(open);
    }
    let rows: Vec<DoneRow> = sqlx::query_as(LOCK_DONE)
        .bind(&open)
        .bind(open.iter().map(|id| packed_claim::earliest_first_id(*id)).collect::<Vec<_>>())
        .bind(until)
        .fetch_all(&mut **tx)
        .await?;
    let mut gone = Vec::new();
    for row in rows {
        let rest = packed_claim::without(&row.ids, row.runs.as_deref(), &open);
        operator_actions::delete_done(&rest.removed, &row.worker_id, deltas, answers);
        gone.extend(rest.removed);
        let query = if rest.ids.is_empty() { sqlx::query(DELETE_DONE) } else { sqlx::query(SHRINK_DONE) };
        let query = query.bind(row.worker_id).bind(row.first_id).bind(row.claim_id).bind(row.finished_at);
        let query = if rest.ids.is_empty() { query } else { query.bind(rest.ids).bind(rest.runs) };
        query.execute(&mut **tx).await?;
    }
    Ok(gone)
}

/// Deletes the rows in `jobs` of jobs that have left their last state table, and all other rows that belong to them.
/// `jobs` comes first: the deletion waits for refusals that are being recorded, which lock the row, and later
/// statements see what these wrote.
pub(crate) async fn delete_jobs(tx: &mut Tx, ids: &[Uuid], keys: KeyTreatment) -> StoreResult<()> {
    const STATEMENTS: [&str; 4] = [
        "DELETE FROM attempts WHERE job_id = ANY($1)",
        "DELETE FROM results WHERE id = ANY($1)",
        "DELETE FROM progress WHERE id = ANY($1)",
        "DELETE FROM origins WHERE id = ANY($1)",
    ];
    const DELETE_JOBS: &str = "DELETE FROM jobs WHERE id = ANY($1) AND id BETWEEN $2 AND $3";
    const DELETE_KEYS: &str = "DELETE FROM idempotency_keys WHERE job_id = ANY($1)";
    const KEEP_KEYS: &str = "UPDATE idempotency_keys SET gone_at = $2 WHERE job_id = ANY($1)";
    if ids.is_empty() {
        return Ok(());
    }
    let (first, last) = id_range(ids);
    sqlx::query(DELETE_JOBS).bind(ids).bind(first).bind(last).execute(&mut **tx).await?;
    for statement in STATEMENTS {
        sqlx::query(statement).bind(ids).execute(&mut **tx).await?;
    }
    let query = match keys {
        KeyTreatment::Delete => sqlx::query(DELETE_KEYS).bind(ids),
        KeyTreatment::Keep { gone_at } => sqlx::query(KEEP_KEYS).bind(ids).bind(gone_at),
    };
    query.execute(&mut **tx).await?;
    Ok(())
}
