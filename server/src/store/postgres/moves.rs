//! What people do with jobs: cancel, retry, delete.

use std::collections::HashMap;

use jobqueue_shared::state::{Ending, State};
use sqlx::FromRow;
use uuid::Uuid;

use super::{PostgresStore, Tx, counts, read, settle};
use crate::store::{
    error::StoreResult,
    places,
    plan::{AttemptRow, CancelledRow, Deltas, Item, ReadyRow},
    types::{AttemptOutcome, Moved},
};

type Answers = HashMap<Uuid, Moved>;

fn sorted(ids: &[Uuid]) -> Vec<Uuid> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn open(ids: &[Uuid], answers: &Answers) -> Vec<Uuid> {
    ids.iter().copied().filter(|id| !answers.contains_key(id)).collect()
}

fn in_order(ids: &[Uuid], answers: &Answers) -> Vec<Moved> {
    ids.iter().map(|id| answers.get(id).cloned().unwrap_or(Moved::NotFound)).collect()
}

/// Answers for ids that no table had where it was looked for: refused by their state, or not there. One whose state
/// `moves` has changed its place between two looks and stays open.
async fn explain(tx: &mut Tx, ids: &[Uuid], moves: fn(State) -> bool, answers: &mut Answers) -> StoreResult<()> {
    let open = open(ids, answers);
    if open.is_empty() {
        return Ok(());
    }
    let records = read::states(tx, &open).await?;
    for id in open {
        match records.get(&id).map(|record| record.state) {
            None => drop(answers.insert(id, Moved::NotFound)),
            Some(state) if !moves(state) => drop(answers.insert(id, Moved::Refused(state))),
            Some(_) => {}
        }
    }
    Ok(())
}

pub(super) async fn cancel(store: &PostgresStore, ids: &[Uuid], reason: &str) -> StoreResult<Vec<Moved>> {
    let mut answers = Answers::new();
    let sorted = sorted(ids);
    while !open(&sorted, &answers).is_empty() {
        let mut tx = store.begin().await?;
        let mut round = answers.clone();
        cancel_pending(&mut tx, &sorted, reason, &mut round).await?;
        cancel_running(&mut tx, &sorted, reason, &mut round).await?;
        explain(&mut tx, &sorted, State::can_cancel, &mut round).await?;
        tx.commit().await?;
        answers = round;
    }
    Ok(in_order(ids, &answers))
}

#[derive(FromRow)]
struct PendingRow {
    worker_id: String,
    id: Uuid,
    priority: i16,
    run_at: i64,
    run_no: i32,
    used: i32,
    since: i64,
    now: i64,
}

const TAKE_PENDING: &str = "
    DELETE FROM ready WHERE ctid = ANY(ARRAY(SELECT ctid FROM ready WHERE id = ANY($1) ORDER BY id FOR UPDATE))
    RETURNING worker_id, id, priority, run_at, run_no, used, since, now_ms() AS now";

async fn cancel_pending(tx: &mut Tx, ids: &[Uuid], reason: &str, answers: &mut Answers) -> StoreResult<()> {
    let rows: Vec<PendingRow> = sqlx::query_as(TAKE_PENDING).bind(open(ids, answers)).fetch_all(&mut **tx).await?;
    let Some(now) = rows.first().map(|row| row.now) else { return Ok(()) };
    let mut deltas = Deltas::default();
    let mut cancelled = Vec::with_capacity(rows.len());
    for row in rows {
        let ready = ReadyRow {
            worker_id: row.worker_id,
            id: row.id,
            priority: row.priority,
            run_at: row.run_at,
            run_no: row.run_no,
            used: row.used,
            payload_bytes: 0,
            since: row.since,
            waits_for_handler: false,
        };
        deltas.ready(&ready, -1);
        deltas.at(&ready.worker_id, 0).cancelled += 1;
        answers.insert(row.id, Moved::Yes { worker_id: ready.worker_id.clone() });
        cancelled.push(CancelledRow {
            id: row.id,
            worker_id: ready.worker_id,
            run_no: row.run_no,
            used: row.used,
            cancelled_at: now,
            note: reason.to_owned(),
            session_id: None,
            started_at: None,
        });
    }
    settle::write_cancelled(tx, &cancelled).await?;
    counts::write_deltas(tx, &deltas, now).await
}

const FIND_CLAIMS: &str = "
    SELECT DISTINCT c.id FROM unnest($1::uuid[]) AS asked(id)
    JOIN claims c ON position(uuid_send(asked.id) IN c.ids) % 16 = 1";

