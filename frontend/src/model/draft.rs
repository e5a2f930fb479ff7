//! Submit form: the typed values, and the request that they make.

use jobqueue_shared::{
    json, limits,
    proto::v1::{Job, RetryPolicy, SubmitJobRequest},
    time::{duration, duration_ms, timestamp},
};
use serde::{Deserialize, Serialize};

use super::{number, span, visible::isolated};

/// Choice of when the job may run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    #[default]
    Now,
    Delay,
    At,
}

/// Values as typed, so that nothing is lost. The field names are those of the API, which the server's errors use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Draft {
    pub worker_id: String,
    pub task: String,
    pub payload_json: String,
    pub idempotency_key: String,
    pub max_retries: String,
    pub priority: String,
    pub when: When,
    pub delay: String,
    pub run_at: String,
    pub initial: String,
    pub factor: String,
    pub max: String,
    pub jitter: String,
    pub attempt_timeout: String,
    /// Whether many jobs are submitted at once; `lines` then holds their payloads.
    pub many: bool,
    pub lines: String,
}

/// Fields of the form by their names in the API, in the order of the page.
pub const FIELDS: [&str; 13] = [
    "worker_id",
    "task",
    "payload_json",
    "idempotency_key",
    "priority",
    "delay",
    "run_at",
    "max_retries",
    "attempt_timeout",
    "retry_policy.initial",
    "retry_policy.factor",
    "retry_policy.max",
    "retry_policy.jitter",
];

/// Name of a field in the API, and the problem with its value.
pub type Complaint = (String, String);

impl Draft {
    /// True if nothing is typed but the worker_id.
    pub fn is_blank(&self) -> bool {
        *self == Self { worker_id: self.worker_id.clone(), many: self.many, ..Self::default() }
    }

    /// Fills the draft with what a job was submitted with, to run at once and without a key.
    pub fn begin_with(&mut self, job: &Job) {
        let time =
            |it: &Option<prost_types::Duration>| it.as_ref().map(|it| span::typed(duration_ms(it))).unwrap_or_default();
        let number = |it: Option<f64>| it.map(|it| it.to_string()).unwrap_or_default();
        let policy = job.retry_policy.unwrap_or_default();
        *self = Self {
            worker_id: job.worker_id.clone(),
            task: job.task.clone(),
            payload_json: job.payload_json.clone(),
            max_retries: job.max_retries.to_string(),
            priority: job.priority.to_string(),
            initial: time(&policy.initial),
            factor: number(policy.factor),
            max: time(&policy.max),
            jitter: number(policy.jitter),
            attempt_timeout: time(&job.attempt_timeout),
            many: self.many,
            lines: std::mem::take(&mut self.lines),
            ..Self::default()
        };
    }

    /// Builds the request, or returns the fields that cannot be sent at all; everything else is checked by the server.
    /// `at_ms` parses a local date and time.
    pub fn request(&self, at_ms: impl Fn(&str) -> Option<i64>) -> Result<SubmitJobRequest, Vec<Complaint>> {
        let mut wrong = vec![];
        let mut time = |field: &str, text: &str| {
            if text.trim().is_empty() {
                return None;
            }
            let ms = span::parse(text);
            if ms.is_none() {
                wrong.push((field.to_owned(), "is no length of time; write it like 30s, 5m or 1h 30m".to_owned()));
            }
            ms.map(duration)
        };
        let attempt_timeout = time("attempt_timeout", &self.attempt_timeout);
        let initial = time("retry_policy.initial", &self.initial);
        let max = time("retry_policy.max", &self.max);
        let delay = if self.when == When::Delay { time("delay", &self.delay) } else { None };
        if self.when == When::Delay && self.delay.trim().is_empty() {
            wrong.push(("delay".into(), "is empty; say how long to wait, or choose now".into()));
        }
        let run_at = if self.when == When::At { at_ms(&self.run_at) } else { None };
        if self.when == When::At && run_at.is_none() {
            wrong.push(("run_at".into(), "is no date and time".into()));
        }
        let max_retries = whole("max_retries", &self.max_retries, &mut wrong);
        let priority = whole("priority", &self.priority, &mut wrong);
        let factor = real("retry_policy.factor", &self.factor, &mut wrong);
        let jitter = real("retry_policy.jitter", &self.jitter, &mut wrong);
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let policy = RetryPolicy { initial, factor, max, jitter };
        Ok(SubmitJobRequest {
            worker_id: self.worker_id.clone(),
            payload_json: self.payload_json.clone(),
            idempotency_key: self.idempotency_key.clone(),
            max_retries,
            task: self.task.clone(),
            priority,
            run_at: run_at.map(timestamp),
            delay,
            retry_policy: (policy != RetryPolicy::default()).then_some(policy),
            attempt_timeout,
        })
    }
}

fn whole(field: &str, text: &str, wrong: &mut Vec<Complaint>) -> Option<i32> {
    number_in(field, text, "is no whole number", wrong)
}

fn real(field: &str, text: &str, wrong: &mut Vec<Complaint>) -> Option<f64> {
    number_in(field, text, "is no number", wrong)
}

fn number_in<T: std::str::FromStr>(field: &str, text: &str, problem: &str, wrong: &mut Vec<Complaint>) -> Option<T> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let number = text.parse().ok();
    if number.is_none() {
        wrong.push((field.to_owned(), problem.to_owned()));
    }
    number
}

