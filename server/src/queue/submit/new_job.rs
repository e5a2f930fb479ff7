//! Validation of a submitted job, and the defaults of its fields.

use jobqueue_shared::{
    json, limits,
    proto::v1::{self, SubmitJobRequest},
    retry::RetryPolicy,
};
use jobqueue_store::{IdempotencyKey, NewJob, Start};
use prost::Message as _;
use sha2::{Digest as _, Sha256};

use crate::queue::validate::Violations;

/// Limits that a job is checked against.
#[derive(Clone, Copy)]
pub(super) struct Rules {
    pub payload_bytes: usize,
    pub now_ms: i64,
}

impl Rules {
    /// Builds the job that the request describes. The job is meaningless if violations were added.
    pub(super) fn job(self, request: SubmitJobRequest, violations: &mut Violations) -> NewJob {
        let request_hash = (!request.idempotency_key.is_empty()).then(|| request_hash(&request));
        let SubmitJobRequest {
            worker_id,
            payload_json: payload,
            idempotency_key,
            max_retries,
            task,
            priority,
            run_at,
            delay,
            retry_policy,
            attempt_timeout,
        } = request;
        violations.worker_id("worker_id", &worker_id);
        if let Err(error) = json::check(&payload, self.payload_bytes, limits::JSON_DEPTH) {
            violations.add("payload_json", error.to_string());
        }
        check_key(&idempotency_key, violations);
        let task = task_of(task, &payload, violations);
        let max_retries = max_retries.map_or(limits::MAX_RETRIES_DEFAULT, |attempts| {
            violations.integer("max_retries", attempts, 0..=limits::MAX_RETRIES)
        });
        let priority = priority.map_or(limits::PRIORITY_DEFAULT, |priority| {
            violations.integer("priority", priority, 0..=u32::from(limits::PRIORITY_LOWEST)) as u8
        });
        NewJob {
            start: self.start(run_at, delay, violations),
            retry: retry_policy.map(|policy| retry(policy, violations)),
            attempt_timeout_ms: attempt_timeout.map(|timeout| {
                violations.duration_ms("attempt_timeout", timeout, 1..=limits::DELAY_MS, "1 ms to 1 year")
            }),
            key: request_hash.map(|request_hash| IdempotencyKey { key: idempotency_key, request_hash }),
            origin: None,
            worker_id,
            task,
            priority,
            payload,
            max_retries,
        }
    }

    pub(super) fn start(
        self,
        run_at: Option<prost_types::Timestamp>,
        delay: Option<prost_types::Duration>,
        violations: &mut Violations,
    ) -> Start {
        if run_at.is_some() && delay.is_some() {
            violations.add("delay", "cannot be given together with run_at");
        }
        let delay_ms = delay.map(|delay| violations.delay_ms("delay", delay));
        let run_at_ms = run_at.map(|time| {
            let latest = self.now_ms.saturating_add(limits::DELAY_MS);
            violations.timestamp_ms("run_at", time, latest, "at most 1 year ahead")
        });
        match (run_at_ms, delay_ms) {
            // A run_at in the past counts as now: the job must not be ordered before those that have waited longer.
            (Some(run_at_ms), _) if run_at_ms > self.now_ms => Start::At { run_at_ms },
            (None, Some(delay_ms)) if delay_ms > 0 => Start::After { delay_ms },
            _ => Start::Now,
        }
    }
}

/// Hash by which a repeated idempotency key is recognised as the same request: SHA-256 of the request's protobuf
/// encoding, whose fields prost writes in the order of their numbers. It does not depend on this server's defaults.
fn request_hash(request: &SubmitJobRequest) -> [u8; 32] {
    Sha256::digest(request.encode_to_vec()).into()
}

pub(super) fn check_key(key: &str, violations: &mut Violations) {
    violations.length("idempotency_key", key, limits::IDEMPOTENCY_KEY);
    if key.contains('\0') {
        violations.add("idempotency_key", "contains U+0000");
    }
}

pub(super) fn task_of(task: String, payload: &str, violations: &mut Violations) -> String {
    if !task.is_empty() {
        violations.name("task", &task, limits::TASK);
        return task;
    }
    let Some(task) = json::task(payload) else { return String::new() };
    if task.len() > limits::TASK || task.chars().any(char::is_control) {
        violations.add(
            "payload_json",
            format!("its top-level \"task\" is no task of at most {} bytes: give task itself", limits::TASK),
        );
    }
    task
}

