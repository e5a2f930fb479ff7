//! Payloads of the jobs. They determine what a handler does, so every worker acts alike.

use jobqueue_shared::proto::v1::{RetryPolicy, SubmitJobRequest};
use prost_types::{Duration, Timestamp};
use rand::{Rng as _, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::history::Submit;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Work {
    pub task: Task,
    pub nonce: String,
    /// Duration of the handler, in milliseconds.
    pub sleep_ms: u64,
    /// [`Task::Fails`]: number of attempts that fail.
    #[serde(default)]
    pub times: u32,
    /// [`Task::Snoozes`], and [`Task::Fails`] if it is above 0: delay before the next run, in milliseconds.
    #[serde(default)]
    pub delay_ms: u64,
    /// Text of any kind, which has to come back unchanged.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Task {
    Works,
    Fails,
    Panics,
    FailsForGood,
    Snoozes,
    /// Continues when it is told to stop, beyond its attempt's timeout.
    Stubborn,
}

impl Task {
    pub(super) const ALL: [Self; 6] =
        [Self::Works, Self::Fails, Self::Panics, Self::FailsForGood, Self::Snoozes, Self::Stubborn];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Works => "works",
            Self::Fails => "fails",
            Self::Panics => "panics",
            Self::FailsForGood => "fails_for_good",
            Self::Snoozes => "snoozes",
            Self::Stubborn => "stubborn",
        }
    }
}

/// Attempt timeout of [`Task::Stubborn`].
const STUBBORN_TIMEOUT_MS: i64 = 1_000;

/// A submit as the history records it, and as it is sent.
#[derive(Clone, Debug)]
pub(super) struct NewJob {
    pub submit: Submit,
    pub request: SubmitJobRequest,
}

/// Generates a random job with the given nonce.
pub(super) fn new_job(random: &mut StdRng, worker_id: &str, nonce: String, key: String) -> NewJob {
    let task = match random.random_range(0..100) {
        0..72 => Task::Works,
        72..84 => Task::Fails,
        84..88 => Task::Panics,
        88..92 => Task::FailsForGood,
        92..99 => Task::Snoozes,
        _ => Task::Stubborn,
    };
    let sleep_ms = match random.random_range(0..200) {
        _ if task == Task::Stubborn => 2_000,
        0..100 => 0,
        100..197 => random.random_range(1..50),
        _ => random.random_range(1_000..3_000),
    };
    let text = ["", "plain", "quote \" and \\ and \u{1f980}", "<b>markup</b>", "line\nfeed\ttab\u{7f}\u{2028}"];
    let mut work = Work {
        task,
        nonce: nonce.clone(),
        sleep_ms,
        times: random.random_range(1..4),
        delay_ms: 0,
        text: text[random.random_range(0..text.len())].to_owned(),
    };
    if task == Task::Snoozes || random.random_bool(0.3) {
        work.delay_ms = random.random_range(0..800);
    }
    if random.random_bool(0.005) {
        work.text = "x".repeat(random.random_range(10_000..60_000));
    }
    let pretty = random.random_bool(0.1);
    let payload = if pretty { serde_json::to_string_pretty(&work) } else { serde_json::to_string(&work) };
    let (run_at_ms, delay_ms) = match random.random_range(0..100) {
        0..8 => (None, Some(random.random_range(0..5_000))),
        8..12 => (Some(wall_ms() + random.random_range(0..5_000)), None),
        _ => (None, None),
    };
    let submit = Submit {
        worker_id: worker_id.to_owned(),
        nonce,
        key: key.clone(),
        payload: payload.unwrap_or_default(),
        max_retries: random.random_range(0..6),
        run_at_ms,
        delay_ms,
    };
    let retries = RetryPolicy {
        initial: Some(duration(random.random_range(0..500))),
        factor: Some(2.0),
        max: Some(duration(2_000)),
        jitter: None,
    };
    let request = SubmitJobRequest {
        worker_id: submit.worker_id.clone(),
        payload_json: submit.payload.clone(),
        idempotency_key: key,
        max_retries: Some(submit.max_retries),
        task: String::new(),
        priority: random.random_bool(0.2).then(|| random.random_range(0..10)),
        run_at: run_at_ms.map(timestamp),
        delay: delay_ms.map(duration),
        retry_policy: Some(retries),
        attempt_timeout: (task == Task::Stubborn).then(|| duration(STUBBORN_TIMEOUT_MS)),
    };
    NewJob { submit, request }
}

/// Another request with the job's key.
pub(super) fn contradiction(job: &NewJob, nonce: String) -> NewJob {
    let mut other = job.clone();
    let payload = serde_json::json!({ "task": "works", "nonce": nonce, "sleep_ms": 0, "text": "another request" });
    other.submit.nonce = nonce;
    other.submit.payload = payload.to_string();
    other.request.payload_json.clone_from(&other.submit.payload);
    other
}

/// Result of a handler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    Works,
    Fails { delay_ms: Option<u64> },
    Panics,
    FailsForGood,
    Snoozes { delay_ms: u64 },
}

impl Work {
    /// Result of one run. `attempt` counts from 1 within the budget, `run_no` over all hand-overs.
    pub(super) fn end(&self, attempt: i32, run_no: i32) -> End {
        match self.task {
            Task::Fails if attempt <= self.times.cast_signed() => {
                End::Fails { delay_ms: Some(self.delay_ms).filter(|&delay| delay > 0) }
            }
            Task::Panics if attempt == 1 => End::Panics,
            Task::FailsForGood => End::FailsForGood,
            Task::Snoozes if run_no == 1 => End::Snoozes { delay_ms: self.delay_ms },
            Task::Works | Task::Fails | Task::Panics | Task::Snoozes | Task::Stubborn => End::Works,
        }
    }
}

pub(super) fn duration(ms: i64) -> Duration {
    jobqueue_shared::time::duration(ms)
}

fn timestamp(ms: i64) -> Timestamp {
    jobqueue_shared::time::timestamp(ms)
}

fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng as _;

    use super::*;

    #[test]
    fn jobs_follow_from_the_seed_and_are_what_they_say() {
        let make = || {
            let mut random = StdRng::seed_from_u64(7);
            (0..500).map(|n| new_job(&mut random, "faults", n.to_string(), String::new())).collect::<Vec<_>>()
        };
        let (jobs, again) = (make(), make());
        for (job, again) in jobs.iter().zip(&again) {
            assert_eq!(job.submit.payload, again.submit.payload);
            let work: Work = serde_json::from_str(&job.request.payload_json).unwrap();
            assert_eq!(work.nonce, job.submit.nonce);
        }
        let tasks = Task::ALL.map(|task| {
            let work = |it: &&NewJob| serde_json::from_str::<Work>(&it.submit.payload).unwrap().task == task;
            jobs.iter().filter(work).count()
        });
        assert!(tasks.iter().all(|&count| count > 0), "{tasks:?}");
    }

    #[test]
    fn a_contradiction_shares_nothing_but_the_key() {
        let job = new_job(&mut StdRng::seed_from_u64(1), "faults", "a".to_owned(), "k".to_owned());
        let other = contradiction(&job, "b".to_owned());
        assert_eq!((other.submit.key.as_str(), other.request.idempotency_key.as_str()), ("k", "k"));
        assert_ne!(other.submit.payload, job.submit.payload);
        serde_json::from_str::<Work>(&other.submit.payload).unwrap();
    }
}
