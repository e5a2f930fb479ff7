//! Changes that a copy of a job has against its original.

use std::time::{Duration, SystemTime};

use jobqueue_shared::proto::v1 as proto;
use serde::Serialize;

use crate::{
    client::{error::Error, retry_policy::RetryPolicy},
    fields,
};

/// Fields of a copy that differ from its original, for [`Client::copy`](crate::Client::copy). What is not set is as in
/// the original.
#[derive(Debug, Default)]
pub struct Changes {
    set: proto::JobChanges,
    idempotency_key: String,
    payload: Option<serde_json::Error>,
}

impl Changes {
    /// No changes: an exact copy.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn worker_id(mut self, worker_id: impl Into<String>) -> Self {
        self.set.worker_id = Some(worker_id.into());
        self
    }

    /// A payload that cannot be written as JSON fails the copy with [`Error::Payload`].
    pub fn payload(mut self, payload: &impl Serialize) -> Self {
        match serde_json::to_string(payload) {
            Ok(json) => self.payload_json(json),
            Err(error) => {
                self.payload = Some(error);
                self
            }
        }
    }

    /// Payload that is JSON already; it is stored byte for byte.
    pub fn payload_json(mut self, payload_json: impl Into<String>) -> Self {
        self.set.payload_json = Some(payload_json.into());
        self
    }

    /// At most 100 bytes. "": the top-level string `task` of the copy's payload.
    pub fn task(mut self, task: impl Into<String>) -> Self {
        self.set.task = Some(task.into());
        self
    }

    /// Priority, 0 to 9; lower runs first.
    pub fn priority(mut self, priority: u8) -> Self {
        self.set.priority = Some(priority.into());
        self
    }

    /// Number of attempts, 0 to 100; 0 means one.
    pub fn max_retries(mut self, attempts: u32) -> Self {
        self.set.max_retries = Some(i32::try_from(attempts).unwrap_or(i32::MAX));
        self
    }

    /// Earliest time to run the copy, at most a year ahead. Replaces [`Changes::delay`].
    pub fn run_at(mut self, time: SystemTime) -> Self {
        self.set.run_at = Some(time.into());
        self.set.delay = None;
        self
    }

    /// Delay before the copy runs, at most a year. Replaces [`Changes::run_at`].
    pub fn delay(mut self, delay: Duration) -> Self {
        self.set.delay = Some(fields::duration(delay));
        self.set.run_at = None;
        self
    }

    /// Replaces the whole policy.
    pub fn retry_policy(mut self, policy: RetryPolicy) -> Self {
        self.set.retry_policy = Some(policy.0);
        self
    }

    /// Time limit of one attempt, 1 ms to a year; zero: no limit.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.set.attempt_timeout = Some(fields::duration(timeout));
        self
    }

    /// Idempotency key of the copy, at most 255 bytes. A copy with the same key and the same changes returns the same
    /// job, until 24 h after that has finished.
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = key.into();
        self
    }

    /// Request for a copy of `job_id`; `true` if an idempotency key was generated for it.
    pub(crate) fn into_request(self, job_id: &str, generate_key: bool) -> Result<(proto::CopyJobRequest, bool), Error> {
        if let Some(error) = self.payload {
            return Err(Error::Payload(error));
        }
        let mut request = proto::CopyJobRequest {
            job_id: job_id.to_owned(),
            changes: Some(self.set),
            idempotency_key: self.idempotency_key,
        };
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
    fn only_what_is_set_is_sent() {
        let (request, own_key) = Changes::new().priority(1).into_request("j", true).unwrap();
        assert!(own_key && request.idempotency_key.starts_with("auto-"));
        assert_eq!(request.changes, Some(proto::JobChanges { priority: Some(1), ..proto::JobChanges::default() }));
        let (request, own_key) = Changes::new().idempotency_key("k").into_request("j", true).unwrap();
        assert_eq!((request.idempotency_key.as_str(), own_key), ("k", false));
    }

    #[test]
    fn a_payload_that_is_no_json_fails_the_copy() {
        let map = std::collections::HashMap::from([((1, 2), 3)]);
        assert!(matches!(Changes::new().payload(&map).into_request("j", true), Err(Error::Payload(_))));
    }
}