/// Builds a retry policy. Missing fields take their default; if only one of `initial` and `max` is given, the default
/// of the other is adjusted to it.
pub(super) fn retry(policy: v1::RetryPolicy, violations: &mut Violations) -> RetryPolicy {
    let default = RetryPolicy::default();
    let initial = policy.initial.map(|it| violations.delay_ms("retry_policy.initial", it));
    let max = policy.max.map(|it| violations.delay_ms("retry_policy.max", it));
    if let (Some(initial), Some(max)) = (initial, max)
        && max < initial
    {
        violations.add("retry_policy.max", format!("is {max} ms, which is below initial, {initial} ms"));
    }
    let initial_ms = initial.unwrap_or(max.map_or(default.initial_ms, |max| max.min(default.initial_ms)));
    RetryPolicy {
        initial_ms,
        factor: policy.factor.map_or(default.factor, |it| violations.number("retry_policy.factor", it, 1.0..=100.0)),
        max_ms: max.unwrap_or(default.max_ms.max(initial_ms)),
        jitter: policy.jitter.map_or(default.jitter, |it| violations.number("retry_policy.jitter", it, 0.0..=1.0)),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use prost_types::{Duration, Timestamp};

    use super::*;
    use crate::queue::error::Error;

    pub(in crate::queue::submit) const RULES: Rules = Rules { payload_bytes: 1_000, now_ms: 1_800_000_000_000 };

    pub(in crate::queue::submit) fn request() -> SubmitJobRequest {
        SubmitJobRequest { worker_id: "w".into(), payload_json: "{}".into(), ..Default::default() }
    }

    fn checked(request: SubmitJobRequest) -> std::result::Result<NewJob, Vec<String>> {
        let mut violations = Violations::default();
        let job = RULES.job(request, &mut violations);
        match violations.finish() {
            Ok(()) => Ok(job),
            Err(Error::Invalid(found)) => Err(found.into_iter().map(|it| it.field).collect()),
            Err(other) => panic!("{other}"),
        }
    }

    #[test]
    fn what_is_not_given_takes_the_default() {
        let job = checked(request()).unwrap();
        assert_eq!((job.max_retries, job.priority, job.start), (3, 5, Start::Now));
        assert!(job.retry.is_none() && job.attempt_timeout_ms.is_none() && job.key.is_none());
        assert_eq!(checked(SubmitJobRequest { max_retries: Some(0), ..request() }).unwrap().max_retries, 0);
    }

    #[test]
    fn each_wrong_field_is_named_and_all_at_once() {
        let second = |seconds| Some(Duration { seconds, nanos: 0 });
        let all = SubmitJobRequest {
            worker_id: "a\tb".into(),
            payload_json: "{".into(),
            idempotency_key: "k".repeat(256),
            max_retries: Some(-1),
            task: "t".repeat(101),
            priority: Some(10),
            run_at: Some(Timestamp { seconds: RULES.now_ms / 1_000 + 366 * 24 * 3_600, nanos: 0 }),
            delay: second(-1),
            retry_policy: Some(v1::RetryPolicy {
                initial: second(-1),
                factor: Some(f64::NAN),
                max: second(i64::MAX),
                jitter: Some(1.5),
            }),
            attempt_timeout: Some(Duration { seconds: 0, nanos: 999_999 }),
        };
        let mut wrong = checked(all).unwrap_err();
        wrong.sort();
        wrong.dedup();
        assert_eq!(
            wrong,
            [
                "attempt_timeout",
                "delay",
                "idempotency_key",
                "max_retries",
                "payload_json",
                "priority",
                "retry_policy.factor",
                "retry_policy.initial",
                "retry_policy.jitter",
                "retry_policy.max",
                "run_at",
                "task",
                "worker_id",
            ]
        );
    }

    #[test]
    fn the_task_comes_from_the_payload_only_when_it_is_not_given() {
        let payload = SubmitJobRequest { payload_json: r#"{"task":"email"}"#.into(), ..request() };
        assert_eq!(checked(payload.clone()).unwrap().task, "email");
        assert_eq!(checked(SubmitJobRequest { task: "sms".into(), ..payload }).unwrap().task, "sms");
        let long = format!(r#"{{"task":"{}"}}"#, "x".repeat(101));
        let long = SubmitJobRequest { payload_json: long, ..request() };
        assert_eq!(checked(long.clone()).unwrap_err(), ["payload_json"]);
        assert!(checked(SubmitJobRequest { task: "sms".into(), ..long }).is_ok());
    }

    #[test]
    fn a_time_that_has_passed_means_now() {
        let at = |seconds| SubmitJobRequest { run_at: Some(Timestamp { seconds, nanos: 0 }), ..request() };
        assert_eq!(checked(at(0)).unwrap().start, Start::Now);
        assert_eq!(checked(at(-62_135_596_800)).unwrap().start, Start::Now);
        let later = RULES.now_ms / 1_000 + 60;
        assert_eq!(checked(at(later)).unwrap().start, Start::At { run_at_ms: later * 1_000 });
    }

    #[test]
    fn the_bound_that_is_not_given_gives_way() {
        let hours = |hours: i64| Some(Duration { seconds: hours * 3_600, nanos: 0 });
        let job = |initial, max| {
            let retry_policy = Some(v1::RetryPolicy { initial, max, ..Default::default() });
            checked(SubmitJobRequest { retry_policy, ..request() }).map(|job| job.retry.unwrap())
        };
        let policy = job(hours(2), None).unwrap();
        assert_eq!((policy.initial_ms, policy.max_ms), (7_200_000, 7_200_000));
        let policy = job(None, hours(0)).unwrap();
        assert_eq!((policy.initial_ms, policy.max_ms), (0, 0));
        assert_eq!(job(hours(2), hours(1)).unwrap_err(), ["retry_policy.max"]);
    }

    #[test]
    fn the_hash_tells_what_was_sent_from_what_was_left_out() {
        let explicit = SubmitJobRequest { max_retries: Some(3), ..request() };
        assert_eq!(request_hash(&request()), request_hash(&request()));
        assert_ne!(request_hash(&request()), request_hash(&explicit));
    }

    proptest! {
        #[test]
        fn whatever_is_accepted_is_within_the_limits(
            worker_id in ".{0,120}", payload_json in r#"(\{"task":".{0,3}"\}|[0-9]|.{0,5})"#, key in ".{0,5}",
            max_retries in proptest::option::of(any::<i32>()), priority in proptest::option::of(-5..15_i32),
            delay in proptest::option::of((any::<i64>(), any::<i32>())),
            run_at in proptest::option::of((any::<i64>(), any::<i32>())),
            timeout in proptest::option::of((-5..5_i64, any::<i32>())),
            factor in proptest::option::of(any::<f64>()), jitter in proptest::option::of(any::<f64>()),
        ) {
            let request = SubmitJobRequest {
                worker_id, payload_json, idempotency_key: key, max_retries, task: String::new(), priority,
                run_at: run_at.map(|(seconds, nanos)| Timestamp { seconds, nanos }),
                delay: delay.map(|(seconds, nanos)| Duration { seconds, nanos }),
                retry_policy: Some(v1::RetryPolicy { initial: None, factor, max: None, jitter }),
                attempt_timeout: timeout.map(|(seconds, nanos)| Duration { seconds, nanos }),
            };
            if let Ok(job) = checked(request.clone()) {
                prop_assert!((1..=limits::WORKER_ID).contains(&job.worker_id.len()));
                prop_assert!(!job.worker_id.contains('\0') && !job.task.contains('\0'));
                prop_assert!(job.priority <= limits::PRIORITY_LOWEST && job.max_retries <= limits::MAX_RETRIES);
                prop_assert_eq!(job.payload, request.payload_json);
                let retry = job.retry.unwrap();
                prop_assert!((1.0..=100.0).contains(&retry.factor) && (0.0..=1.0).contains(&retry.jitter));
                prop_assert!(job.attempt_timeout_ms.is_none_or(|ms| (1..=limits::DELAY_MS).contains(&ms)));
                match job.start {
                    Start::Now => {}
                    Start::After { delay_ms } => prop_assert!((1..=limits::DELAY_MS).contains(&delay_ms)),
                    Start::At { run_at_ms } => {
                        prop_assert!(run_at_ms > RULES.now_ms && run_at_ms <= RULES.now_ms + limits::DELAY_MS);
                    }
                }
            }
        }
    }
}
