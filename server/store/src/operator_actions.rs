//! Cancel, retry, delete and changes of pending jobs: the rows to write and the answers, as far as they need no database. Both drivers use it.

use std::collections::{HashMap, HashSet};

use jobqueue_shared::state::{Ending, State};
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    error_groups::changes::ErrorChanges,
    rows::write::{AttemptRow, CancelledRow, Deltas, ReadyRow},
    settle::claim::Claim,
    types::{ActionAnswer, AttemptOutcome, Change, ErrorGroupId, JobRecord, Settlement},
};

/// Answers to an action on several jobs, as they become known.
pub struct Answers {
    /// Ids that were asked for: sorted, so that rows are locked in one order everywhere, and each once.
    asked: Vec<Uuid>,
    given: HashMap<Uuid, ActionAnswer>,
    /// Ids that the action leaves alone.
    left: HashSet<Uuid>,
}

impl Answers {
    pub fn to(ids: &[Uuid]) -> Self {
        let mut asked = ids.to_vec();
        asked.sort_unstable();
        asked.dedup();
        Self { asked, given: HashMap::new(), left: HashSet::new() }
    }

    /// Ids that have no answer yet.
    pub fn open(&self) -> Vec<Uuid> {
        self.asked.iter().copied().filter(|id| !self.given.contains_key(id) && !self.left.contains(id)).collect()
    }

    /// Leaves a job alone: the action does not look for it any more.
    pub(crate) fn leave(&mut self, id: Uuid) {
        self.left.insert(id);
    }

    /// Ids in order with their answers, as far as there are any.
    pub(crate) fn all(&self) -> impl Iterator<Item = (Uuid, Option<&ActionAnswer>)> {
        self.asked.iter().map(|id| (*id, self.given.get(id)))
    }

    fn moved(&mut self, id: Uuid, worker_id: &str) {
        self.given.insert(id, ActionAnswer::Done { worker_id: worker_id.to_owned(), stopped: None });
    }

    fn taken_from(&mut self, id: Uuid, claim: &Claim) {
        let (worker_id, stopped) = (claim.worker_id.clone(), Some(claim.session_id));
        self.given.insert(id, ActionAnswer::Done { worker_id, stopped });
    }

    /// Answers for ids that were not found in the tables of the action: refused for their state, or not found at all. A
    /// job whose state allows the action has changed its state between two statements; it stays open and is tried
    /// again.
    pub fn answer_rest(&mut self, records: &HashMap<Uuid, JobRecord>, moves: impl Fn(State) -> bool) {
        for id in self.open() {
            match records.get(&id).map(|record| record.state) {
                None => drop(self.given.insert(id, ActionAnswer::NotFound)),
                Some(state) if !moves(state) => drop(self.given.insert(id, ActionAnswer::Refused(state))),
                Some(_) => {}
            }
        }
    }

    pub fn in_order(&self, ids: &[Uuid]) -> Vec<ActionAnswer> {
        ids.iter().map(|id| self.given.get(id).cloned().unwrap_or(ActionAnswer::NotFound)).collect()
    }
}

/// Rows for pending jobs that were taken out of `ready` and become cancelled.
pub fn cancel_pending(
    rows: Vec<ReadyRow>,
    reason: &str,
    now: i64,
    answers: &mut Answers,
) -> (Vec<CancelledRow>, Deltas) {
    let mut deltas = Deltas::default();
    let mut cancelled = Vec::with_capacity(rows.len());
    for row in rows {
        deltas.ready(&row, -1);
        deltas.at(&row.worker_id, 0).cancelled += 1;
        answers.moved(row.id, &row.worker_id);
        cancelled.push(CancelledRow {
            id: row.id,
            worker_id: row.worker_id,
            run_no: row.run_no,
            attempts_used: row.attempts_used,
            cancelled_at: now,
            note: reason.to_owned(),
            session_id: None,
            started_at: None,
        });
    }
    (cancelled, deltas)
}

/// Attempts of running jobs that end because the jobs are cancelled: those that were taken at `until` or before.
pub fn cancel_running(
    claims: &HashMap<Uuid, Claim>,
    reason: &str,
    until: i64,
    answers: &mut Answers,
) -> Vec<Settlement> {
    let open: HashSet<_> = answers.open().into_iter().collect();
    let mut items = Vec::new();
    for claim in claims.values().filter(|claim| claim.claimed_at <= until) {
        for entry in claim.entries.iter().filter(|entry| open.contains(&entry.job_id)) {
            answers.taken_from(entry.job_id, claim);
            items.push(Settlement::by_server(claim.id, entry.job_id, Ending::Cancel, reason.to_owned()));
        }
    }
    items.sort_by_key(|item| item.lease.job_id);
    items
}

/// A dead letter or cancelled job that is retried.
#[derive(FromRow)]
pub struct FinishedRow {
    pub id: Uuid,
    worker_id: String,
    run_no: i32,
    failed: bool,
    priority: i16,
    payload_bytes: i32,
    /// When and why the job was cancelled while it was pending: that is not in its history yet.
    cancelled_at: Option<i64>,
    note: Option<String>,
    /// Error group of a dead letter.
    fingerprint: Option<i64>,
}

