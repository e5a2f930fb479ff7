//! Operator actions on jobs: cancel, retry, delete, and changes of pending jobs. `store/operator_actions.rs` determines their rows and answers.

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

use crate::{SqliteStore, Tx, begin, deltas, error_groups::fold, id_list, observe::read, pair_list, settle};

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

pub(crate) async fn cancel(store: &SqliteStore, ids: &[Uuid], reason: &str) -> StoreResult<Vec<ActionAnswer>> {
    let mut answers = Answers::to(ids);
    while !answers.open().is_empty() {
        let mut writer = store.writer().await?;
        let now = store.clock.now_ms();
        let mut tx = begin(&mut writer).await?;
        cancel_pending(&mut tx, reason, FOR_EVER, now, &mut answers).await?;
        cancel_running(&mut tx, reason, FOR_EVER, now, &mut answers).await?;
        explain(&mut tx, &mut answers, State::can_cancel).await?;
        tx.commit().await?;
    }
    Ok(answers.in_order(ids))
}

/// Takes pending jobs out of `ready` that are there since ?2 or longer. Rows are found as a read finds them. SQLite does not look up the rows of a bare
/// UNION one by one, but would read all of `ready`.
const TAKE_PENDING: &str = "
    WITH asked AS (SELECT unhex(value) AS id FROM json_each(?1)), found AS (
        SELECT j.worker_id, j.priority, j.run_at, j.id FROM asked JOIN jobs j ON j.id = asked.id
        UNION ALL
        SELECT r.worker_id, r.priority, r.run_at, r.id FROM asked JOIN ready r ON r.id = asked.id AND r.inline_job IS NULL
    )
    DELETE FROM ready WHERE (worker_id, priority, run_at, id) IN (SELECT * FROM found) AND enqueued_at <= ?2
    RETURNING worker_id, id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, waits_for_handler, for_task";

