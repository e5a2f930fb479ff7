//! Job to be submitted.

use std::time::{Duration, SystemTime};

use jobqueue_shared::proto::v1 as proto;
use serde::Serialize;

use crate::{
    client::{error::Error, retry_policy::RetryPolicy},
    fields,
};

/// Job to submit with [`Client::submit`](crate::Client::submit). Only the `worker_id` and the payload are required; the
/// server checks every field and names each one that is invalid.
#[derive(Debug)]
pub struct NewJob {
    request: proto::SubmitJobRequest,
    payload: Result<(), serde_json::Error>,
}

impl NewJob {
    /// Job for the workers called `worker_id` (1 to 100 bytes). A payload that cannot be written as JSON fails the
    /// submit with [`Error::Payload`].
    pub fn new(worker_id: impl Into<String>, payload: &impl Serialize) -> Self {
        let (payload_json, payload) = match serde_json::to_string(payload) {
            Ok(json) => (json, Ok(())),
            Err(error) => (String::new(), Err(error)),
        };
        Self { payload, ..Self::from_json(worker_id, payload_json) }
    }

    /// Job whose payload is JSON already; it is stored byte for byte.
    pub fn from_json(worker_id: impl Into<String>, payload_json: impl Into<String>) -> Self {
        let request = proto::SubmitJobRequest {
            worker_id: worker_id.into(),
            payload_json: payload_json.into(),
            ..proto::SubmitJobRequest::default()
        };
        Self { request, payload: Ok(()) }
    }

    /// Task: the kind of work, which selects the handler; at most 100 bytes. Default: the payload's top-level string
    /// `task`.
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.request.task = task.into();
        self
    }

    /// Idempotency key, at most 255 bytes. A submit with the same key and the same request returns the same job, until
    /// 24 h after the job has finished.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.request.idempotency_key = key.into();
        self
    }

    /// Number of attempts, 0 to 100; 0 means one. Default: 3.
    pub fn max_retries(mut self, attempts: u32) -> Self {
        self.request.max_retries = Some(i32::try_from(attempts).unwrap_or(i32::MAX));
        self
    }

    /// Priority, 0 to 9; lower runs first. Default: 5.
    pub fn priority(mut self, priority: u8) -> Self {
        self.request.priority = Some(priority.into());
        self
    }

    /// Earliest time to run the job, at most a year ahead. Replaces [`NewJob::delay`].
    pub fn run_at(mut self, time: SystemTime) -> Self {
        self.request.run_at = Some(time.into());
        self.request.delay = None;
        self
    }

    /// Delay before the job runs, counted from when it is stored; at most a year. Replaces [`NewJob::run_at`].
    pub fn delay(mut self, delay: Duration) -> Self {
        self.request.delay = Some(fields::duration(delay));
        self.request.run_at = None;
        self
    }

    /// Growth of the delay between attempts. Default: 5 s, doubled each time, at most 1 h, varied by 20 %.
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.request.retry_policy = Some(policy.0);
        self
    }

    /// Time limit of one attempt, 1 ms to a year. Default: none.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.request.attempt_timeout = Some(fields::duration(timeout));
        self
    }

    /// Request for this job. If the job has no idempotency key and `generate_key` is true, one is generated, and the
    /// second value is true.
    pub(crate) fn into_request(self, generate_key: bool) -> Result<(proto::SubmitJobRequest, bool), Error> {
        self.payload.map_err(Error::Payload)?;
        let mut request = self.request;
        let is_generated = generate_key && request.idempotency_key.is_empty();
        if is_generated {
            request.idempotency_key = fields::generated_key();
        }
        Ok((request, is_generated))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_without_a_key_gets_one_only_when_asked_for() {
        let (request, own) = NewJob::new("w", &1).into_request(true).unwrap();
        assert!(own && request.idempotency_key.starts_with("auto-"));
        let (request, own) = NewJob::new("w", &1).idempotency_key("k").into_request(true).unwrap();
        assert_eq!((request.idempotency_key.as_str(), own), ("k", false));
        let (request, own) = NewJob::new("w", &1).into_request(false).unwrap();
        assert_eq!((request.idempotency_key.as_str(), own), ("", false));
    }

    #[test]
    fn the_later_of_delay_and_run_at_counts() {
        let job = NewJob::new("w", &1).run_at(SystemTime::now()).delay(Duration::from_millis(1_500));
        let (request, _) = job.into_request(false).unwrap();
        assert_eq!((request.run_at, request.delay.unwrap().nanos), (None, 500_000_000));
    }

    #[test]
    fn a_payload_that_is_no_json_fails_the_submit() {
        let map = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(matches!(NewJob::new("w", &map).into_request(true), Err(Error::Payload(_))));
    }
}
