//! Conversion of the store's records to the API's messages.

use jobqueue_shared::{
    proto::v1,
    sub_state::SubState,
    time::{duration, timestamp},
};
use jobqueue_store::{
    AttemptOutcome, AttemptRecord, Count, HeartbeatAnswer, HeldJob, JobCounts, JobRecord, Leased, MinuteCounts,
    OperationRecord, OperationState, Refusal, SessionDetails, SessionRecord, SessionState, StopReason, Stopped, Stored,
    WorkerIdCounts,
};

use prost::Message as _;

use crate::queue::{AcquireResult, Counts, Event, Explanation, Outcome, Progress, SettleVerdict, Started, Throughputs};

/// google.rpc.Code of a settlement that was accepted, is malformed, or has a lease that is no longer valid.
const OK: i32 = 0;
const INVALID_ARGUMENT: i32 = 3;
const FAILED_PRECONDITION: i32 = 9;

/// Converts to int32, the API's type for counts, because JSON prints it as a number.
pub(super) fn count(n: u64) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

pub(super) fn operation(it: OperationRecord) -> v1::Operation {
    use v1::operation::State;
    // Both were written by a server, which would not run what it cannot read.
    let brief = v1::Operation::decode(it.brief.as_slice()).unwrap_or_default();
    let spec = brief.spec.unwrap_or_default();
    let progress = Progress::read(&it.progress).unwrap_or_default();
    let (canary, canary_passed) = progress.canary();
    let state = match it.state {
        OperationState::Running => State::Running,
        OperationState::CanaryWaiting => State::CanaryWaiting,
        OperationState::Paused => State::Paused,
        OperationState::Stopped => State::Stopped,
        OperationState::Done => State::Done,
        OperationState::Failed => State::Failed,
    };
    v1::Operation {
        id: it.id.to_string(),
        state: state.into(),
        note: it.note,
        caller: it.caller,
        started_at: Some(timestamp(it.started_at_ms)),
        updated_at: Some(timestamp(it.updated_at_ms)),
        finished_at: it.finished_at_ms.map(timestamp),
        total: it.total.map(count),
        total_is_floor: it.total_is_floor,
        matched: count(it.changed + it.refused),
        changed: count(it.changed),
        refused: count(it.refused),
        canary: (spec.canary > 0).then_some(canary),
        sample: spec.stop_percent.map(|_| progress.sample()),
        canary_passed,
        spec: Some(spec),
        filter_ids: brief.filter_ids,
    }
}

pub(super) fn refusal(it: Refusal) -> v1::OperationRefusal {
    use v1::operation_refusal::Reason;
    let reason = match it.state {
        None => Reason::Gone,
        Some(_) if it.later => Reason::ChangedSince,
        Some(_) => Reason::WrongStatus,
    };
    let status = it.state.map_or(v1::job::Status::Unspecified, Into::into);
    v1::OperationRefusal { job_id: it.job_id.to_string(), reason: reason.into(), status: status.into() }
}

pub(super) fn started(it: Started) -> v1::StartOperationResponse {
    match it {
        Started::Operation { record, deduplicated } => {
            v1::StartOperationResponse { operation: Some(operation(record)), deduplicated, dry_run: None }
        }
        Started::DryRun { count: jobs, is_floor, samples } => {
            let samples = samples.into_iter().map(job).collect();
            let dry_run = Some(v1::OperationDryRun { count: count(jobs), is_floor, samples });
            v1::StartOperationResponse { operation: None, deduplicated: false, dry_run }
        }
    }
}

pub(super) fn submitted(stored: Stored) -> v1::SubmitJobResponse {
    v1::SubmitJobResponse { job_id: stored.id.to_string(), deduplicated: stored.deduplicated }
}

pub(super) fn job(job: JobRecord) -> v1::Job {
    v1::Job {
        id: job.id.to_string(),
        worker_id: job.worker_id,
        status: v1::job::Status::from(job.state).into(),
        payload_json: job.payload,
        attempt_count: count(job.attempts_used.into()),
        max_retries: count(job.max_retries.into()),
        last_error: job.last_error,
        created_at: Some(timestamp(job.created_at_ms)),
        updated_at: Some(timestamp(job.updated_at_ms)),
        task: job.task,
        priority: i32::from(job.priority),
        run_at: Some(timestamp(job.run_at_ms)),
        result_json: job.result.unwrap_or_default(),
        retry_policy: Some(v1::RetryPolicy {
            initial: Some(duration(job.retry.initial_ms)),
            factor: Some(job.retry.factor),
            max: Some(duration(job.retry.max_ms)),
            jitter: Some(job.retry.jitter),
        }),
        attempt_timeout: job.attempt_timeout_ms.map(duration),
        idempotency_key: job.idempotency_key.unwrap_or_default(),
        started_at: job.started_at_ms.map(timestamp),
        finished_at: job.finished_at_ms.map(timestamp),
        session_id: job.session_id.map(|it| it.to_string()).unwrap_or_default(),
        failure_reason: job.failure.map_or(v1::dead_letter::Reason::Unspecified, Into::into).into(),
        run_no: count(job.run_no.into()),
        note: job.note,
        waits_for_handler: job.waits_for_handler,
        progress: job.progress.map(|it| v1::Progress {
            fraction: it.fraction,
            message: it.message,
            at: Some(timestamp(it.at_ms)),
        }),
        origin: job.origin.map(|it| it.to_string()).unwrap_or_default(),
        error_group: job.error_group.map(|it| it.to_string()).unwrap_or_default(),
    }
}

