//! CopyJob: stores a copy of a job, with some fields changed.

use jobqueue_shared::{
    json, limits,
    proto::v1::{CopyJobRequest, JobChanges},
    retry::RetryPolicy,
};
use jobqueue_store::{IdempotencyKey, JobRecord, NewJob, Start, Stored};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use super::new_job::{self, Rules};
use crate::queue::{error::Result, handle::Queue, validate::Violations};

impl Queue {
    pub async fn copy(&self, request: CopyJobRequest) -> Result<Stored> {
        let mut violations = Violations::default();
        let key = (!request.idempotency_key.is_empty())
            .then(|| IdempotencyKey { key: request.idempotency_key.clone(), request_hash: request_hash(&request) });
        let id = violations.uuid("job_id", &request.job_id);
        new_job::check_key(&request.idempotency_key, &mut violations);
        let changes = self.rules().changes(request.changes.unwrap_or_default(), &mut violations);
        violations.finish()?;
        let copy = changes.of(self.job(id).await?, key, self.context.clock.now_ms())?;
        let stored = self.store_unit(vec![copy], |_| String::new()).await?;
        stored.first().copied().ok_or(crate::queue::error::Error::Draining)
    }
}

/// Hash by which a repeated call is recognised: SHA-256 of the request's protobuf encoding, after a prefix that no
/// encoding begins with, so that it never equals the hash of a submit.
fn request_hash(request: &CopyJobRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    // Field number 0, which protobuf does not allow.
    hash.update([0]);
    hash.update(request.encode_to_vec());
    hash.finalize().into()
}

/// Changes that have been checked; `None` where the copy is as its original.
#[derive(Debug, Default)]
struct Changes {
    worker_id: Option<String>,
    payload: Option<String>,
    task: Option<String>,
    priority: Option<u8>,
    max_retries: Option<u32>,
    start: Option<Start>,
    retry: Option<RetryPolicy>,
    /// 0: no limit.
    attempt_timeout_ms: Option<i64>,
}

impl Rules {
    fn changes(self, changes: JobChanges, violations: &mut Violations) -> Changes {
        violations.within("changes.".into());
        let JobChanges {
            worker_id,
            payload_json: payload,
            task,
            priority,
            max_retries,
            run_at,
            delay,
            retry_policy,
            attempt_timeout,
        } = changes;
        if let Some(worker_id) = &worker_id {
            violations.worker_id("worker_id", worker_id);
        }
        if let Some(payload) = &payload
            && let Err(error) = json::check(payload, self.payload_bytes, limits::JSON_DEPTH)
        {
            violations.add("payload_json", error.to_string());
        }
        if let Some(task) = &task {
            violations.name("task", task, limits::TASK);
        }
        let starts = run_at.is_some() || delay.is_some();
        let start = self.start(run_at, delay, violations);
        Changes {
            worker_id,
            payload,
            task,
            priority: priority
                .map(|it| violations.integer("priority", it, 0..=u32::from(limits::PRIORITY_LOWEST)) as u8),
            max_retries: max_retries.map(|it| violations.integer("max_retries", it, 0..=limits::MAX_RETRIES)),
            start: starts.then_some(start),
            retry: retry_policy.map(|policy| new_job::retry(policy, violations)),
            attempt_timeout_ms: attempt_timeout.map(|timeout| {
                if timeout == prost_types::Duration::default() {
                    return 0;
                }
                let allowed = "0 (no limit), or 1 ms to 1 year";
                violations.duration_ms("attempt_timeout", timeout, 1..=limits::DELAY_MS, allowed)
            }),
        }
    }
}

impl Changes {
    fn of(self, original: JobRecord, key: Option<IdempotencyKey>, now_ms: i64) -> Result<NewJob> {
        let mut violations = Violations::default();
        violations.within("changes.".into());
        let payload = self.payload.unwrap_or(original.payload);
        let task = match self.task {
            Some(task) => new_job::task_of(task, &payload, &mut violations),
            None => original.task,
        };
        violations.finish()?;
        // Once a job has been leased, its run_at is that of a retry, or has passed.
        let keeps_run_at = original.run_no == 0 && original.run_at_ms > now_ms;
        let start = if keeps_run_at { Start::At { run_at_ms: original.run_at_ms } } else { Start::Now };
        Ok(NewJob {
            worker_id: self.worker_id.unwrap_or(original.worker_id),
            task,
            priority: self.priority.unwrap_or(original.priority),
            start: self.start.unwrap_or(start),
            payload,
            max_retries: self.max_retries.unwrap_or(original.max_retries),
            retry: self.retry.or(Some(original.retry)).filter(|retry| *retry != RetryPolicy::default()),
            attempt_timeout_ms: self.attempt_timeout_ms.or(original.attempt_timeout_ms).filter(|ms| *ms > 0),
            key,
            origin: Some(original.id),
        })
    }
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::proto::v1::SubmitJobRequest;
    use prost_types::{Duration, Timestamp};
    use uuid::Uuid;

    use super::{super::new_job::tests::RULES, *};
    use crate::queue::error::Error;

    const RETRY: RetryPolicy = RetryPolicy { initial_ms: 7, factor: 3.0, max_ms: 70, jitter: 0.0 };

    fn original() -> JobRecord {
        JobRecord {
            id: Uuid::from_u128(7),
            task: "email".into(),
            priority: 2,
            payload: r#"{"task":"sms"}"#.into(),
            max_retries: 9,
            retry: RETRY,
            attempt_timeout_ms: Some(60_000),
            idempotency_key: Some("mine".into()),
            run_no: 4,
            ..JobRecord::sample(RULES.now_ms - 1_000)
        }
    }