async fn take_pending(tx: &mut Tx, until: i64, answers: &Answers) -> StoreResult<Vec<ReadyRow>> {
    Ok(sqlx::query_as(TAKE_PENDING).bind(id_list(&answers.open())).bind(until).fetch_all(&mut *tx).await?)
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
const SET_PRIORITY: &str = "UPDATE jobs SET priority = ?2 WHERE id IN (SELECT unhex(value) FROM json_each(?1))";

/// Gives pending jobs another priority or run_at.
pub(super) async fn change_pending(
    tx: &mut Tx,
    change: &Change,
    until: i64,
    now: i64,
    answers: &mut Answers,
) -> StoreResult<()> {
    let rows = take_pending(tx, until, answers).await?;
    if rows.is_empty() {
        return Ok(());
    }
    let (ready, deltas) = operator_actions::change_pending(rows, change, now, answers);
    if let Change::SetPriority(priority) = change {
        let ids: Vec<Uuid> = ready.iter().map(|row| row.id).collect();
        sqlx::query(SET_PRIORITY).bind(id_list(&ids)).bind(i16::from(*priority)).execute(&mut *tx).await?;
    }
    settle::write::write_ready(tx, &ready).await?;
    deltas::write_deltas(tx, &deltas, now).await
}

const FIND_CLAIMS: &str = "
    SELECT DISTINCT c.id FROM json_each(?1) AS asked
    JOIN claims c ON instr(c.ids, unhex(asked.value)) % 16 = 1";

pub(super) async fn cancel_running(
    tx: &mut Tx,
    reason: &str,
    until: i64,
    now: i64,
    answers: &mut Answers,
) -> StoreResult<()> {
    let claims: Vec<Uuid> = sqlx::query_scalar(FIND_CLAIMS).bind(id_list(&answers.open())).fetch_all(&mut *tx).await?;
    if claims.is_empty() {
        return Ok(());
    }
    let claims = settle::read_claims(tx, &claims).await?;
    let items = operator_actions::cancel_running(&claims, reason, until, answers);
    settle::end_attempts(tx, &items, claims, now).await?;
    Ok(())
}

pub(crate) async fn retry(store: &SqliteStore, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>> {
    let mut answers = Answers::to(ids);
    while !answers.open().is_empty() {
        let mut writer = store.writer().await?;
        let now = store.clock.now_ms();
        let mut tx = begin(&mut writer).await?;
        retry_finished(&mut tx, "", FOR_EVER, now, &mut answers).await?;
        explain(&mut tx, &mut answers, State::can_retry).await?;
        tx.commit().await?;
    }
    Ok(answers.in_order(ids))
}

/// Reads failed and cancelled jobs that are so since ?2 or longer, which [`take_set_aside`] deletes: SQLite deletes in one table at a time, and only
/// at the top of a statement.
const READ_FINISHED: &str = "
    SELECT j.id, j.worker_id, t.run_no, t.failed, j.priority, length(j.payload) AS payload_bytes, t.cancelled_at, t.note, t.fingerprint
    FROM (
        SELECT id, run_no, true AS failed, NULL AS cancelled_at, NULL AS note, fingerprint FROM dead_letters
        WHERE failed_at <= ?2
        UNION ALL
        SELECT id, run_no, false, CASE WHEN session_id IS NULL THEN cancelled_at END, note, NULL FROM cancelled
        WHERE cancelled_at <= ?2
    ) AS t
    JOIN jobs j ON j.id = t.id
    WHERE t.id IN (SELECT unhex(value) FROM json_each(?1))";

pub(super) async fn retry_finished(
    tx: &mut Tx,
    text: &str,
    until: i64,
    now: i64,
    answers: &mut Answers,
) -> StoreResult<()> {
    let rows: Vec<FinishedRow> =
        sqlx::query_as(READ_FINISHED).bind(id_list(&answers.open())).bind(until).fetch_all(&mut *tx).await?;
    take_set_aside(tx, &rows.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
    let Retried { ready, attempts, deltas, errors } = operator_actions::retry(rows, text, now, answers);
    settle::write::write_ready(tx, &ready).await?;
    settle::write::write_attempts(tx, &attempts).await?;
    deltas::write_deltas(tx, &deltas, now).await?;
    fold::write(tx, &errors, now).await
}

async fn take_set_aside(tx: &mut Tx, ids: &[Uuid]) -> StoreResult<()> {
    for statement in [
        "DELETE FROM dead_letters WHERE id IN (SELECT unhex(value) FROM json_each(?1))",
        "DELETE FROM cancelled WHERE id IN (SELECT unhex(value) FROM json_each(?1))",
    ] {
        sqlx::query(statement).bind(id_list(ids)).execute(&mut *tx).await?;
    }
    Ok(())
}

pub(crate) async fn delete(store: &SqliteStore, ids: &[Uuid]) -> StoreResult<Vec<ActionAnswer>> {
    let mut answers = Answers::to(ids);
    while !answers.open().is_empty() {
        let mut writer = store.writer().await?;
        let now = store.clock.now_ms();
        let mut tx = begin(&mut writer).await?;
        let (mut deltas, mut errors) = (Deltas::default(), ErrorChanges::default());
        let mut gone = delete_set_aside(&mut tx, FOR_EVER, &mut deltas, &mut errors, &mut answers).await?;
        gone.extend(delete_done(&mut tx, FOR_EVER, &mut deltas, &mut answers).await?);
        delete_jobs(&mut tx, &gone, KeyTreatment::Delete).await?;
        explain(&mut tx, &mut answers, State::is_finished).await?;
        deltas::write_deltas(&mut tx, &deltas, now).await?;
        fold::write(&mut tx, &errors, now).await?;
        tx.commit().await?;
    }
    Ok(answers.in_order(ids))
}

const READ_SET_ASIDE: &str = "
    SELECT id, worker_id, fingerprint FROM dead_letters
    WHERE id IN (SELECT unhex(value) FROM json_each(?1)) AND failed_at <= ?2
    UNION ALL
    SELECT id, worker_id, NULL FROM cancelled
    WHERE id IN (SELECT unhex(value) FROM json_each(?1)) AND cancelled_at <= ?2";

pub(super) async fn delete_set_aside(
    tx: &mut Tx,
    until: i64,
    deltas: &mut Deltas,
    errors: &mut ErrorChanges,
    answers: &mut Answers,
) -> StoreResult<Vec<Uuid>> {
    let rows: Vec<SetAsideRow> =
        sqlx::query_as(READ_SET_ASIDE).bind(id_list(&answers.open())).bind(until).fetch_all(&mut *tx).await?;
    take_set_aside(tx, &rows.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
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

const READ_DONE: &str = "
    SELECT DISTINCT d.first_id, d.claim_id, d.finished_at, d.worker_id, d.ids, d.runs
    FROM (SELECT unhex(substr(value, 1, 32)) AS id, unhex(substr(value, 33, 32)) AS earliest FROM json_each(?1)) AS asked
    JOIN jobs j ON j.id = asked.id
    JOIN done d ON d.worker_id = j.worker_id AND d.first_id BETWEEN asked.earliest AND asked.id
        AND instr(d.ids, asked.id) % 16 = 1 AND d.finished_at <= ?2";

const SHRINK_DONE: &str = "
    UPDATE done SET ids = ?5, runs = ?6 WHERE worker_id = ?1 AND first_id = ?2 AND claim_id = ?3 AND finished_at = ?4";

const DELETE_DONE: &str = "
    DELETE FROM done WHERE worker_id = ?1 AND first_id = ?2 AND claim_id = ?3 AND finished_at = ?4";

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
    let rows: Vec<DoneRow> = sqlx::query_as(READ_DONE)
        .bind(pair_list(open.iter().map(|id| [*id, packed_claim::earliest_first_id(*id)])))
        .bind(until)
        .fetch_all(&mut *tx)
        .await?;
    let mut gone = Vec::new();
    for row in rows {
        let rest = packed_claim::without(&row.ids, row.runs.as_deref(), &open);
        operator_actions::delete_done(&rest.removed, &row.worker_id, deltas, answers);
        gone.extend(rest.removed);
        let query = if rest.ids.is_empty() { sqlx::query(DELETE_DONE) } else { sqlx::query(SHRINK_DONE) };
        let query = query.bind(row.worker_id).bind(row.first_id).bind(row.claim_id).bind(row.finished_at);
        let query = if rest.ids.is_empty() { query } else { query.bind(rest.ids).bind(rest.runs) };
        query.execute(&mut *tx).await?;
    }
    Ok(gone)
}

/// Deletes the rows in `jobs` of jobs that have left their last state table, and all other rows that belong to them.
pub(crate) async fn delete_jobs(tx: &mut Tx, ids: &[Uuid], keys: KeyTreatment) -> StoreResult<()> {
    const STATEMENTS: [&str; 5] = [
        "DELETE FROM attempts WHERE job_id IN (SELECT unhex(value) FROM json_each(?1))",
        "DELETE FROM results WHERE id IN (SELECT unhex(value) FROM json_each(?1))",
        "DELETE FROM progress WHERE id IN (SELECT unhex(value) FROM json_each(?1))",
        "DELETE FROM origins WHERE id IN (SELECT unhex(value) FROM json_each(?1))",
        "DELETE FROM jobs WHERE id IN (SELECT unhex(value) FROM json_each(?1))",
    ];
    const DELETE_KEYS: &str = "DELETE FROM idempotency_keys WHERE job_id IN (SELECT unhex(value) FROM json_each(?1))";
    const KEEP_KEYS: &str =
        "UPDATE idempotency_keys SET gone_at = ?2 WHERE job_id IN (SELECT unhex(value) FROM json_each(?1))";
    if ids.is_empty() {
        return Ok(());
    }
    for statement in STATEMENTS {
        sqlx::query(statement).bind(id_list(ids)).execute(&mut *tx).await?;
    }
    let query = match keys {
        KeyTreatment::Delete => sqlx::query(DELETE_KEYS).bind(id_list(ids)),
        KeyTreatment::Keep { gone_at } => sqlx::query(KEEP_KEYS).bind(id_list(ids)).bind(gone_at),
    };
    query.execute(&mut *tx).await?;
    Ok(())
}
