//! Requests as command lines for grpcurl, ready to be pasted into a POSIX shell.

use jobqueue_shared::{
    proto::v1::{Job, SubmitJobRequest},
    time::{duration_ms, timestamp_ms},
};
use prost_types::Duration;

use super::{shell_quote::quote, time};

/// Command that submits `request`. `authority` is the server's host:port; `secure` is true when it speaks TLS.
pub fn submit(request: &SubmitJobRequest, authority: &str, secure: bool) -> String {
    let flags = if secure { "" } else { " -plaintext" };
    let body = object(&fields(request));
    format!("grpcurl{flags} -d {} \\\n  {} jobqueue.v1.JobService/SubmitJob", quote(&body), quote(authority))
}

/// Request that submits a job like this one: without its idempotency key, and to run at once.
pub fn request_of(job: &Job) -> SubmitJobRequest {
    SubmitJobRequest {
        worker_id: job.worker_id.clone(),
        payload_json: job.payload_json.clone(),
        max_retries: Some(job.max_retries),
        task: job.task.clone(),
        priority: Some(job.priority),
        retry_policy: job.retry_policy,
        attempt_timeout: job.attempt_timeout,
        ..SubmitJobRequest::default()
    }
}

fn fields(request: &SubmitJobRequest) -> Vec<(&'static str, String)> {
    let mut all = vec![("worker_id", string(&request.worker_id)), ("payload_json", string(&request.payload_json))];
    let mut add = |name, value: Option<String>| all.extend(value.map(|value| (name, value)));
    let text = |text: &str| (!text.is_empty()).then(|| string(text));
    add("task", text(&request.task));
    add("idempotency_key", text(&request.idempotency_key));
    add("max_retries", request.max_retries.map(|n| n.to_string()));
    add("priority", request.priority.map(|n| n.to_string()));
    add("run_at", request.run_at.as_ref().map(|at| string(&time::iso(timestamp_ms(at)))));
    add("delay", request.delay.as_ref().map(duration));
    add("attempt_timeout", request.attempt_timeout.as_ref().map(duration));
    add(
        "retry_policy",
        request.retry_policy.as_ref().map(|policy| {
            let mut inner = vec![];
            inner.extend(policy.initial.as_ref().map(|initial| ("initial", duration(initial))));
            inner.extend(policy.factor.map(|factor| ("factor", factor.to_string())));
            inner.extend(policy.max.as_ref().map(|max| ("max", duration(max))));
            inner.extend(policy.jitter.map(|jitter| ("jitter", jitter.to_string())));
            object(&inner)
        }),
    );
    all
}

fn object(fields: &[(&str, String)]) -> String {
    let inner: Vec<_> = fields.iter().map(|(name, value)| format!("{}: {value}", string(name))).collect();
    format!("{{{}}}", inner.join(", "))
}

fn string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Duration as protobuf's JSON writes it: "1.500s".
fn duration(duration: &Duration) -> String {
    let ms = duration_ms(duration);
    let sign = if ms < 0 { "-" } else { "" };
    let ms = ms.unsigned_abs();
    match ms % 1_000 {
        0 => format!("\"{sign}{}s\"", ms / 1_000),
        rest => format!("\"{sign}{}.{rest:03}s\"", ms / 1_000),
    }
}

#[cfg(test)]
mod tests {
    use jobqueue_shared::{
        proto::v1::RetryPolicy,
        time::{duration as span, timestamp},
    };

    use super::*;

    #[test]
    fn only_what_is_set_is_sent() {
        let request = SubmitJobRequest {
            worker_id: "worker-1a".into(),
            payload_json: r#"{"task":"email"}"#.into(),
            ..SubmitJobRequest::default()
        };
        assert_eq!(
            submit(&request, "127.0.0.1:8080", false),
            "grpcurl -plaintext -d '{\"worker_id\": \"worker-1a\", \"payload_json\": \"{\\\"task\\\":\\\"email\\\"}\"}' \\\n  127.0.0.1:8080 jobqueue.v1.JobService/SubmitJob"
        );
    }

    #[test]
    fn a_job_is_submitted_again_with_its_options_and_without_its_key() {
        let job = Job {
            worker_id: "w".into(),
            payload_json: "1".into(),
            idempotency_key: "mine".into(),
            max_retries: 0,
            run_at: Some(timestamp(0)),
            ..Job::default()
        };
        let text = submit(&request_of(&job), "h:1", true);
        assert!(text.contains(r#""max_retries": 0, "priority": 0"#), "{text}");
        assert!(!text.contains("mine") && !text.contains("run_at"), "{text}");
    }

    #[test]
    fn every_option_has_its_json_form() {
        let request = SubmitJobRequest {
            worker_id: "it's".into(),
            payload_json: "1".into(),
            idempotency_key: "k".into(),
            max_retries: Some(0),
            task: "t".into(),
            priority: Some(9),
            run_at: Some(timestamp(0)),
            delay: Some(span(1_500)),
            retry_policy: Some(RetryPolicy {
                initial: Some(span(5_000)),
                factor: Some(2.5),
                max: None,
                jitter: Some(0.0),
            }),
            attempt_timeout: Some(span(250)),
        };
        let text = submit(&request, "jobs.example:443", true);
        assert!(text.starts_with("grpcurl -d '"), "{text}");
        assert!(text.contains(r"it'\''s"), "{text}");
        let body = text.split_once("-d '").unwrap().1.rsplit_once("' \\").unwrap().0.replace(r"'\''", "'");
        let value: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!(
            value,
            serde_json::json!({
                "worker_id": "it's", "payload_json": "1", "idempotency_key": "k", "max_retries": 0, "task": "t",
                "priority": 9, "run_at": "1970-01-01T00:00:00.000Z", "delay": "1.500s", "attempt_timeout": "0.250s",
                "retry_policy": {"initial": "5s", "factor": 2.5, "jitter": 0},
            })
        );
    }
}