pub(super) fn copy(job: JobRecord) -> v1::JobCopy {
    v1::JobCopy {
        job_id: job.id.to_string(),
        worker_id: job.worker_id,
        task: job.task,
        status: v1::job::Status::from(job.state).into(),
        created_at: Some(timestamp(job.created_at_ms)),
    }
}

pub(super) fn attempt(it: AttemptRecord) -> v1::Attempt {
    v1::Attempt {
        run_no: count(it.run_no.into()),
        outcome: outcome(it.outcome).into(),
        error: it.error,
        session_id: it.session_id.map(|it| it.to_string()).unwrap_or_default(),
        host: it.host,
        started_at: it.started_at_ms.map(timestamp),
        ended_at: Some(timestamp(it.ended_at_ms)),
    }
}

fn outcome(it: AttemptOutcome) -> v1::attempt::Outcome {
    use v1::attempt::Outcome;
    match it {
        AttemptOutcome::Failed => Outcome::Failed,
        AttemptOutcome::TimedOut => Outcome::TimedOut,
        AttemptOutcome::Lost => Outcome::Lost,
        AttemptOutcome::Released => Outcome::Released,
        AttemptOutcome::NoHandler => Outcome::NoHandler,
        AttemptOutcome::Snoozed => Outcome::Snoozed,
        AttemptOutcome::Cancelled => Outcome::Cancelled,
        AttemptOutcome::Refused => Outcome::Refused,
        AttemptOutcome::Retried => Outcome::Retried,
    }
}

pub(super) fn event(it: Event) -> v1::TimelineEvent {
    v1::TimelineEvent {
        kind: it.kind.into(),
        at: Some(timestamp(it.at_ms)),
        run_no: count(it.run_no.into()),
        session_id: it.session_id.map(|it| it.to_string()).unwrap_or_default(),
        host: it.host,
        text: it.text,
        fraction: it.fraction,
    }
}

pub(super) fn explanation(it: Explanation) -> v1::ExplainJobResponse {
    let inputs = it.inputs;
    v1::ExplainJobResponse {
        reason: it.reason.into(),
        sentence: it.sentence,
        run_at: it.run_at_ms.map(timestamp),
        sessions: count(inputs.sessions),
        handling_sessions: count(inputs.handling),
        slots: count(inputs.slots),
        held: count(inputs.held),
        ahead: count(inputs.ahead),
    }
}

pub(super) fn handed(handed: AcquireResult) -> v1::AcquireJobsResponse {
    v1::AcquireJobsResponse {
        jobs: handed.jobs.into_iter().map(leased).collect(),
        stop: handed.stop.into_iter().map(stopped).collect(),
    }
}

fn leased(leased: Leased) -> v1::LeasedJob {
    v1::LeasedJob {
        lease_id: leased.lease.to_string(),
        job: Some(job(leased.job)),
        deadline: leased.deadline_ms.map(timestamp),
    }
}

pub(super) fn alive(alive: HeartbeatAnswer) -> v1::HeartbeatResponse {
    let stop = alive.stop.into_iter().map(stopped).collect();
    v1::HeartbeatResponse { expires_at: Some(timestamp(alive.expires_at_ms)), stop }
}

fn stopped(it: Stopped) -> v1::StoppedLease {
    use v1::stopped_lease::Reason;
    let reason = match it.reason {
        StopReason::Cancelled => Reason::Cancelled,
        StopReason::TimedOut => Reason::TimedOut,
    };
    v1::StoppedLease { lease_id: it.lease.to_string(), job_id: it.lease.job_id.to_string(), reason: reason.into() }
}

pub(super) fn settled(Outcome { lease_id, verdict }: Outcome) -> v1::SettleResult {
    let (code, message, status) = match verdict {
        SettleVerdict::Accepted(state) => (OK, String::new(), state.into()),
        SettleVerdict::Stale => {
            let message = "the lease is no longer valid: its attempt has ended".to_owned();
            (FAILED_PRECONDITION, message, v1::job::Status::Unspecified)
        }
        SettleVerdict::Malformed(message) => (INVALID_ARGUMENT, message, v1::job::Status::Unspecified),
    };
    v1::SettleResult { lease_id, code, message, status: status.into() }
}

