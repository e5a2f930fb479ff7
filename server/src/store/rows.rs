//! Rows of jobs and of what happens to them, as both databases give them, and the records that they become.

use jobqueue_shared::{
    lease::{LeaseId, created_at_ms},
    retry::RetryPolicy,
    state::State,
};
use sqlx::{ColumnIndex, Decode, FromRow, Row, Type};
use uuid::Uuid;

use super::{
    codes,
    error::{StoreError, StoreResult},
    places, plan,
    types::{AttemptRecord, JobRecord, Progress, StopReason, Stopped},
};

/// A job's facts, and what each place that can hold a job says of it. Exactly one of them should.
#[derive(FromRow)]
pub(super) struct JobRow {
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
    r_used: Option<i32>,
    r_run_at: Option<i64>,
    r_since: Option<i64>,
    r_waits: Option<bool>,
    c_session_id: Option<Uuid>,
    c_claimed_at: Option<i64>,
    c_ids: Option<Vec<u8>>,
    c_places: Option<Vec<u8>>,
    d_session_id: Option<Uuid>,
    d_claimed_at: Option<i64>,
    d_finished_at: Option<i64>,
    d_ids: Option<Vec<u8>>,
    d_runs: Option<Vec<u8>>,
    f_run_no: Option<i32>,
    f_used: Option<i32>,
    f_reason: Option<i16>,
    f_error: Option<String>,
    f_session_id: Option<Uuid>,
    f_started_at: Option<i64>,
    f_failed_at: Option<i64>,
    x_run_no: Option<i32>,
    x_used: Option<i32>,
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
}

