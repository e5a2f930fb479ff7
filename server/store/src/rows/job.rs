//! Rows of jobs and of their history, as both databases return them, and their conversion to records.

use jobqueue_shared::{
    lease::{LeaseId, created_at_ms},
    retry::RetryPolicy,
    state::{FailureReason, State},
};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use uuid::Uuid;

use crate::{
    error::{StoreError, StoreResult},
    rows::packed_claim,
    settle::claim,
    types::{AttemptOutcome, AttemptRecord, ErrorGroupId, JobRecord, Progress, StopReason, Stopped},
};

/// A row of `jobs` joined with every table that can hold the job: `ready` (r), `claims` (c), `done` (d), `dead_letters`
/// (f) and `cancelled` (x), exactly one of which should have it; and with its progress (p) and its origin.
#[derive(FromRow)]
pub struct JobRow {
    id: Uuid,
    worker_id: String,
    task: String,
    priority: i16,
    run_at: i64,
    payload: Vec<u8>,
    max_retries: i16,
    retry: Option<String>,
    attempt_timeout: Option<i64>,
    idempotency_key: Option<String>,
    r_run_no: Option<i32>,
    r_attempts_used: Option<i32>,
    r_run_at: Option<i64>,
    r_enqueued_at: Option<i64>,
    r_waits: Option<bool>,
    r_kept: Option<bool>,
    c_session_id: Option<Uuid>,
    c_claimed_at: Option<i64>,
    c_ids: Option<Vec<u8>>,
    c_entries: Option<Vec<u8>>,
    d_session_id: Option<Uuid>,
    d_claimed_at: Option<i64>,
    d_finished_at: Option<i64>,
    d_ids: Option<Vec<u8>>,
    d_runs: Option<Vec<u8>>,
    f_run_no: Option<i32>,
    f_attempts_used: Option<i32>,
    f_reason: Option<i16>,
    f_fingerprint: Option<i64>,
    f_error: Option<String>,
    f_session_id: Option<Uuid>,
    f_started_at: Option<i64>,
    f_failed_at: Option<i64>,
    x_run_no: Option<i32>,
    x_attempts_used: Option<i32>,
    x_note: Option<String>,
    x_session_id: Option<Uuid>,
    x_started_at: Option<i64>,
    x_cancelled_at: Option<i64>,
    last_error: Option<String>,
    result: Option<Vec<u8>>,
    result_note: Option<String>,
    p_run_no: Option<i32>,
    p_fraction: Option<f64>,
    p_message: Option<String>,
    p_at: Option<i64>,
    origin: Option<Uuid>,
}

