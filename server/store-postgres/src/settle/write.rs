//! Rows that a transaction writes when attempts end.

use jobqueue_shared::limits;
use jobqueue_store::{
    error::StoreResult,
    rows::{
        packed_claim,
        write::{AttemptRow, CancelledRow, DeadRow, ReadyRow, ResultRow, StopRow},
    },
    settle::{claim::Claim, decision::SettleDecision},
    types::AttemptOutcome,
};
use sqlx::{Arguments as _, postgres::PgArguments};

use crate::{Tx, deltas, error_groups::error_deltas};

/// Statement that writes the remainder of claims. The parameters are their ids, deadlines, ids of jobs, and entries.
/// Claims are looked up by key, as by [`locked_claims`].
macro_rules! keep_claims {
    ($id:literal, $deadline:literal, $ids:literal, $entries:literal) => {
        concat!(
            "
    UPDATE claims SET deadline = kept.deadline, ids = kept.ids, entries = kept.entries
    FROM (
        SELECT c.tid, t.deadline, t.ids, t.entries
        FROM unnest(",
            $id,
            "::uuid[], ",
            $deadline,
            "::bigint[], ",
            $ids,
            "::bytea[], ",
            $entries,
            "::bytea[]) AS t(id, deadline, ids, entries),
             LATERAL (SELECT ctid AS tid FROM claims WHERE claims.id = t.id OFFSET 0) AS c
    ) AS kept
    WHERE claims.ctid = kept.tid"
        )
    };
}

pub(crate) async fn write(tx: &mut Tx, decision: &SettleDecision, now: i64) -> StoreResult<()> {
    write_ends(tx, decision, now).await?;
    write_ready(tx, &decision.ready).await?;
    write_dead_letters(tx, &decision.dead).await?;
    write_cancelled(tx, &decision.cancelled).await?;
    write_attempts(tx, &decision.attempts).await?;
    write_results(tx, &decision.results).await?;
    write_stops(tx, &decision.stops).await?;
    error_deltas::write(tx, &decision.errors, now).await
}

/// Statement for the writes that every settle makes: entries leave their claims, jobs become done, and both are
/// counted. It is one statement, because the server waits for the reply to each.
const WRITE_ENDS: &str = concat!(
    "WITH counted AS (",
    deltas::insert_deltas!(),
    "), closed AS (
        DELETE FROM claims WHERE id = ANY($14)
    ), kept AS (",
    keep_claims!("$15", "$16", "$17", "$18"),
    "
    )
    INSERT INTO done (worker_id, first_id, claim_id, session_id, claimed_at, finished_at, ids, runs)
    SELECT * FROM unnest($19::text[], $20::uuid[], $21::uuid[], $22::uuid[], $23::bigint[], $24::bigint[], $25::bytea[],
                         $26::bytea[])"
);

async fn write_ends(tx: &mut Tx, decision: &SettleDecision, now: i64) -> StoreResult<()> {
    let (kept, done) = (&decision.kept, &decision.done);
    if decision.closed.is_empty() && kept.is_empty() && done.is_empty() && decision.deltas.rows().next().is_none() {
        return Ok(());
    }
    let mut arguments = PgArguments::default();
    let mut add = || {
        deltas::add_deltas(&mut arguments, &decision.deltas, now)?;
        arguments.add(decision.closed.as_slice())?;
        arguments.add(kept.iter().map(|claim| claim.id).collect::<Vec<_>>())?;
        arguments.add(kept.iter().map(Claim::deadline).collect::<Vec<_>>())?;
        arguments.add(kept.iter().map(Claim::ids).collect::<Vec<_>>())?;
        arguments.add(kept.iter().map(|claim| packed_claim::encode_entries(&claim.entries)).collect::<Vec<_>>())?;
        arguments.add(done.iter().map(|row| row.worker_id.as_str()).collect::<Vec<_>>())?;
        arguments.add(done.iter().map(|row| row.first_id).collect::<Vec<_>>())?;
        arguments.add(done.iter().map(|row| row.claim_id).collect::<Vec<_>>())?;
        arguments.add(done.iter().map(|row| row.session_id).collect::<Vec<_>>())?;
        arguments.add(done.iter().map(|row| row.claimed_at).collect::<Vec<_>>())?;
        arguments.add(done.iter().map(|row| row.finished_at).collect::<Vec<_>>())?;
        arguments.add(done.iter().map(|row| row.ids.as_slice()).collect::<Vec<_>>())?;
        arguments.add(done.iter().map(|row| row.runs.as_deref()).collect::<Vec<_>>())
    };
    add().map_err(sqlx::Error::Encode)?;
    sqlx::query_with(WRITE_ENDS, arguments).execute(&mut **tx).await?;
    Ok(())
}

