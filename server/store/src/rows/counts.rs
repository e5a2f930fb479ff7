//! Rows of counts and explain inputs, and their conversion to records.

use jobqueue_shared::limits;
use sqlx::FromRow;

use crate::types::{ExplainInputs, MinuteCounts, Pause, SlotCounts, WorkerIdCounts};

#[derive(FromRow)]
pub struct CountRow {
    worker_id: String,
    pending: i64,
    scheduled: i64,
    retrying: i64,
    running: i64,
    done: i64,
    failed: i64,
    failed_lately: i64,
    cancelled: i64,
    oldest_runnable: Option<i64>,
    sessions: i64,
    paused_at: Option<i64>,
    pause_reason: Option<String>,
}

impl From<CountRow> for WorkerIdCounts {
    fn from(row: CountRow) -> Self {
        // A counter below zero is a defect that the audit reports; readers must not see 2⁶⁴.
        let count = |n: i64| n.max(0) as u64;
        Self {
            worker_id: row.worker_id,
            pending: count(row.pending),
            scheduled: count(row.scheduled),
            retrying: count(row.retrying),
            running: count(row.running),
            done: count(row.done),
            failed: count(row.failed),
            failed_lately: count(row.failed_lately),
            cancelled: count(row.cancelled),
            oldest_runnable_ms: row.oldest_runnable,
            sessions: count(row.sessions),
            paused: pause(row.paused_at, row.pause_reason),
        }
    }
}

fn pause(at: Option<i64>, reason: Option<String>) -> Option<Pause> {
    at.map(|at_ms| Pause { at_ms, reason: reason.unwrap_or_default() })
}

#[derive(FromRow)]
pub struct ExplainInputsRow {
    now: i64,
    paused_at: Option<i64>,
    pause_reason: Option<String>,
    sessions: i64,
    draining: i64,
    handling: i64,
    slots: i64,
    held: i64,
    last_seen: Option<i64>,
    ahead: i64,
}

impl From<ExplainInputsRow> for ExplainInputs {
    fn from(row: ExplainInputsRow) -> Self {
        Self {
            now_ms: row.now,
            paused: pause(row.paused_at, row.pause_reason),
            sessions: row.sessions as u64,
            draining: row.draining as u64,
            handling: row.handling as u64,
            slots: row.slots as u64,
            held: row.held as u64,
            last_seen_ms: row.last_seen,
            ahead: (row.ahead as u64).min(limits::AHEAD.into()),
        }
    }
}

#[derive(FromRow)]
pub struct MinuteRow {
    minute: i64,
    submitted: i64,
    done: i64,
    failed: i64,
    retried: i64,
}

impl From<MinuteRow> for MinuteCounts {
    fn from(row: MinuteRow) -> Self {
        Self {
            minute: row.minute,
            submitted: row.submitted as u64,
            done: row.done as u64,
            failed: row.failed as u64,
            retried: row.retried as u64,
        }
    }
}

#[derive(FromRow)]
pub struct SlotRow {
    worker_id: String,
    #[sqlx(flatten)]
    counts: MinuteRow,
}

impl From<SlotRow> for SlotCounts {
    fn from(row: SlotRow) -> Self {
        Self { worker_id: row.worker_id, counts: row.counts.into() }
    }
}
