//! Rows of sessions, and their conversion to records.

use std::collections::HashMap;

use sqlx::FromRow;
use uuid::Uuid;

use crate::{
    error::{StoreError, StoreResult},
    rows::packed_claim,
    types::{HeldJob, JobRecord, SessionRecord, SessionState},
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