async fn cancel_running(tx: &mut Tx, ids: &[Uuid], reason: &str, answers: &mut Answers) -> StoreResult<()> {
    let open = open(ids, answers);
    if open.is_empty() {
        return Ok(());
    }
    let claims: Vec<Uuid> = sqlx::query_scalar(FIND_CLAIMS).bind(&open).fetch_all(&mut **tx).await?;
    if claims.is_empty() {
        return Ok(());
    }
    let claims = settle::lock_claims(tx, claims).await?;
    let mut items = Vec::new();
    for claim in claims.values() {
        for place in claim.places.iter().filter(|place| open.contains(&place.job_id)) {
            answers.insert(place.job_id, Moved::Yes { worker_id: claim.worker_id.clone() });
            items.push(Item::by_server(claim.id, place.job_id, Ending::Cancel, reason.to_owned()));
        }
    }
    items.sort_by_key(|item| item.lease.job_id);
    let now: i64 = sqlx::query_scalar("SELECT now_ms()").fetch_one(&mut **tx).await?;
    settle::end(tx, &items, claims, now).await?;
    Ok(())
}

pub(super) async fn retry(store: &PostgresStore, ids: &[Uuid]) -> StoreResult<Vec<Moved>> {
    let mut answers = Answers::new();
    let sorted = sorted(ids);
    while !open(&sorted, &answers).is_empty() {
        let mut tx = store.begin().await?;
        let mut round = answers.clone();
        let ready = retry_finished(&mut tx, &sorted, &mut round).await?;
        explain(&mut tx, &sorted, State::can_retry, &mut round).await?;
        tx.commit().await?;
        store.floors.lower(&ready);
        answers = round;
    }
    Ok(in_order(ids, &answers))
}

#[derive(FromRow)]
struct FinishedRow {
    id: Uuid,
    worker_id: String,
    run_no: i32,
    failed: bool,
    priority: i16,
    payload_bytes: i32,
    now: i64,
}

const TAKE_FINISHED: &str = "
    WITH failed AS (
        DELETE FROM dead_letters WHERE ctid = ANY(ARRAY(SELECT ctid FROM dead_letters WHERE id = ANY($1) ORDER BY id FOR UPDATE))
        RETURNING id, run_no
    ), stopped AS (
        DELETE FROM cancelled WHERE ctid = ANY(ARRAY(SELECT ctid FROM cancelled WHERE id = ANY($1) ORDER BY id FOR UPDATE))
        RETURNING id, run_no
    )
    SELECT j.id, j.worker_id, t.run_no, t.failed, j.priority, octet_length(j.payload) AS payload_bytes, now_ms() AS now
    FROM (SELECT id, run_no, true AS failed FROM failed UNION ALL SELECT id, run_no, false FROM stopped) AS t
    JOIN jobs j ON j.id = t.id";

async fn retry_finished(tx: &mut Tx, ids: &[Uuid], answers: &mut Answers) -> StoreResult<Vec<ReadyRow>> {
    let rows: Vec<FinishedRow> = sqlx::query_as(TAKE_FINISHED).bind(open(ids, answers)).fetch_all(&mut **tx).await?;
    let Some(now) = rows.first().map(|row| row.now) else { return Ok(Vec::new()) };
    let mut deltas = Deltas::default();
    let (mut ready, mut attempts) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
    for row in rows {
        answers.insert(row.id, Moved::Yes { worker_id: row.worker_id.clone() });
        let delta = deltas.at(&row.worker_id, 0);
        *(if row.failed { &mut delta.failed } else { &mut delta.cancelled }) -= 1;
        attempts.push(AttemptRow {
            job_id: row.id,
            run_no: row.run_no,
            outcome: AttemptOutcome::Retried as i16,
            claim_id: None,
            session_id: None,
            host: String::new(),
            started_at: None,
            ended_at: now,
            error: String::new(),
        });
        let row = ReadyRow {
            worker_id: row.worker_id,
            id: row.id,
            priority: row.priority,
            run_at: now,
            run_no: row.run_no,
            used: 0,
            payload_bytes: row.payload_bytes,
            since: now,
            waits_for_handler: false,
        };
        deltas.ready(&row, 1);
        ready.push(row);
    }
    settle::write_ready(tx, &ready).await?;
    settle::write_attempts(tx, &attempts).await?;
    counts::write_deltas(tx, &deltas, now).await?;
    Ok(ready)
}

pub(super) async fn delete(store: &PostgresStore, ids: &[Uuid], keys: Keys) -> StoreResult<Vec<Moved>> {
    let mut answers = Answers::new();
    let sorted = sorted(ids);
    while !open(&sorted, &answers).is_empty() {
        let mut tx = store.begin().await?;
        let mut round = answers.clone();
        let mut deltas = Deltas::default();
        delete_set_aside(&mut tx, &open(&sorted, &answers), &mut deltas, &mut round).await?;
        delete_done(&mut tx, &open(&sorted, &round), &mut deltas, &mut round).await?;
        let gone: Vec<_> = sorted
            .iter()
            .copied()
            .filter(|id| !answers.contains_key(id) && matches!(round.get(id), Some(Moved::Yes { .. })))
            .collect();
        forget(&mut tx, &gone, keys).await?;
        explain(&mut tx, &sorted, State::is_finished, &mut round).await?;
        counts::write_deltas(&mut tx, &deltas, store.clock.now_ms()).await?;
        tx.commit().await?;
        answers = round;
    }
    Ok(in_order(ids, &answers))
}