pub(super) fn job_counts(it: JobCounts) -> v1::CountJobsResponse {
    let of_state = |(state, it): (SubState, Count)| v1::count_jobs_response::StatusCount {
        status: v1::job_filter::Status::from(state).into(),
        count: count(it.number),
        at_least: it.at_least,
    };
    v1::CountJobsResponse {
        count: count(it.count.number),
        at_least: it.count.at_least,
        statuses: it.by_state.into_iter().map(of_state).collect(),
    }
}

pub(super) fn metrics(counts: Counts) -> v1::GetMetricsResponse {
    let Counts { now_ms, all, worker_ids } = counts;
    v1::GetMetricsResponse {
        total: count(total(&all)),
        pending: count(all.pending),
        scheduled: count(all.scheduled),
        retrying: count(all.retrying),
        running: count(all.running),
        done: count(all.done),
        failed: count(all.failed),
        failed_lately: count(all.failed_lately),
        cancelled: count(all.cancelled),
        oldest_runnable_age: age(now_ms, all.oldest_runnable_ms),
        sessions: count(all.sessions),
        worker_ids: worker_ids
            .into_iter()
            .map(|it| v1::WorkerIdMetrics {
                total: count(total(&it)),
                pending: count(it.pending),
                scheduled: count(it.scheduled),
                retrying: count(it.retrying),
                running: count(it.running),
                done: count(it.done),
                failed: count(it.failed),
                failed_lately: count(it.failed_lately),
                cancelled: count(it.cancelled),
                oldest_runnable_age: age(now_ms, it.oldest_runnable_ms),
                sessions: count(it.sessions),
                paused_at: it.paused.as_ref().map(|it| timestamp(it.at_ms)),
                pause_reason: it.paused.map(|it| it.reason).unwrap_or_default(),
                worker_id: it.worker_id,
            })
            .collect(),
        next_page_token: String::new(),
    }
}

fn total(it: &WorkerIdCounts) -> u64 {
    it.pending + it.running + it.done + it.failed + it.cancelled
}

fn age(now_ms: i64, since_ms: Option<i64>) -> Option<prost_types::Duration> {
    since_ms.map(|since_ms| duration(now_ms.saturating_sub(since_ms).max(0)))
}

pub(super) fn minute(it: MinuteCounts) -> v1::get_throughput_response::Minute {
    v1::get_throughput_response::Minute {
        start: Some(timestamp(it.minute * 60_000)),
        submitted: count(it.submitted),
        done: count(it.done),
        failed: count(it.failed),
        retried: count(it.retried),
    }
}

pub(super) fn throughputs(it: Throughputs) -> v1::GetThroughputsResponse {
    let series = |(worker_id, slots): (String, Vec<MinuteCounts>)| {
        let each = |value: fn(&MinuteCounts) -> u64| slots.iter().map(|slot| count(value(slot))).collect();
        v1::get_throughputs_response::Series {
            submitted: each(|slot| slot.submitted),
            done: each(|slot| slot.done),
            failed: each(|slot| slot.failed),
            retried: each(|slot| slot.retried),
            worker_id,
        }
    };
    v1::GetThroughputsResponse {
        start: Some(timestamp(it.start_ms)),
        step: count(it.step.into()),
        series: it.series.into_iter().map(series).collect(),
    }
}

pub(super) fn session(it: SessionRecord) -> v1::WorkerSession {
    use v1::worker_session::State;
    v1::WorkerSession {
        session_id: it.session_id.to_string(),
        worker_id: it.worker_id,
        host: it.host,
        pid: it.pid,
        version: it.version,
        tasks: it.tasks,
        slots: count(it.slots.into()),
        lease_time: Some(duration(it.lease_ms)),
        started_at: Some(timestamp(it.started_at_ms)),
        last_heartbeat_at: Some(timestamp(it.last_heartbeat_at_ms)),
        expires_at: Some(timestamp(it.expires_at_ms)),
        ended_at: it.ended_at_ms.map(timestamp),
        running: count(it.running),
        state: match it.state {
            SessionState::Live => State::Live,
            SessionState::Draining => State::Draining,
            SessionState::Expired => State::Expired,
            SessionState::Ended => State::Ended,
            SessionState::Lost => State::Lost,
        }
        .into(),
    }
}

pub(super) fn worker(it: SessionDetails) -> v1::GetWorkerResponse {
    let held = |it: HeldJob| v1::HeldJob {
        job_id: it.job_id.to_string(),
        started: it.started,
        status: it.state.map_or(v1::job::Status::Unspecified, Into::into).into(),
        task: it.task,
    };
    v1::GetWorkerResponse { session: Some(session(it.session)), jobs: it.held.into_iter().map(held).collect() }
}