/// Rows that a retry writes.
#[derive(Debug, Default)]
pub struct Retried {
    pub ready: Vec<ReadyRow>,
    pub attempts: Vec<AttemptRow>,
    pub deltas: Deltas,
    pub errors: ErrorChanges,
}

/// Rows for jobs that become pending again with no attempt used. Their history gets the retry, and a cancellation that
/// only the removed row records. `text` is the retry's in the history.
pub fn retry(rows: Vec<FinishedRow>, text: &str, now: i64, answers: &mut Answers) -> Retried {
    let Retried { mut ready, mut attempts, mut deltas, mut errors } = Retried::default();
    for row in rows {
        answers.moved(row.id, &row.worker_id);
        if let Some(fingerprint) = row.fingerprint {
            errors.dead_letter_gone(ErrorGroupId(fingerprint), &row.worker_id);
        }
        deltas.set_aside(&row.worker_id, row.failed, -1);
        if let Some(at) = row.cancelled_at {
            attempts.push(by_person(&row, AttemptOutcome::Cancelled, at, row.note.clone().unwrap_or_default()));
        }
        attempts.push(by_person(&row, AttemptOutcome::Retried, now, text.to_owned()));
        let row = ReadyRow {
            worker_id: row.worker_id,
            id: row.id,
            priority: row.priority,
            run_at: now,
            run_no: row.run_no,
            attempts_used: 0,
            payload_bytes: row.payload_bytes,
            enqueued_at: now,
            waits_for_handler: false,
            for_task: None,
            inline_job: None,
        };
        deltas.ready(&row, 1);
        ready.push(row);
    }
    Retried { ready, attempts, deltas, errors }
}

/// Rows for pending jobs that were taken out of `ready` and go back with another priority or time. They are pending
/// since now, so that an operation that is to change them does not take them twice.
pub fn change_pending(
    rows: Vec<ReadyRow>,
    change: &Change,
    now: i64,
    answers: &mut Answers,
) -> (Vec<ReadyRow>, Deltas) {
    let mut deltas = Deltas::default();
    let mut changed = Vec::with_capacity(rows.len());
    for row in rows {
        deltas.ready(&row, -1);
        answers.moved(row.id, &row.worker_id);
        let mut row = ReadyRow { enqueued_at: now, inline_job: None, ..row };
        match change {
            Change::SetPriority(priority) => row.priority = i16::from(*priority),
            Change::Reschedule { run_at_ms } => {
                row.run_at = (*run_at_ms).max(now);
                // A session that handles its task would take it before that time.
                (row.waits_for_handler, row.for_task) = (false, None);
            }
            Change::Retry { .. } | Change::Cancel { .. } | Change::Delete => {}
        }
        deltas.ready(&row, 1);
        changed.push(row);
    }
    (changed, deltas)
}

/// Entry in the history for an operator action on a job that no session held.
fn by_person(row: &FinishedRow, outcome: AttemptOutcome, at: i64, text: String) -> AttemptRow {
    AttemptRow {
        job_id: row.id,
        run_no: row.run_no,
        outcome: outcome.into(),
        claim_id: None,
        session_id: None,
        host: String::new(),
        started_at: None,
        ended_at: at,
        error: text,
        fingerprint: None,
    }
}

/// A dead letter or cancelled job that is deleted.
#[derive(FromRow)]
pub struct SetAsideRow {
    pub id: Uuid,
    worker_id: String,
    /// Error group of a dead letter; `None`: the job was cancelled.
    fingerprint: Option<i64>,
}

/// Counts and answers jobs that were taken out of `dead_letters` and `cancelled`; returns their ids.
pub fn delete_set_aside(
    rows: &[SetAsideRow],
    deltas: &mut Deltas,
    errors: &mut ErrorChanges,
    answers: &mut Answers,
) -> Vec<Uuid> {
    for row in rows {
        answers.moved(row.id, &row.worker_id);
    }
    set_aside_gone(rows, deltas, errors)
}

/// Counts jobs that were pruned from `dead_letters` and `cancelled`; returns their ids.
pub fn set_aside_gone(rows: &[SetAsideRow], deltas: &mut Deltas, errors: &mut ErrorChanges) -> Vec<Uuid> {
    for row in rows {
        deltas.set_aside(&row.worker_id, row.fingerprint.is_some(), -1);
        if let Some(fingerprint) = row.fingerprint {
            errors.dead_letter_gone(ErrorGroupId(fingerprint), &row.worker_id);
        }
    }
    rows.iter().map(|row| row.id).collect()
}

/// Counts and answers jobs that were taken out of a done row of `worker_id`.
pub fn delete_done(ids: &[Uuid], worker_id: &str, deltas: &mut Deltas, answers: &mut Answers) {
    deltas.at(worker_id, 0).done -= ids.len() as i32;
    for id in ids {
        answers.moved(*id, worker_id);
    }
}
