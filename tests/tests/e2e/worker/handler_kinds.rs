//! Handlers of the worker's command line, of each kind, and tasks without a handler.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use axum::{
    Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::post,
};
use jobqueue_shared::proto::v1::{SubmitJobRequest, dead_letter::Reason, job::Status};
use jobqueue_tests::{api::job, poll::eventually};

use crate::{
    deployment::{Deployment, WORKER_ID, history, parts},
    scenarios,
};

scenarios!(
    a_command_gets_the_payload_and_the_facts_and_gives_the_result,
    a_command_that_fails_is_retried_with_the_end_of_what_it_said,
    a_command_can_say_that_trying_again_is_useless,
    an_endpoint_gets_the_payload_and_gives_the_result,
    an_endpoint_that_is_busy_is_asked_again,
    an_endpoint_can_say_that_trying_again_is_useless,
    an_endpoint_that_does_not_answer_is_asked_again,
    a_panic_is_an_error_like_any_other,
    a_result_too_large_does_not_undo_the_work,
    an_unknown_task_waits_for_a_worker_that_knows_it,
    the_task_may_be_in_the_payload,
);

fn task(name: &str, payload_json: &str) -> SubmitJobRequest {
    SubmitJobRequest { task: name.to_owned(), ..job(WORKER_ID, payload_json) }
}

async fn a_command_gets_the_payload_and_the_facts_and_gives_the_result(deployment: &mut Deployment) {
    let facts = r#"facts=printf '"%s %s %s %s %s"' $JOBQUEUE_TASK $JOBQUEUE_WORKER_ID $JOBQUEUE_ATTEMPT $JOBQUEUE_MAX_RETRIES $JOBQUEUE_PRIORITY"#;
    let _worker =
        deployment.worker(&["--exec", "echo=cat", "--exec", facts, "--exec", "text=echo sent to ada; echo done"]);
    let payload = " {\"a\" : [1, 2.50, 1e400], \"b\": \"'$HOME' `id` € \\u0000\"}";
    let echo = deployment.api.submit(task("echo", payload)).await;
    let facts = deployment
        .api
        .submit(SubmitJobRequest { priority: Some(2), max_retries: Some(4), ..task("facts", "{}") })
        .await;
    let text = deployment.api.submit(task("text", "{}")).await;
    let (job, _) = parts(deployment.api.until(&echo, Status::Done).await);
    assert_eq!((job.payload_json.as_str(), job.result_json.trim()), (payload, payload.trim()));
    let (job, _) = parts(deployment.api.until(&facts, Status::Done).await);
    assert_eq!(job.result_json, "\"facts worker-1a 1 4 2\"");
    let (job, _) = parts(deployment.api.until(&text, Status::Done).await);
    assert!(job.result_json.starts_with("\"sent to ada\\ndone"), "a text becomes a string: {}", job.result_json);
}

async fn a_command_that_fails_is_retried_with_the_end_of_what_it_said(deployment: &mut Deployment) {
    // 75 is EX_TEMPFAIL of sysexits.h.
    let _worker = deployment.worker(&[
        "--exec",
        "tempfail=seq 1 20000 >&2; echo no route to host >&2; exit 75",
        "--exec",
        "flaky=test $JOBQUEUE_ATTEMPT = 2 || exit 1",
    ]);
    let failing = deployment.api.submit(SubmitJobRequest { max_retries: Some(2), ..task("tempfail", "{}") }).await;
    let flaky = deployment.api.submit(task("flaky", "{}")).await;
    let (job, attempts) = parts(deployment.api.until(&failing, Status::Failed).await);
    assert_eq!((job.attempt_count, job.failure_reason()), (2, Reason::AttemptsExhausted));
    assert!(job.last_error.contains("no route to host"), "{}", job.last_error);
    assert!(job.last_error.len() <= 8 * 1024);
    assert_eq!(attempts.len(), 2);
    let found = deployment.api.until(&flaky, Status::Done).await;
    assert_eq!(history(&found), ["failed"]);
}

async fn a_command_can_say_that_trying_again_is_useless(deployment: &mut Deployment) {
    // 65 is EX_DATAERR of sysexits.h.
    let _worker = deployment.worker(&["--exec", "email=echo no such user >&2; exit 65"]);
    let id = deployment.api.submit(SubmitJobRequest { max_retries: Some(5), ..task("email", "{}") }).await;
    let (job, _) = parts(deployment.api.until(&id, Status::Failed).await);
    assert_eq!((job.attempt_count, job.failure_reason()), (1, Reason::Permanent));
    assert!(job.last_error.contains("no such user"), "{}", job.last_error);
}

/// Endpoint that answers with the statuses in its path, and records the requests.
#[derive(Clone, Default)]
struct Service {
    calls: Arc<AtomicU32>,
    seen: Arc<Mutex<Vec<(HeaderMap, String)>>>,
}

impl Service {
    async fn start() -> (SocketAddr, Self) {
        let service = Self::default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = Router::new().route("/{first}/{later}", post(answer)).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        (addr, service)
    }
}