pub(crate) async fn keep_claims(tx: &mut Tx, claims: &[Claim]) -> StoreResult<()> {
    if claims.is_empty() {
        return Ok(());
    }
    sqlx::query(keep_claims!("$1", "$2", "$3", "$4"))
        .bind(claims.iter().map(|claim| claim.id).collect::<Vec<_>>())
        .bind(claims.iter().map(Claim::deadline).collect::<Vec<_>>())
        .bind(claims.iter().map(Claim::ids).collect::<Vec<_>>())
        .bind(claims.iter().map(|claim| packed_claim::encode_entries(&claim.entries)).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

const WRITE_READY: &str = "
    INSERT INTO ready (worker_id, id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, waits_for_handler, for_task,
                       inline_job)
    SELECT * FROM unnest($1::text[], $2::uuid[], $3::smallint[], $4::bigint[], $5::integer[], $6::integer[], $7::integer[],
                         $8::bigint[], $9::boolean[], $10::text[], $11::bytea[])";

pub(crate) async fn write_ready(tx: &mut Tx, rows: &[ReadyRow]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(WRITE_READY)
        .bind(rows.iter().map(|row| row.worker_id.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.priority).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.run_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.run_no).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.attempts_used).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.payload_bytes).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.enqueued_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.waits_for_handler).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.for_task.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.inline_job.as_deref()).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

const WRITE_DEAD_LETTERS: &str = "
    INSERT INTO dead_letters (id, worker_id, task, priority, run_at, payload, max_retries, retry, attempt_timeout,
                              idempotency_key, run_no, attempts_used, reason, error, fingerprint, session_id, started_at, failed_at)
    SELECT j.id, j.worker_id, j.task, j.priority, j.run_at, j.payload, j.max_retries, j.retry, j.attempt_timeout,
           j.idempotency_key, t.run_no, t.attempts_used, t.reason, t.error, t.fingerprint, t.session_id, t.started_at, t.failed_at
    FROM unnest($1::uuid[], $2::integer[], $3::integer[], $4::smallint[], $5::text[], $6::bigint[], $7::uuid[], $8::bigint[],
                $9::bigint[]) AS t(id, run_no, attempts_used, reason, error, fingerprint, session_id, started_at, failed_at)
    CROSS JOIN LATERAL (SELECT * FROM jobs WHERE jobs.id = t.id LIMIT 1) AS j";

async fn write_dead_letters(tx: &mut Tx, rows: &[DeadRow]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(WRITE_DEAD_LETTERS)
        .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.run_no).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.attempts_used).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reason).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.error.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.fingerprint).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.session_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.started_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.failed_at).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

const WRITE_CANCELLED: &str = "
    INSERT INTO cancelled (id, worker_id, run_no, attempts_used, cancelled_at, note, session_id, started_at)
    SELECT * FROM unnest($1::uuid[], $2::text[], $3::integer[], $4::integer[], $5::bigint[], $6::text[], $7::uuid[], $8::bigint[])";

pub(crate) async fn write_cancelled(tx: &mut Tx, rows: &[CancelledRow]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(WRITE_CANCELLED)
        .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.worker_id.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.run_no).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.attempts_used).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.cancelled_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.note.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.session_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.started_at).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Deletes older rows for a missing handler: one row stands for all hand-outs to workers without a handler.