impl JobRow {
    pub(super) fn into_record(self) -> StoreResult<JobRecord> {
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
            progress: None,
        };
        if let (Some(run_no), Some(used), Some(run_at), Some(since)) =
            (self.r_run_no, self.r_used, self.r_run_at, self.r_since)
        {
            (job.run_no, job.attempts_used) = (run_no as u32, used as u32);
            (job.run_at_ms, job.updated_at_ms) = (run_at, since);
            job.waits_for_handler = self.r_waits.unwrap_or_default();
        } else if let (Some(ids), Some(bytes), Some(claimed_at)) = (self.c_ids, self.c_places, self.c_claimed_at) {
            let place = places::decode_places(&ids, &bytes)
                .and_then(|places| places.into_iter().find(|place| place.job_id == id))
                .ok_or_else(|| StoreError::Defect(format!("job {id} has no place in its claim")))?;
            job.state = State::Running;
            (job.run_no, job.attempts_used) = (place.run_no, place.used);
            (job.updated_at_ms, job.started_at_ms) = (claimed_at, Some(claimed_at));
            job.session_id = self.c_session_id;
            if let (Some(run_no), Some(fraction), Some(at_ms)) = (self.p_run_no, self.p_fraction, self.p_at)
                && run_no as u32 == place.run_no
            {
                job.progress = Some(Progress { fraction, message: self.p_message.unwrap_or_default(), at_ms });
            }
        } else if let (Some(run_no), Some(used), Some(failed_at)) = (self.f_run_no, self.f_used, self.f_failed_at) {
            job.state = State::Failed;
            (job.run_no, job.attempts_used) = (run_no as u32, used as u32);
            (job.updated_at_ms, job.finished_at_ms) = (failed_at, Some(failed_at));
            (job.started_at_ms, job.session_id) = (self.f_started_at, self.f_session_id);
            job.failure = self.f_reason.map(codes::failure_from);
            job.last_error = self.f_error.unwrap_or_default();
        } else if let (Some(run_no), Some(used), Some(at)) = (self.x_run_no, self.x_used, self.x_cancelled_at) {
            job.state = State::Cancelled;
            (job.run_no, job.attempts_used) = (run_no as u32, used as u32);
            (job.updated_at_ms, job.finished_at_ms) = (at, Some(at));
            (job.started_at_ms, job.session_id) = (self.x_started_at, self.x_session_id);
            job.note = self.x_note.unwrap_or_default();
        } else if let (Some(ids), Some(finished_at)) = (self.d_ids, self.d_finished_at) {
            let index = places::index_of(&ids, id)
                .ok_or_else(|| StoreError::Defect(format!("job {id} has no place in its done row")))?;
            job.state = State::Done;
            (job.run_no, job.attempts_used) = places::run_at_index(self.d_runs.as_deref(), index);
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

pub(super) fn retry(json: Option<&str>) -> StoreResult<RetryPolicy> {
    let Some(json) = json else { return Ok(RetryPolicy::default()) };
    serde_json::from_str(json).map_err(|error| StoreError::Defect(format!("stored retry policy: {error}")))
}

pub(super) fn retry_json(policy: Option<RetryPolicy>) -> StoreResult<Option<String>> {
    let json = policy.map(|policy| serde_json::to_string(&policy)).transpose();
    json.map_err(|error| StoreError::Data(format!("retry policy: {error}")))
}

#[derive(FromRow)]
pub(super) struct ClaimRow {
    id: Uuid,
    worker_id: String,
    session_id: Uuid,
    host: Option<String>,
    claimed_at: i64,
    ids: Vec<u8>,
    places: Vec<u8>,
}

impl ClaimRow {
    /// The claims that can be read, in order. `broken` hears of the others: one must not stand in the way of all.
    pub(super) fn sound(
        rows: Vec<Self>,
        mut broken: impl FnMut(Uuid, &StoreError),
    ) -> impl Iterator<Item = plan::Claim> {
        rows.into_iter().filter_map(move |row| {
            let id = row.id;
            row.into_claim().map_err(|error| broken(id, &error)).ok()
        })
    }

    /// The same, where a call can do no more about it than to say so.
    pub(super) fn sound_or_logged(rows: Vec<Self>) -> impl Iterator<Item = plan::Claim> {
        Self::sound(rows, |_, error| tracing::error!(%error, "a stored claim cannot be read"))
    }

    fn into_claim(self) -> StoreResult<plan::Claim> {
        let places = places::decode_places(&self.ids, &self.places)
            .ok_or_else(|| StoreError::Defect(format!("claim {} does not hold together", self.id)))?;
        Ok(plan::Claim {
            id: self.id,
            worker_id: self.worker_id,
            session_id: self.session_id,
            host: self.host.unwrap_or_default(),
            claimed_at: self.claimed_at,
            places,
        })
    }
}

#[derive(FromRow)]
pub(super) struct FactsRow {
    pub id: Uuid,
    priority: i16,
    payload_bytes: i32,
    max_retries: i16,
    retry: Option<String>,
}

impl FactsRow {
    pub(super) fn into_facts(self) -> plan::Facts {
        // One broken policy must not keep everything that ends in the same transaction.
        let retry = retry(self.retry.as_deref()).unwrap_or_else(|error| {
            tracing::error!(job_id = %self.id, %error, "the default retry policy serves");
            RetryPolicy::default()
        });
        plan::Facts {
            priority: self.priority,
            payload_bytes: self.payload_bytes,
            max_retries: self.max_retries as u32,
            retry,
            foreign_task: None,
        }
    }
}

/// How a lease that is not open had ended, by what is left of it.
#[derive(FromRow)]
pub(super) struct PriorRow {
    claim_id: Uuid,
    job_id: Uuid,
    session_id: Option<Uuid>,
    run_no: i32,
    outcome: Option<i16>,
    ended_at: i64,
    /// It made the job a dead letter.
    died: bool,
    ids: Option<Vec<u8>>,
    runs: Option<Vec<u8>>,
}

impl PriorRow {
    pub(super) fn into_prior(self) -> (LeaseId, plan::Prior) {
        let lease = LeaseId { claim_id: self.claim_id, job_id: self.job_id };
        let index = self.ids.and_then(|ids| places::index_of(&ids, self.job_id));
        let prior = plan::Prior {
            session_id: self.session_id.unwrap_or_default(),
            run_no: index.map_or(self.run_no as u32, |index| places::run_at_index(self.runs.as_deref(), index).0),
            outcome: self.outcome.and_then(codes::outcome_from),
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

pub(super) struct TakenRow {
    pub id: Uuid,
    pub priority: i16,
    pub run_at: i64,
    pub run_no: i32,
    pub used: i32,
    pub payload_bytes: i32,
    pub since: i64,
    pub facts: Option<Vec<u8>>,
}

/// By place: a batch has a thousand of them, and looking columns up by name costs as much as reading them.
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
            used: row.try_get(4)?,
            payload_bytes: row.try_get(5)?,
            since: row.try_get(6)?,
            facts: row.try_get(7)?,
        })
    }
}

/// What a leased job is made from.
#[derive(Debug, PartialEq, Eq, FromRow)]
pub(super) struct LeasedRow {
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
    pub(super) fn into_record(self, claim: &plan::Claim, place: &places::Place) -> StoreResult<JobRecord> {
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
            run_no: place.run_no,
            attempts_used: place.used,
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
            progress: None,
        })
    }
}

#[derive(FromRow)]
pub(super) struct AttemptReadRow {
    run_no: i32,
    outcome: i16,
    error: String,
    session_id: Option<Uuid>,
    host: String,
    started_at: Option<i64>,
    ended_at: i64,
}

impl AttemptReadRow {
    pub(super) fn into_record(self) -> StoreResult<AttemptRecord> {
        Ok(AttemptRecord {
            run_no: self.run_no as u32,
            outcome: codes::outcome_from(self.outcome)
                .ok_or_else(|| StoreError::Defect(format!("attempt outcome {}", self.outcome)))?,
            error: self.error,
            session_id: self.session_id,
            host: self.host,
            started_at_ms: self.started_at,
            ended_at_ms: self.ended_at,
        })
    }
}

#[derive(FromRow)]
pub(super) struct StopReadRow {
    pub session_id: Uuid,
    claim_id: Uuid,
    job_id: Uuid,
    reason: i16,
}

impl StopReadRow {
    pub(super) fn stopped(&self) -> Stopped {
        let lease = LeaseId { claim_id: self.claim_id, job_id: self.job_id };
        let reason: StopReason = codes::stop_reason_from(self.reason);
        Stopped { lease, reason }
    }
}

#[derive(FromRow)]
pub(super) struct ProgressRow {
    run_no: i32,
    fraction: f64,
    message: String,
    at: i64,
}

impl ProgressRow {
    pub(super) fn into_progress(self) -> (u32, Progress) {
        (self.run_no as u32, Progress { fraction: self.fraction, message: self.message, at_ms: self.at })
    }
}
