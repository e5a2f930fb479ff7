//! Rows of sessions, counts and explain inputs, and their conversion to records.

use std::collections::HashMap;

use jobqueue_shared::limits;
use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    error::{StoreError, StoreResult},
    rows::packed_claim,
    types::{ExplainInputs, HeldJob, JobRecord, MinuteCounts, Pause, SessionRecord, SessionState, WorkerIdCounts},
};

#[derive(FromRow)]
pub struct SessionRow {
    id: Uuid,
    worker_id: String,
    host: String,
    pid: i32,
    version: String,
    tasks: String,
    slots: i32,
    lease: i64,
    started_at: i64,
    heartbeat_at: i64,
    expires_at: i64,
    draining: bool,
    ended_at: Option<i64>,
    lost: bool,
    running: i64,
    #[sqlx(default)]
    pub held: Option<Vec<u8>>,
}

/// Parses the column `sessions.tasks`.
pub fn parse_tasks(tasks: &str) -> StoreResult<Vec<String>> {
    serde_json::from_str(tasks).map_err(|error| StoreError::Defect(format!("stored tasks: {error}")))
}

impl SessionRow {
    pub fn into_record(self, now: i64) -> StoreResult<SessionRecord> {
        let state = match (self.ended_at, self.lost, self.expires_at <= now, self.draining) {
            (Some(_), true, ..) => SessionState::Lost,
            (Some(_), false, ..) => SessionState::Ended,
            (None, _, true, _) => SessionState::Expired,
            (None, _, false, true) => SessionState::Draining,
            (None, _, false, false) => SessionState::Live,
        };
        Ok(SessionRecord {
            session_id: self.id,
            worker_id: self.worker_id,
            host: self.host,
            pid: self.pid,
            version: self.version,
            tasks: parse_tasks(&self.tasks)?,
            slots: self.slots as u32,
            lease_ms: self.lease,
            started_at_ms: self.started_at,
            last_heartbeat_at_ms: self.heartbeat_at,
            expires_at_ms: self.expires_at,
            ended_at_ms: self.ended_at,
            running: self.running as u64,
            state,
        })
    }
}

/// Converts the ids `held` to the jobs of a session; the first `slots` count as started.
pub fn held_jobs(held: &[u8], slots: u32, jobs: &HashMap<Uuid, JobRecord>) -> Vec<HeldJob> {
    let held_job = |(n, job_id): (usize, Uuid)| HeldJob {
        job_id,
        started: n < slots as usize,
        state: jobs.get(&job_id).map(|job| job.state),
        task: jobs.get(&job_id).map(|job| job.task.clone()).unwrap_or_default(),
    };
    packed_claim::decode_ids(held).enumerate().map(held_job).collect()
}

#[derive(FromRow)]
pub struct CountRow {
    worker_id: String,
    pending: i64,
    scheduled: i64,
    retrying: i64,
    running: i64,
    done: i64,
    failed: i64,
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