async fn answer(
    State(service): State<Service>,
    Path((first, later)): Path<(u16, u16)>,
    headers: HeaderMap,
    body: String,
) -> Response {
    service.seen.lock().unwrap().push((headers, body));
    let status = if service.calls.fetch_add(1, Ordering::Relaxed) == 0 { first } else { later };
    let status = StatusCode::from_u16(status).unwrap();
    // The delay is short enough for a test, and differs from the job's own policy.
    let again = [(header::RETRY_AFTER, "0")];
    (status, again, r#"{"id": "<1@example.org>"}"#).into_response()
}

async fn an_endpoint_gets_the_payload_and_gives_the_result(deployment: &mut Deployment) {
    let (addr, service) = Service::start().await;
    let _worker = deployment.worker(&["--http", &format!("email=http://{addr}/201/201")]);
    let payload = " {\"to\": \"ада@example.org\"}";
    let id = deployment.api.submit(task("email", payload)).await;
    let (job, _) = parts(deployment.api.until(&id, Status::Done).await);
    assert_eq!(job.result_json, r#"{"id": "<1@example.org>"}"#);
    let seen = service.seen.lock().unwrap();
    let [(headers, body)] = &seen[..] else { panic!("{seen:?}") };
    let header = |name: &str| headers[name].to_str().unwrap();
    assert_eq!((body.as_str(), header("content-type")), (payload, "application/json"));
    assert_eq!((header("idempotency-key"), header("jobqueue-attempt")), (id.as_str(), "1"));
}

async fn an_endpoint_that_is_busy_is_asked_again(deployment: &mut Deployment) {
    let mut args = Vec::new();
    let busy = [408, 425, 429, 500, 503];
    for status in busy {
        let (addr, _) = Service::start().await;
        args.extend(["--http".to_owned(), format!("{status}=http://{addr}/{status}/200")]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let _worker = deployment.worker(&args);
    for status in busy {
        let id = deployment.api.submit(task(&status.to_string(), "{}")).await;
        let found = deployment.api.until(&id, Status::Done).await;
        assert_eq!(history(&found), ["failed"]);
        assert!(found.attempts[0].error.contains(&status.to_string()), "{}", found.attempts[0].error);
    }
}

async fn an_endpoint_can_say_that_trying_again_is_useless(deployment: &mut Deployment) {
    let (addr, service) = Service::start().await;
    let _worker = deployment.worker(&["--http", &format!("email=http://{addr}/404/404")]);
    let id = deployment.api.submit(task("email", "{}")).await;
    let (job, _) = parts(deployment.api.until(&id, Status::Failed).await);
    assert_eq!((job.failure_reason(), job.attempt_count), (Reason::Permanent, 1));
    assert!(job.last_error.contains("404"), "{}", job.last_error);
    assert_eq!(service.calls.load(Ordering::Relaxed), 1);
}

async fn an_endpoint_that_does_not_answer_is_asked_again(deployment: &mut Deployment) {
    // No server listens there: the port was free a moment ago and is held, without a listener, until the end.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let url = format!("email=http://{}/", held.local_addr().unwrap());
    let _worker = deployment.worker(&["--http", &url]);
    let id = deployment.api.submit(SubmitJobRequest { max_retries: Some(2), ..task("email", "{}") }).await;
    let found = deployment.api.until(&id, Status::Failed).await;
    assert_eq!(history(&found), ["failed", "failed"]);
    assert_eq!(found.job.unwrap().failure_reason(), Reason::AttemptsExhausted);
}

async fn a_panic_is_an_error_like_any_other(deployment: &mut Deployment) {
    let _worker = deployment.simulating();
    let panics = SubmitJobRequest { max_retries: Some(2), ..job(WORKER_ID, r#"{"panic": true, "sleep_ms": 0}"#) };
    let panics = deployment.api.submit(panics).await;
    let (found, _) = parts(deployment.api.until(&panics, Status::Failed).await);
    assert!(found.last_error.contains("simulated panic"), "{}", found.last_error);
    // The worker goes on.
    let next = deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.api.until(&next, Status::Done).await;
}

async fn a_result_too_large_does_not_undo_the_work(deployment: &mut Deployment) {
    let _worker =
        deployment.worker(&["--exec", "large=printf '\"'; head -c 70000 /dev/zero | tr '\\0' x; printf '\"'"]);
    let id = deployment.api.submit(task("large", "{}")).await;
    let (job, attempts) = parts(deployment.api.until(&id, Status::Done).await);
    assert_eq!((job.result_json.as_str(), attempts.len(), job.attempt_count), ("", 0, 1));
    assert!(job.note.contains("dropped"), "{}", job.note);
}

async fn an_unknown_task_waits_for_a_worker_that_knows_it(deployment: &mut Deployment) {
    let _other = deployment.worker(&["--exec", "report=true"]);
    let id = deployment.api.submit(task("email", "{}")).await;
    let waiting = eventually("the job is given back", async || {
        let found = deployment.api.get(&id).await;
        found.job.as_ref().unwrap().waits_for_handler.then_some(found)
    })
    .await;
    assert_eq!(history(&waiting), ["no_handler"]);
    let job = waiting.job.unwrap();
    assert_eq!((job.status(), job.attempt_count), (Status::Pending, 0));
    // Jobs with a known task are done meanwhile.
    let known = deployment.api.submit(task("report", "{}")).await;
    deployment.api.until(&known, Status::Done).await;

    let _knows = deployment.worker(&["--exec", "email=true"]);
    let (job, _) = parts(deployment.api.until(&id, Status::Done).await);
    assert_eq!((job.attempt_count, job.waits_for_handler), (1, false));
}

async fn the_task_may_be_in_the_payload(deployment: &mut Deployment) {
    let _worker = deployment.worker(&["--exec", "email=printf '\"from the payload\"'"]);
    let id = deployment.api.submit(job(WORKER_ID, r#"{"task": "email"}"#)).await;
    let (job, _) = parts(deployment.api.until(&id, Status::Done).await);
    assert_eq!((job.task.as_str(), job.result_json.as_str()), ("email", "\"from the payload\""));
}