    fn copied(changes: JobChanges, original: JobRecord) -> std::result::Result<NewJob, Vec<String>> {
        let mut violations = Violations::default();
        let changes = RULES.changes(changes, &mut violations);
        match violations.finish().and_then(|()| changes.of(original, None, RULES.now_ms)) {
            Ok(job) => Ok(job),
            Err(Error::Invalid(found)) => Err(found.into_iter().map(|it| it.field).collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn a_copy_without_changes_has_all_of_its_original_but_the_key() {
        let copy = copied(JobChanges::default(), original()).unwrap();
        assert_eq!((copy.worker_id.as_str(), copy.task.as_str(), copy.priority), ("w", "email", 2));
        assert_eq!((copy.payload.as_str(), copy.max_retries), (r#"{"task":"sms"}"#, 9));
        assert_eq!((copy.retry, copy.attempt_timeout_ms, copy.start), (Some(RETRY), Some(60_000), Start::Now));
        assert!(copy.key.is_none());
        assert_eq!(copy.origin, Some(Uuid::from_u128(7)));
    }

    #[test]
    fn every_change_replaces_its_field_alone() {
        let changes = JobChanges {
            worker_id: Some("v".into()),
            payload_json: Some("[]".into()),
            task: Some("fax".into()),
            priority: Some(0),
            max_retries: Some(0),
            run_at: None,
            delay: Some(Duration { seconds: 3, nanos: 0 }),
            retry_policy: Some(jobqueue_shared::proto::v1::RetryPolicy::default()),
            attempt_timeout: Some(Duration { seconds: 0, nanos: 0 }),
        };
        let copy = copied(changes, original()).unwrap();
        assert_eq!((copy.worker_id.as_str(), copy.task.as_str(), copy.priority), ("v", "fax", 0));
        assert_eq!((copy.payload.as_str(), copy.max_retries), ("[]", 0));
        assert_eq!((copy.retry, copy.attempt_timeout_ms), (None, None), "the default policy, and no limit");
        assert_eq!(copy.start, Start::After { delay_ms: 3_000 });
    }

    #[test]
    fn an_empty_task_is_taken_from_the_payload_of_the_copy() {
        let task = |payload_json: Option<&str>| {
            let changes = JobChanges {
                task: Some(String::new()),
                payload_json: payload_json.map(str::to_owned),
                ..JobChanges::default()
            };
            copied(changes, original()).map(|copy| copy.task)
        };
        assert_eq!(task(None).unwrap(), "sms");
        assert_eq!(task(Some(r#"{"task":"fax"}"#)).unwrap(), "fax");
        assert_eq!(task(Some("1")).unwrap(), "");
        let long = format!(r#"{{"task":"{}"}}"#, "x".repeat(101));
        assert_eq!(task(Some(&long)).unwrap_err(), ["changes.payload_json"]);
    }

    #[test]
    fn only_a_job_that_was_never_leased_passes_its_run_at_on() {
        let run_at_ms = RULES.now_ms + 60_000;
        let start = |run_no, run_at_ms| {
            copied(JobChanges::default(), JobRecord { run_no, run_at_ms, ..original() }).unwrap().start
        };
        assert_eq!(start(0, run_at_ms), Start::At { run_at_ms });
        assert_eq!(start(1, run_at_ms), Start::Now, "this is the time of a retry");
        assert_eq!(start(0, RULES.now_ms - 1), Start::Now);
        let at_once = JobChanges { delay: Some(Duration::default()), ..JobChanges::default() };
        let scheduled = JobRecord { run_no: 0, run_at_ms, ..original() };
        assert_eq!(copied(at_once, scheduled).unwrap().start, Start::Now);
    }

    #[test]
    fn each_wrong_change_is_named() {
        let changes = JobChanges {
            worker_id: Some(String::new()),
            payload_json: Some("{".into()),
            task: Some("t".repeat(101)),
            priority: Some(10),
            max_retries: Some(101),
            run_at: Some(Timestamp { seconds: RULES.now_ms / 1_000 + 366 * 24 * 3_600, nanos: 0 }),
            delay: Some(Duration { seconds: 1, nanos: 0 }),
            retry_policy: Some(jobqueue_shared::proto::v1::RetryPolicy { factor: Some(0.5), ..Default::default() }),
            attempt_timeout: Some(Duration { seconds: 0, nanos: 999_999 }),
        };
        let mut wrong = copied(changes, original()).unwrap_err();
        wrong.sort();
        let named = [
            "attempt_timeout",
            "delay",
            "max_retries",
            "payload_json",
            "priority",
            "retry_policy.factor",
            "run_at",
            "task",
            "worker_id",
        ];
        assert_eq!(wrong, named.map(|field| format!("changes.{field}")));
    }

    #[test]
    fn an_original_beyond_the_limits_of_today_can_be_copied() {
        let payload = format!("\"{}\"", "x".repeat(RULES.payload_bytes));
        let copy = copied(JobChanges::default(), JobRecord { payload: payload.clone(), ..original() }).unwrap();
        assert_eq!(copy.payload, payload);
    }

    #[test]
    fn the_hash_of_a_copy_is_of_its_request_and_never_that_of_a_submit() {
        let request = CopyJobRequest { job_id: "a".into(), changes: None, idempotency_key: "k".into() };
        let same_bytes = SubmitJobRequest::decode(request.encode_to_vec().as_slice()).unwrap();
        assert_eq!(same_bytes.encode_to_vec(), request.encode_to_vec());
        let of_submit: [u8; 32] = Sha256::digest(same_bytes.encode_to_vec()).into();
        assert_ne!(request_hash(&request), of_submit);
        let other = CopyJobRequest { changes: Some(JobChanges::default()), ..request.clone() };
        assert_ne!(request_hash(&request), request_hash(&other));
    }
}