#[derive(FromRow)]
struct SetAsideRow {
    id: Uuid,
    worker_id: String,
    failed: bool,
}

const DELETE_SET_ASIDE: &str = "
    WITH failed AS (
        DELETE FROM dead_letters WHERE ctid = ANY(ARRAY(SELECT ctid FROM dead_letters WHERE id = ANY($1) ORDER BY id FOR UPDATE))
        RETURNING id, worker_id
    ), stopped AS (
        DELETE FROM cancelled WHERE ctid = ANY(ARRAY(SELECT ctid FROM cancelled WHERE id = ANY($1) ORDER BY id FOR UPDATE))
        RETURNING id, worker_id
    )
    SELECT id, worker_id, true AS failed FROM failed UNION ALL SELECT id, worker_id, false FROM stopped";

async fn delete_set_aside(tx: &mut Tx, ids: &[Uuid], deltas: &mut Deltas, answers: &mut Answers) -> StoreResult<()> {
    let rows: Vec<SetAsideRow> = sqlx::query_as(DELETE_SET_ASIDE).bind(ids).fetch_all(&mut **tx).await?;
    for row in rows {
        let delta = deltas.at(&row.worker_id, 0);
        *(if row.failed { &mut delta.failed } else { &mut delta.cancelled }) -= 1;
        answers.insert(row.id, Moved::Yes { worker_id: row.worker_id });
    }
    Ok(())
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
        JOIN jobs j ON j.id = asked.id
        JOIN done e ON e.worker_id = j.worker_id AND e.first_id BETWEEN asked.earliest AND asked.id
            AND position(uuid_send(asked.id) IN e.ids) % 16 = 1))
    ORDER BY d.first_id
    FOR UPDATE";

const SHRINK_DONE: &str = "
    UPDATE done SET ids = $5, runs = $6 WHERE worker_id = $1 AND first_id = $2 AND claim_id = $3 AND finished_at = $4";

const DELETE_DONE: &str = "
    DELETE FROM done WHERE worker_id = $1 AND first_id = $2 AND claim_id = $3 AND finished_at = $4";

/// Takes jobs out of done rows that they share with others.
pub(super) async fn delete_done(
    tx: &mut Tx,
    ids: &[Uuid],
    deltas: &mut Deltas,
    answers: &mut Answers,
) -> StoreResult<()> {
    if ids.is_empty() {
        return Ok(());
    }
    let rows: Vec<DoneRow> = sqlx::query_as(LOCK_DONE)
        .bind(ids)
        .bind(ids.iter().map(|id| places::earliest_first_id(*id)).collect::<Vec<_>>())
        .fetch_all(&mut **tx)
        .await?;
    for row in rows {
        let rest = places::without(&row.ids, row.runs.as_deref(), ids);
        for id in &rest.removed {
            deltas.at(&row.worker_id, 0).done -= 1;
            answers.insert(*id, Moved::Yes { worker_id: row.worker_id.clone() });
        }
        let query = if rest.ids.is_empty() { sqlx::query(DELETE_DONE) } else { sqlx::query(SHRINK_DONE) };
        let query = query.bind(&row.worker_id).bind(row.first_id).bind(row.claim_id).bind(row.finished_at);
        let query = if rest.ids.is_empty() { query } else { query.bind(rest.ids).bind(rest.runs) };
        query.execute(&mut **tx).await?;
    }
    Ok(())
}

/// What becomes of the idempotency keys of jobs that go.
#[derive(Clone, Copy)]
pub(super) enum Keys {
    Delete,
    /// They are to outlive their jobs, which went at this time.
    Keep {
        gone_at: i64,
    },
}

/// Removes the facts of jobs that have left their last place, and everything that hangs on them.
pub(super) async fn forget(tx: &mut Tx, ids: &[Uuid], keys: Keys) -> StoreResult<()> {
    const STATEMENTS: [&str; 4] = [
        "DELETE FROM attempts WHERE job_id = ANY($1)",
        "DELETE FROM results WHERE id = ANY($1)",
        "DELETE FROM progress WHERE id = ANY($1)",
        "DELETE FROM jobs WHERE id = ANY($1)",
    ];
    const DELETE_KEYS: &str = "DELETE FROM idempotency_keys WHERE job_id = ANY($1)";
    const KEEP_KEYS: &str = "UPDATE idempotency_keys SET gone_at = $2 WHERE job_id = ANY($1)";
    if ids.is_empty() {
        return Ok(());
    }
    for statement in STATEMENTS {
        sqlx::query(statement).bind(ids).execute(&mut **tx).await?;
    }
    let query = match keys {
        Keys::Delete => sqlx::query(DELETE_KEYS).bind(ids),
        Keys::Keep { gone_at } => sqlx::query(KEEP_KEYS).bind(ids).bind(gone_at),
    };
    query.execute(&mut **tx).await?;
    Ok(())
}