impl JobRow {
    pub fn into_record(self) -> StoreResult<JobRecord> {
        let id = self.id;
        let mut job = JobRecord {
            id,
            worker_id: self.worker_id,
            task: self.task,
            priority: self.priority as u8,
            payload: text(self.payload)?,
            max_retries: self.max_retries as u32,
            retry: retry(self.retry.as_deref())?,
            attempt_timeout_ms: self.attempt_timeout,
            idempotency_key: self.idempotency_key,
            state: State::Pending,
            run_no: 0,
            attempts_used: 0,
            last_error: self.last_error.unwrap_or_default(),
            run_at_ms: self.run_at,
            created_at_ms: created_at_ms(id),
            updated_at_ms: created_at_ms(id),
            started_at_ms: None,
            finished_at_ms: None,
            session_id: None,
            failure: None,
            result: None,
            note: String::new(),
            waits_for_handler: false,
            kept_for_task: false,
            error_group: None,
            progress: None,
            origin: self.origin,
        };
        if let (Some(run_no), Some(attempts_used), Some(run_at), Some(enqueued_at)) =
            (self.r_run_no, self.r_attempts_used, self.r_run_at, self.r_enqueued_at)
        {
            (job.run_no, job.attempts_used) = (run_no as u32, attempts_used as u32);
            (job.run_at_ms, job.updated_at_ms) = (run_at, enqueued_at);
            job.waits_for_handler = self.r_waits.unwrap_or_default();
            job.kept_for_task = self.r_kept.unwrap_or_default();
        } else if let (Some(ids), Some(bytes), Some(claimed_at)) = (self.c_ids, self.c_entries, self.c_claimed_at) {
            let entry = packed_claim::decode_entries(&ids, &bytes)
                .and_then(|entries| entries.into_iter().find(|entry| entry.job_id == id))
                .ok_or_else(|| StoreError::Defect(format!("job {id} has no entry in its claim")))?;
            job.state = State::Running;
            (job.run_no, job.attempts_used) = (entry.run_no, entry.attempts_used);
            (job.updated_at_ms, job.started_at_ms) = (claimed_at, Some(claimed_at));
            job.session_id = self.c_session_id;
            if let (Some(run_no), Some(fraction), Some(at_ms)) = (self.p_run_no, self.p_fraction, self.p_at)
                && run_no as u32 == entry.run_no
            {
                job.progress = Some(Progress { fraction, message: self.p_message.unwrap_or_default(), at_ms });
            }
        } else if let (Some(run_no), Some(attempts_used), Some(failed_at)) =
            (self.f_run_no, self.f_attempts_used, self.f_failed_at)
        {
            job.state = State::Failed;
            (job.run_no, job.attempts_used) = (run_no as u32, attempts_used as u32);
            (job.updated_at_ms, job.finished_at_ms) = (failed_at, Some(failed_at));
            (job.started_at_ms, job.session_id) = (self.f_started_at, self.f_session_id);
            // A newer server may have stored a reason that this one does not know.
            job.failure = self.f_reason.map(|number| number.try_into().unwrap_or(FailureReason::AttemptsExhausted));
            job.last_error = self.f_error.unwrap_or_default();
            job.error_group = self.f_fingerprint.map(ErrorGroupId);
        } else if let (Some(run_no), Some(attempts_used), Some(at)) =
            (self.x_run_no, self.x_attempts_used, self.x_cancelled_at)
        {
            job.state = State::Cancelled;
            (job.run_no, job.attempts_used) = (run_no as u32, attempts_used as u32);
            (job.updated_at_ms, job.finished_at_ms) = (at, Some(at));
            (job.started_at_ms, job.session_id) = (self.x_started_at, self.x_session_id);
            job.note = self.x_note.unwrap_or_default();
        } else if let (Some(ids), Some(finished_at)) = (self.d_ids, self.d_finished_at) {
            let index = packed_claim::index_of(&ids, id)
                .ok_or_else(|| StoreError::Defect(format!("job {id} has no entry in its done row")))?;
            job.state = State::Done;
            (job.run_no, job.attempts_used) = packed_claim::run_at_index(self.d_runs.as_deref(), index);
            (job.updated_at_ms, job.finished_at_ms) = (finished_at, Some(finished_at));
            (job.started_at_ms, job.session_id) = (self.d_claimed_at, self.d_session_id);
            job.result = self.result.map(text).transpose()?;
            job.note = self.result_note.unwrap_or_default();
        } else {
            return Err(StoreError::Defect(format!("job {id} is in no state")));
        }
        Ok(job)
    }
}

fn text(bytes: Vec<u8>) -> StoreResult<String> {
    String::from_utf8(bytes).map_err(|_| StoreError::Defect("stored JSON is not UTF-8".into()))
}

pub fn retry(json: Option<&str>) -> StoreResult<RetryPolicy> {
    let Some(json) = json else { return Ok(RetryPolicy::default()) };
    serde_json::from_str(json).map_err(|error| StoreError::Defect(format!("stored retry policy: {error}")))
}

pub(crate) fn retry_json(policy: Option<RetryPolicy>) -> StoreResult<Option<String>> {
    let json = policy.map(|policy| serde_json::to_string(&policy)).transpose();
    json.map_err(|error| StoreError::Data(format!("retry policy: {error}")))
}