const FORGET_NO_HANDLER: &str = "DELETE FROM attempts WHERE job_id = ANY($1) AND outcome = $2";

/// Statement that records attempts. A refusal is recorded once for each lease; a row that is there already stays. Jobs
/// are locked in the order of their ids, as by a deletion.
macro_rules! write_attempts {
    ($lock:literal) => {
        concat!(
            "
    INSERT INTO attempts (job_id, run_no, outcome, claim_id, session_id, host, started_at, ended_at, error, fingerprint)
    SELECT t.* FROM (
        SELECT * FROM unnest($1::uuid[], $2::integer[], $3::smallint[], $4::uuid[], $5::uuid[], $6::text[], $7::bigint[],
                             $8::bigint[], $9::text[], $10::bigint[])
            AS u(job_id, run_no, outcome, claim_id, session_id, host, started_at, ended_at, error, fingerprint)
        ORDER BY job_id
    ) AS t
    CROSS JOIN LATERAL (SELECT FROM jobs WHERE jobs.id = t.job_id LIMIT 1 ",
            $lock,
            ") AS j
    ON CONFLICT DO NOTHING"
        )
    };
}

const FORGET_OLD_ATTEMPTS: &str = "
    DELETE FROM attempts a USING unnest($1::uuid[]) AS t(job_id)
    WHERE a.job_id = t.job_id AND a.run_no <= (
        SELECT n.run_no FROM attempts n WHERE n.job_id = t.job_id ORDER BY n.run_no DESC, n.outcome OFFSET $2 LIMIT 1)";

pub(crate) async fn write_attempts(tx: &mut Tx, rows: &[AttemptRow]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let no_handler = AttemptOutcome::NoHandler as i16;
    let waiting: Vec<_> = rows.iter().filter(|row| row.outcome == no_handler).map(|row| row.job_id).collect();
    if !waiting.is_empty() {
        sqlx::query(FORGET_NO_HANDLER).bind(waiting).bind(no_handler).execute(&mut **tx).await?;
    }
    // A job is not deleted while its claim or its row in its last state table is locked. A refusal locks neither, so
    // its job may be about to be deleted, and is locked itself.
    let refused = rows.iter().any(|row| row.outcome == AttemptOutcome::Refused as i16);
    let statement = if refused { write_attempts!("FOR KEY SHARE") } else { write_attempts!("") };
    sqlx::query(statement)
        .bind(rows.iter().map(|row| row.job_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.run_no).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.outcome).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.claim_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.session_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.host.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.started_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.ended_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.error.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.fingerprint).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    let long: Vec<_> =
        rows.iter().filter(|row| row.run_no as u32 > limits::ATTEMPTS_KEPT).map(|row| row.job_id).collect();
    if !long.is_empty() {
        let kept = i64::from(limits::ATTEMPTS_KEPT);
        sqlx::query(FORGET_OLD_ATTEMPTS).bind(long).bind(kept).execute(&mut **tx).await?;
    }
    Ok(())
}

/// Inserts results; a row that is there already is replaced.
const WRITE_RESULTS: &str = "
    INSERT INTO results (id, result, note)
    SELECT * FROM unnest($1::uuid[], $2::bytea[], $3::text[])
    ON CONFLICT (id) DO UPDATE SET result = excluded.result, note = excluded.note";

async fn write_results(tx: &mut Tx, rows: &[ResultRow]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(WRITE_RESULTS)
        .bind(rows.iter().map(|row| row.id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.result.as_deref()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.note.as_str()).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

const WRITE_STOPS: &str = "
    INSERT INTO stops (session_id, claim_id, job_id, reason)
    SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::smallint[])
    ON CONFLICT DO NOTHING";

async fn write_stops(tx: &mut Tx, rows: &[StopRow]) -> StoreResult<()> {
    if rows.is_empty() {
        return Ok(());
    }
    sqlx::query(WRITE_STOPS)
        .bind(rows.iter().map(|row| row.session_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.claim_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.job_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reason).collect::<Vec<_>>())
        .execute(&mut **tx)
        .await?;
    Ok(())
}