/// Result of checking the payload while it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    Empty,
    /// Valid JSON; the text gives its size, and the task that it names.
    Valid(String),
    Wrong(String),
}

/// Checks `payload` against the default limits of a server.
pub fn check(payload: &str) -> Check {
    if payload.trim().is_empty() {
        return Check::Empty;
    }
    match json::check(payload, limits::PAYLOAD_DEFAULT, limits::JSON_DEPTH) {
        Ok(()) => {
            let task = json::task(payload).map_or_else(String::new, |task| format!(", task {}", isolated(&task)));
            Check::Valid(format!("Valid JSON, {}{task}", number::bytes(payload.len())))
        }
        Err(json::JsonError::TooLarge(size, limit)) => Check::Wrong(format!(
            "is {} bytes; the limit is {}",
            number::count(size as i64),
            number::count(limit as i64)
        )),
        Err(error) => Check::Wrong(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<i64> {
        (text == "2026-11-24T14:02").then_some(1_795_528_920_000)
    }

    #[test]
    fn an_empty_option_is_not_sent() {
        let draft = Draft { worker_id: "w".into(), payload_json: "{}".into(), ..Draft::default() };
        let request = draft.request(at).unwrap();
        assert_eq!(
            request,
            SubmitJobRequest { worker_id: "w".into(), payload_json: "{}".into(), ..SubmitJobRequest::default() }
        );
    }

    #[test]
    fn what_cannot_be_sent_is_named_all_at_once() {
        let draft = Draft {
            max_retries: "three".into(),
            priority: "1.5".into(),
            when: When::At,
            run_at: "tomorrow".into(),
            delay: "ignored".into(),
            initial: "soon".into(),
            factor: "two".into(),
            attempt_timeout: "1 fortnight".into(),
            ..Draft::default()
        };
        let mut fields: Vec<_> = draft.request(at).unwrap_err().into_iter().map(|(field, _)| field).collect();
        fields.sort();
        assert_eq!(
            fields,
            ["attempt_timeout", "max_retries", "priority", "retry_policy.factor", "retry_policy.initial", "run_at"]
        );
    }

    #[test]
    fn what_the_server_may_refuse_is_sent() {
        let draft = Draft { max_retries: "-1".into(), priority: "10".into(), jitter: "7".into(), ..Draft::default() };
        let request = draft.request(at).unwrap();
        assert_eq!((request.max_retries, request.priority), (Some(-1), Some(10)));
        assert_eq!(request.retry_policy.unwrap().jitter, Some(7.0));
    }

    #[test]
    fn only_the_chosen_time_is_sent() {
        let draft = Draft { delay: "90s".into(), run_at: "2026-11-24T14:02".into(), ..Draft::default() };
        let of = |when| Draft { when, ..draft.clone() }.request(at).unwrap();
        assert_eq!((of(When::Now).delay, of(When::Now).run_at), (None, None));
        assert_eq!((of(When::Delay).delay, of(When::Delay).run_at), (Some(duration(90_000)), None));
        assert_eq!((of(When::At).delay, of(When::At).run_at), (None, Some(timestamp(1_795_528_920_000))));
    }

    #[test]
    fn a_draft_begins_with_what_a_job_was_submitted_with() {
        let job = Job {
            worker_id: "w".into(),
            task: "t".into(),
            payload_json: "[1.10]".into(),
            idempotency_key: "mine".into(),
            max_retries: 7,
            priority: 2,
            attempt_timeout: Some(duration(45_000)),
            retry_policy: Some(RetryPolicy {
                initial: Some(duration(1_500)),
                factor: Some(2.5),
                max: Some(duration(3_600_000)),
                jitter: Some(0.0),
            }),
            ..Job::default()
        };
        let mut draft = Draft { lines: "1".into(), delay: "1h".into(), ..Draft::default() };
        assert!(!draft.is_blank() && Draft { worker_id: "w".into(), many: true, ..Draft::default() }.is_blank());
        draft.begin_with(&job);
        assert_eq!(draft.lines, "1", "lines are not replaced");
        let request = draft.request(at).unwrap();
        let same = SubmitJobRequest {
            worker_id: "w".into(),
            task: "t".into(),
            payload_json: "[1.10]".into(),
            max_retries: Some(7),
            priority: Some(2),
            attempt_timeout: job.attempt_timeout,
            retry_policy: job.retry_policy,
            ..SubmitJobRequest::default()
        };
        assert_eq!(request, same);
    }

    #[test]
    fn payloads_are_judged_as_the_server_will() {
        assert_eq!(check(" "), Check::Empty);
        assert_eq!(check(r#"{"task":"email"}"#), Check::Valid("Valid JSON, 16 bytes, task email".into()));
        let deep = "[".repeat(65) + &"]".repeat(65);
        assert_eq!(check(&deep), Check::Wrong("nests 65 levels deep; the limit is 64".into()));
        let large = format!("\"{}\"", "x".repeat(limits::PAYLOAD_DEFAULT));
        assert_eq!(check(&large), Check::Wrong("is 262,146 bytes; the limit is 262,144".into()));
        assert!(matches!(check("{"), Check::Wrong(problem) if problem.starts_with("is not JSON")));
    }
}