#[derive(FromRow)]
pub struct ClaimRow {
    id: Uuid,
    worker_id: String,
    session_id: Uuid,
    host: Option<String>,
    claimed_at: i64,
    ids: Vec<u8>,
    entries: Vec<u8>,
}

impl ClaimRow {
    /// Claims that can be decoded, in order. The others are passed to `damaged`: one must not hold up all.
    pub fn decodable(
        rows: Vec<Self>,
        mut damaged: impl FnMut(Uuid, &StoreError),
    ) -> impl Iterator<Item = claim::Claim> {
        rows.into_iter().filter_map(move |row| {
            let id = row.id;
            row.into_claim().map_err(|error| damaged(id, &error)).ok()
        })
    }

    /// Claims that can be decoded, in order. The others are logged.
    pub fn sound_or_logged(rows: Vec<Self>) -> impl Iterator<Item = claim::Claim> {
        Self::decodable(rows, |_, error| tracing::error!(%error, "a stored claim cannot be read"))
    }

    fn into_claim(self) -> StoreResult<claim::Claim> {
        let entries = packed_claim::decode_entries(&self.ids, &self.entries)
            .ok_or_else(|| StoreError::Defect(format!("claim {} does not hold together", self.id)))?;
        Ok(claim::Claim {
            id: self.id,
            worker_id: self.worker_id,
            session_id: self.session_id,
            host: self.host.unwrap_or_default(),
            claimed_at: self.claimed_at,
            entries,
        })
    }
}

#[derive(FromRow)]
pub struct RetryRow {
    pub id: Uuid,
    task: String,
    priority: i16,
    payload_bytes: i32,
    max_retries: i16,
    retry: Option<String>,
}

impl RetryRow {
    pub fn into_columns(self) -> claim::RetryColumns {
        // A damaged policy must not hold up everything that ends in the same transaction.
        let retry = retry(self.retry.as_deref()).unwrap_or_else(|error| {
            tracing::error!(job_id = %self.id, %error, "the default retry policy serves");
            RetryPolicy::default()
        });
        claim::RetryColumns {
            task: self.task,
            priority: self.priority,
            payload_bytes: self.payload_bytes,
            max_retries: self.max_retries as u32,
            retry,
            unhandled_task: None,
        }
    }
}

/// How a lease ended that is not open, by the rows that are left of it.
#[derive(FromRow)]
pub struct PriorRow {
    claim_id: Uuid,
    job_id: Uuid,
    session_id: Option<Uuid>,
    run_no: i32,
    outcome: Option<i16>,
    ended_at: i64,
    /// The attempt's end made the job a dead letter.
    died: bool,
    ids: Option<Vec<u8>>,
    runs: Option<Vec<u8>>,
}

impl PriorRow {
    pub fn into_prior(self) -> (LeaseId, claim::Prior) {
        let lease = LeaseId { claim_id: self.claim_id, job_id: self.job_id };
        let index = self.ids.and_then(|ids| packed_claim::index_of(&ids, self.job_id));
        let prior = claim::Prior {
            session_id: self.session_id.unwrap_or_default(),
            run_no: index.map_or(self.run_no as u32, |index| packed_claim::run_at_index(self.runs.as_deref(), index).0),
            outcome: self.outcome.and_then(|number| number.try_into().ok()),
            state: match (self.outcome, self.died) {
                (None, _) => State::Done,
                (Some(_), true) => State::Failed,
                (Some(_), false) => State::Pending,
            },
            ended_at: self.ended_at,
        };
        (lease, prior)
    }
}

pub struct TakenRow {
    pub id: Uuid,
    pub priority: i16,
    pub run_at: i64,
    pub run_no: i32,
    pub attempts_used: i32,
    pub payload_bytes: i32,
    pub enqueued_at: i64,
    pub inline_job: Option<Vec<u8>>,
}

/// Read by index: a batch has up to 1,000 rows, and looking up columns by name costs as much as reading them.
impl<'r, R: Row> FromRow<'r, R> for TakenRow
where
    usize: ColumnIndex<R>,
    Uuid: Decode<'r, R::Database> + Type<R::Database>,
    i16: Decode<'r, R::Database> + Type<R::Database>,
    i32: Decode<'r, R::Database> + Type<R::Database>,
    i64: Decode<'r, R::Database> + Type<R::Database>,
    Vec<u8>: Decode<'r, R::Database> + Type<R::Database>,
{
    fn from_row(row: &'r R) -> Result<Self, sqlx::Error> {
        Ok(Self {
            id: row.try_get(0)?,
            priority: row.try_get(1)?,
            run_at: row.try_get(2)?,
            run_no: row.try_get(3)?,
            attempts_used: row.try_get(4)?,
            payload_bytes: row.try_get(5)?,
            enqueued_at: row.try_get(6)?,
            inline_job: row.try_get(7)?,
        })
    }
}

/// Columns of `jobs` that a leased job consists of.
#[derive(Debug, PartialEq, Eq, FromRow)]
pub struct LeasedRow {
    pub id: Uuid,
    pub task: String,
    pub priority: i16,
    pub run_at: i64,
    pub payload: Vec<u8>,
    pub max_retries: i16,
    pub retry: Option<String>,
    pub attempt_timeout: Option<i64>,
    pub idempotency_key: Option<String>,
}

impl LeasedRow {
    pub fn into_record(self, claim: &claim::Claim, entry: &packed_claim::Entry) -> StoreResult<JobRecord> {
        Ok(JobRecord {
            id: self.id,
            worker_id: claim.worker_id.clone(),
            task: self.task,
            priority: self.priority as u8,
            payload: text(self.payload)?,
            max_retries: self.max_retries as u32,
            retry: retry(self.retry.as_deref())?,
            attempt_timeout_ms: self.attempt_timeout,
            idempotency_key: self.idempotency_key,
            state: State::Running,
            run_no: entry.run_no,
            attempts_used: entry.attempts_used,
            last_error: String::new(),
            run_at_ms: self.run_at,
            created_at_ms: created_at_ms(self.id),
            updated_at_ms: claim.claimed_at,
            started_at_ms: Some(claim.claimed_at),
            finished_at_ms: None,
            session_id: Some(claim.session_id),
            failure: None,
            result: None,
            note: String::new(),
            waits_for_handler: false,
            kept_for_task: false,
            error_group: None,
            progress: None,
            origin: None,
        })
    }
}

#[derive(FromRow)]
pub struct AttemptReadRow {
    run_no: i32,
    outcome: i16,
    error: String,
    session_id: Option<Uuid>,
    host: String,
    started_at: Option<i64>,
    ended_at: i64,
}

impl AttemptReadRow {
    pub fn into_record(self) -> StoreResult<AttemptRecord> {
        Ok(AttemptRecord {
            run_no: self.run_no as u32,
            outcome: AttemptOutcome::try_from(self.outcome)
                .map_err(|error| StoreError::Defect(format!("attempt: {error}")))?,
            error: self.error,
            session_id: self.session_id,
            host: self.host,
            started_at_ms: self.started_at,
            ended_at_ms: self.ended_at,
        })
    }
}

#[derive(FromRow)]
pub struct StopReadRow {
    pub session_id: Uuid,
    claim_id: Uuid,
    job_id: Uuid,
    reason: i16,
}

impl StopReadRow {
    pub fn stopped(&self) -> Stopped {
        let lease = LeaseId { claim_id: self.claim_id, job_id: self.job_id };
        let reason = self.reason.try_into().unwrap_or(StopReason::Cancelled);
        Stopped { lease, reason }
    }
}

#[derive(FromRow)]
pub struct ProgressRow {
    run_no: i32,
    fraction: f64,
    message: String,
    at: i64,
}

impl ProgressRow {
    pub fn into_progress(self) -> (u32, Progress) {
        (self.run_no as u32, Progress { fraction: self.fraction, message: self.message, at_ms: self.at })
    }
}
