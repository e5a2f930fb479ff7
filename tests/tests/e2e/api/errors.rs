//! Errors of requests: the answer names every wrong field, the problem and the limit.

use jobqueue_shared::proto::v1::{
    AcquireJobsRequest, CancelJobRequest, DeleteJobRequest, EndSessionRequest, ExplainJobRequest, GetJobRequest,
    GetThroughputRequest, GetThroughputsRequest, GetTimelineRequest, HeartbeatRequest, ListFailedJobsRequest,
    ListJobsRequest, ListWorkersRequest, PauseWorkerIdRequest, RegisterSessionRequest, ReportProgressRequest,
    ResumeWorkerIdRequest, RetryJobRequest, RetryPolicy, SettleJobsRequest, Settlement, SubmitJobRequest,
    SubmitJobsRequest, job,
};
use jobqueue_tests::api::job as new_job;
use prost_types::{Duration, Timestamp};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID},
    scenarios,
};

scenarios!(
    every_wrong_field_of_a_job_is_named_with_its_limit,
    all_wrong_fields_are_named_at_once,
    one_bad_job_in_a_batch_is_named_and_none_is_stored,
    a_batch_has_a_size,
    a_request_too_large_is_an_invalid_argument,
    ids_that_are_no_uuids_are_named,
    a_job_that_does_not_exist_is_not_found,
    a_state_that_forbids_it_is_named,
    what_is_wrong_with_a_list_is_named,
    what_is_wrong_with_a_worker_is_named,
    what_is_wrong_with_a_pause_is_named,
    nothing_invalid_is_ever_stored,
);

const NOWHERE: &str = "01a20bc1-67cb-7621-9286-30fd25718a8a";
const YEAR_S: i64 = 365 * 24 * 3_600;

/// Wrong fields of an INVALID_ARGUMENT, each with its description.
fn wrong(status: &Status) -> Vec<(String, String)> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().unwrap_or_else(|| panic!("no BadRequest: {status:?}"));
    details.field_violations.into_iter().map(|it| (it.field, it.description)).collect()
}

/// Checks that `field` is the only wrong field and that its description contains `said`.
fn only(status: &Status, field: &str, said: &str) {
    let wrong = wrong(status);
    assert!(wrong.len() == 1 && wrong[0].0 == field && wrong[0].1.contains(said), "not {field} {said:?}: {wrong:?}");
}

#[expect(clippy::unnecessary_wraps, reason = "the messages' fields are optional")]
fn seconds(seconds: i64) -> Option<Duration> {
    Some(Duration { seconds, nanos: 0 })
}

#[expect(clippy::unnecessary_wraps, reason = "the messages' fields are optional")]
fn ahead(seconds: i64) -> Option<Timestamp> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    Some(Timestamp { seconds: now + seconds, nanos: 0 })
}

fn fine() -> SubmitJobRequest {
    new_job(WORKER_ID, "{}")
}

fn policy(policy: RetryPolicy) -> SubmitJobRequest {
    SubmitJobRequest { retry_policy: Some(policy), ..fine() }
}

/// Wrong requests, each with the wrong field and a part of the description that is expected.
fn wrong_jobs() -> Vec<(&'static str, &'static str, SubmitJobRequest)> {
    let payload = |payload: &str| SubmitJobRequest { payload_json: payload.to_owned(), ..fine() };
    let worker_id = |worker_id: &str| SubmitJobRequest { worker_id: worker_id.to_owned(), ..fine() };
    let task = |task: &str| SubmitJobRequest { task: task.to_owned(), ..fine() };
    let key = |key: &str| SubmitJobRequest { idempotency_key: key.to_owned(), ..fine() };
    let max_retries = |n| SubmitJobRequest { max_retries: Some(n), ..fine() };
    let priority = |n| SubmitJobRequest { priority: Some(n), ..fine() };
    let delay = |delay| SubmitJobRequest { delay, ..fine() };
    let timeout = |attempt_timeout| SubmitJobRequest { attempt_timeout, ..fine() };
    let default = RetryPolicy::default;
    vec![
        ("payload_json", "JSON", payload("")),
        ("payload_json", "JSON", payload("{")),
        ("payload_json", "JSON", payload("{'a': 1}")),
        ("payload_json", "JSON", payload("{} {}")),
        ("payload_json", "JSON", payload("\"\0\"")),
        ("payload_json", "262144", payload(&format!("\"{}\"", "x".repeat(256 * 1024)))),
        ("payload_json", "64", payload(&("[".repeat(65) + &"]".repeat(65)))),
        ("worker_id", "1 to 100 bytes", worker_id("")),
        ("worker_id", "100", worker_id(&"w".repeat(101))),
        ("worker_id", "100", worker_id(&"€".repeat(34))),
        ("worker_id", "control", worker_id("a\nb")),
        ("worker_id", "control", worker_id("a\0")),
        ("task", "100", task(&"t".repeat(101))),
        ("task", "control", task("a\u{7f}")),
        ("idempotency_key", "255", key(&"k".repeat(256))),
        ("idempotency_key", "U+0000", key("k\0")),
        ("max_retries", "0 to 100", max_retries(-1)),
        ("max_retries", "0 to 100", max_retries(101)),
        ("max_retries", "0 to 100", max_retries(i32::MIN)),
        ("priority", "0 to 9", priority(-1)),
        ("priority", "0 to 9", priority(10)),
        ("delay", "1 year", delay(seconds(-1))),
        ("delay", "1 year", delay(seconds(YEAR_S + 1))),
        ("delay", "1 year", delay(seconds(i64::MAX))),
        ("delay", "1 year", delay(Some(Duration { seconds: 0, nanos: -1 }))),
        ("delay", "no duration", delay(Some(Duration { seconds: 1, nanos: i32::MAX }))),
        ("delay", "run_at", SubmitJobRequest { run_at: ahead(60), delay: seconds(60), ..fine() }),
        ("run_at", "1 year", SubmitJobRequest { run_at: ahead(YEAR_S + 3_600), ..fine() }),
        ("run_at", "no time", SubmitJobRequest { run_at: Some(Timestamp { seconds: i64::MAX, nanos: -1 }), ..fine() }),
        ("attempt_timeout", "1 ms to 1 year", timeout(seconds(0))),
        ("attempt_timeout", "1 ms to 1 year", timeout(seconds(-5))),
        ("attempt_timeout", "1 ms to 1 year", timeout(seconds(YEAR_S + 1))),
        ("retry_policy.initial", "1 year", policy(RetryPolicy { initial: seconds(-1), ..default() })),
        ("retry_policy.max", "1 year", policy(RetryPolicy { max: seconds(YEAR_S + 1), ..default() })),
        ("retry_policy.max", "initial", policy(RetryPolicy { initial: seconds(9), max: seconds(8), ..default() })),
        ("retry_policy.factor", "1 to 100", policy(RetryPolicy { factor: Some(0.5), ..default() })),
        ("retry_policy.factor", "1 to 100", policy(RetryPolicy { factor: Some(f64::NAN), ..default() })),
        ("retry_policy.factor", "1 to 100", policy(RetryPolicy { factor: Some(f64::INFINITY), ..default() })),
        ("retry_policy.jitter", "0 to 1", policy(RetryPolicy { jitter: Some(1.5), ..default() })),
    ]
}

async fn every_wrong_field_of_a_job_is_named_with_its_limit(deployment: &mut Deployment) {
    for (field, said, request) in wrong_jobs() {
        let status = deployment.api.try_submit(request).await.unwrap_err();
        only(&status, field, said);
        assert!(status.message().contains(field), "people see only the message: {}", status.message());
    }
}

async fn all_wrong_fields_are_named_at_once(deployment: &mut Deployment) {
    let request = SubmitJobRequest {
        worker_id: String::new(),
        payload_json: "{".to_owned(),
        idempotency_key: "k".repeat(256),
        max_retries: Some(-1),
        task: "\n".to_owned(),
        priority: Some(10),
        run_at: ahead(2 * YEAR_S),
        delay: None,
        retry_policy: Some(RetryPolicy { factor: Some(0.0), jitter: Some(2.0), ..RetryPolicy::default() }),
        attempt_timeout: seconds(0),
    };
    let status = deployment.api.try_submit(request).await.unwrap_err();
    let mut fields: Vec<_> = wrong(&status).into_iter().map(|(field, _)| field).collect();
    fields.sort();
    let mut expected = [
        "worker_id",
        "payload_json",
        "idempotency_key",
        "max_retries",
        "task",
        "priority",
        "run_at",
        "retry_policy.factor",
        "retry_policy.jitter",
        "attempt_timeout",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
}

async fn one_bad_job_in_a_batch_is_named_and_none_is_stored(deployment: &mut Deployment) {
    let mut jobs = vec![fine(); 30];
    jobs[17] = new_job(WORKER_ID, "{");
    let status = deployment.api.jobs().submit_jobs(SubmitJobsRequest { jobs }).await.unwrap_err();
    only(&status, "jobs[17].payload_json", "JSON");
    let mut jobs = vec![fine(); 500];
    for job in &mut jobs {
        job.priority = Some(-1);
    }
    let status = deployment.api.jobs().submit_jobs(SubmitJobsRequest { jobs }).await.unwrap_err();
    let wrong = wrong(&status);
    assert_eq!(wrong[0].0, "jobs[0].priority");
    // Details travel in headers, whose size is limited: the fields that are left out are counted.
    assert!(wrong.len() < 100 && wrong.last().unwrap().1.contains("more"), "{wrong:?}");
    assert_eq!(deployment.api.metrics().await.total, 0);
}

async fn a_batch_has_a_size(deployment: &mut Deployment) {
    for count in [0, 501] {
        let jobs = vec![fine(); count];
        let status = deployment.api.jobs().submit_jobs(SubmitJobsRequest { jobs }).await.unwrap_err();
        only(&status, "jobs", "1 to 500");
    }
    assert_eq!(deployment.api.metrics().await.total, 0);
}

async fn a_request_too_large_is_an_invalid_argument(deployment: &mut Deployment) {
    let large = new_job(WORKER_ID, &format!("\"{}\"", "x".repeat(5 * 1024 * 1024)));
    only(&deployment.api.try_submit(large).await.unwrap_err(), "payload_json", "4194304");
    let jobs = vec![new_job(WORKER_ID, &format!("\"{}\"", "x".repeat(250 * 1024))); 20];
    only(&deployment.api.jobs().submit_jobs(SubmitJobsRequest { jobs }).await.unwrap_err(), "jobs", "4194304");
    // The connection can still be used.
    deployment.api.submit(fine()).await;
}

async fn ids_that_are_no_uuids_are_named(deployment: &mut Deployment) {
    let mut jobs = deployment.api.jobs();
    for id in ["", "7", "01a20bc1-67cb-7621-9286-30fd25718a8", "\0", &"x".repeat(10_000)] {
        let job_id = || id.to_owned();
        only(&jobs.get_job(GetJobRequest { job_id: job_id() }).await.unwrap_err(), "job_id", "");
        let reason = String::new();
        only(&jobs.cancel_job(CancelJobRequest { job_id: job_id(), reason }).await.unwrap_err(), "job_id", "");
        only(&jobs.retry_job(RetryJobRequest { job_id: job_id() }).await.unwrap_err(), "job_id", "");
        only(&jobs.delete_job(DeleteJobRequest { job_id: job_id() }).await.unwrap_err(), "job_id", "");
        only(&jobs.get_timeline(GetTimelineRequest { job_id: job_id() }).await.unwrap_err(), "job_id", "");
        only(&jobs.explain_job(ExplainJobRequest { job_id: job_id() }).await.unwrap_err(), "job_id", "");
    }
    let reason = "r".repeat(1_025);
    let request = CancelJobRequest { job_id: NOWHERE.to_owned(), reason };
    only(&jobs.cancel_job(request).await.unwrap_err(), "reason", "1024");
}

async fn a_job_that_does_not_exist_is_not_found(deployment: &mut Deployment) {
    let mut jobs = deployment.api.jobs();
    let job_id = || NOWHERE.to_owned();
    for status in [
        jobs.get_job(GetJobRequest { job_id: job_id() }).await.unwrap_err(),
        jobs.cancel_job(CancelJobRequest { job_id: job_id(), reason: String::new() }).await.unwrap_err(),
        jobs.retry_job(RetryJobRequest { job_id: job_id() }).await.unwrap_err(),
        jobs.delete_job(DeleteJobRequest { job_id: job_id() }).await.unwrap_err(),
        jobs.get_timeline(GetTimelineRequest { job_id: job_id() }).await.unwrap_err(),
        jobs.explain_job(ExplainJobRequest { job_id: job_id() }).await.unwrap_err(),
    ] {
        assert_eq!(status.code(), Code::NotFound);
        assert!(status.message().contains(NOWHERE), "{}", status.message());
        assert_eq!(status.get_details_error_info().unwrap().metadata["job_id"], NOWHERE);
    }
}

async fn a_state_that_forbids_it_is_named(deployment: &mut Deployment) {
    let mut jobs = deployment.api.jobs();
    let refused = |status: &Status, state: &str| {
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert!(status.message().contains(state), "{}", status.message());
        assert_eq!(status.get_details_error_info().unwrap().metadata["state"], state);
    };
    let id = deployment.api.submit(fine()).await;
    let cancel = || CancelJobRequest { job_id: id.clone(), reason: String::new() };
    refused(&jobs.retry_job(RetryJobRequest { job_id: id.clone() }).await.unwrap_err(), "pending");
    refused(&jobs.delete_job(DeleteJobRequest { job_id: id.clone() }).await.unwrap_err(), "pending");
    let mut worker = ManualWorker::register(&deployment.api).await;
    let leased = worker.acquire_one().await;
    refused(&jobs.retry_job(RetryJobRequest { job_id: id.clone() }).await.unwrap_err(), "running");
    refused(&jobs.delete_job(DeleteJobRequest { job_id: id.clone() }).await.unwrap_err(), "running");
    let complete = jobqueue_shared::proto::v1::settlement::Complete::default();
    worker.settle(&leased.lease_id, jobqueue_shared::proto::v1::settlement::Outcome::Complete(complete)).await;
    refused(&jobs.cancel_job(cancel()).await.unwrap_err(), "done");
    refused(&jobs.retry_job(RetryJobRequest { job_id: id.clone() }).await.unwrap_err(), "done");
    assert_eq!(deployment.api.get(&id).await.job.unwrap().status(), job::Status::Done);
}

async fn what_is_wrong_with_a_list_is_named(deployment: &mut Deployment) {
    for n in 0..3 {
        deployment.api.submit(new_job(["a", "b", "a"][n], "{}")).await;
    }
    let mut jobs = deployment.api.jobs();
    let list = || ListJobsRequest::default();
    for (field, said, request) in [
        ("page_size", "0 to 500", ListJobsRequest { page_size: -1, ..list() }),
        ("page_size", "0 to 500", ListJobsRequest { page_size: 501, ..list() }),
        ("page_token", "", ListJobsRequest { page_token: "unknown".to_owned(), ..list() }),
        ("page_token", "", ListJobsRequest { page_token: "x".repeat(100_000), ..list() }),
        ("status", "99", ListJobsRequest { status: 99, ..list() }),
        ("view", "99", ListJobsRequest { view: 99, ..list() }),
        ("worker_id", "100", ListJobsRequest { worker_id: "w".repeat(101), ..list() }),
        ("task", "control", ListJobsRequest { task: "\0".to_owned(), ..list() }),
    ] {
        only(&jobs.list_jobs(request).await.unwrap_err(), field, said);
    }
    let failed = ListFailedJobsRequest { page_size: -7, ..ListFailedJobsRequest::default() };
    only(&jobs.list_failed_jobs(failed).await.unwrap_err(), "page_size", "0 to 500");

    // A page token is valid for the list that it came from, and for no other.
    let page = jobs.list_jobs(ListJobsRequest { page_size: 1, ..list() }).await.unwrap().into_inner();
    let page_token = page.next_page_token;
    for other in [
        ListJobsRequest { worker_id: "a".to_owned(), page_token: page_token.clone(), ..list() },
        ListJobsRequest { status: job::Status::Pending.into(), page_token: page_token.clone(), ..list() },
        ListJobsRequest { task: "t".to_owned(), page_token: page_token.clone(), ..list() },
    ] {
        only(&jobs.list_jobs(other).await.unwrap_err(), "page_token", "another filter");
    }
    jobs.list_jobs(ListJobsRequest { page_token, ..list() }).await.unwrap();
    for minutes in [-1, 1_441] {
        let request = GetThroughputRequest { minutes, ..GetThroughputRequest::default() };
        only(&jobs.get_throughput(request).await.unwrap_err(), "minutes", "1440");
    }
    let request = GetThroughputRequest { step: 61, ..GetThroughputRequest::default() };
    only(&jobs.get_throughput(request).await.unwrap_err(), "step", "0 to 60");
    for (worker_ids, field, said) in [
        (vec![], "worker_ids", "1 to 100"),
        ((0..101).map(|n| n.to_string()).collect(), "worker_ids", "1 to 100"),
        (vec!["a".to_owned(), String::new()], "worker_ids[1]", "empty"),
        (vec!["a".to_owned(), "a".to_owned()], "worker_ids[1]", "twice"),
    ] {
        let request = GetThroughputsRequest { worker_ids, ..GetThroughputsRequest::default() };
        only(&jobs.get_throughputs(request).await.unwrap_err(), field, said);
    }
}

async fn what_is_wrong_with_a_pause_is_named(deployment: &mut Deployment) {
    let mut admin = deployment.api.admin();
    for (worker_id, said) in [("", "1 to 100"), (&*"w".repeat(101), "100"), ("a\nb", "control")] {
        let worker_id = || worker_id.to_owned();
        let pause = PauseWorkerIdRequest { worker_id: worker_id(), reason: String::new() };
        only(&admin.pause_worker_id(pause).await.unwrap_err(), "worker_id", said);
        let resume = ResumeWorkerIdRequest { worker_id: worker_id() };
        only(&admin.resume_worker_id(resume).await.unwrap_err(), "worker_id", said);
    }
    let pause = |reason| PauseWorkerIdRequest { worker_id: WORKER_ID.to_owned(), reason };
    only(&admin.pause_worker_id(pause("r".repeat(1_025))).await.unwrap_err(), "reason", "1024");
    assert!(deployment.api.metrics().await.worker_ids.is_empty());
    // A character that the database cannot store is replaced.
    admin.pause_worker_id(pause("a\0b".to_owned())).await.unwrap();
    assert_eq!(deployment.api.metrics().await.worker_ids[0].pause_reason, "a\u{FFFD}b");
}

async fn what_is_wrong_with_a_worker_is_named(deployment: &mut Deployment) {
    let mut workers = deployment.api.workers();
    let new =
        || RegisterSessionRequest { worker_id: WORKER_ID.to_owned(), slots: 1, ..RegisterSessionRequest::default() };
    let succeeding = |predecessors| RegisterSessionRequest { host: "host-1".to_owned(), predecessors, ..new() };
    let mut registered = async |request| workers.register_session(request).await.unwrap().into_inner().session_id;
    let elsewhere = registered(RegisterSessionRequest { host: "host-2".to_owned(), ..new() }).await;
    let stranger =
        registered(RegisterSessionRequest { worker_id: "another".to_owned(), ..succeeding(Vec::new()) }).await;
    for (field, said, request) in [
        ("worker_id", "1 to 100", RegisterSessionRequest { worker_id: String::new(), ..new() }),
        ("slots", "1 to 10000", RegisterSessionRequest { slots: 0, ..new() }),
        ("slots", "1 to 10000", RegisterSessionRequest { slots: 10_001, ..new() }),
        ("lease_time", "5 s to 12 h", RegisterSessionRequest { lease_time: seconds(4), ..new() }),
        ("lease_time", "5 s to 12 h", RegisterSessionRequest { lease_time: seconds(12 * 3_600 + 1), ..new() }),
        ("host", "255", RegisterSessionRequest { host: "h".repeat(256), ..new() }),
        ("tasks", "1000", RegisterSessionRequest { tasks: vec!["t".to_owned(); 1_001], ..new() }),
        ("tasks[1]", "100", RegisterSessionRequest { tasks: vec!["t".to_owned(), "t".repeat(101)], ..new() }),
        ("predecessors", "100", succeeding(vec![NOWHERE.to_owned(); 101])),
        ("predecessors[1]", "UUID", succeeding(vec![NOWHERE.to_owned(), "x".to_owned()])),
        ("host", "same host", RegisterSessionRequest { host: String::new(), ..succeeding(vec![NOWHERE.to_owned()]) }),
        ("predecessors[1]", "another host", succeeding(vec![NOWHERE.to_owned(), elsewhere])),
        ("predecessors[0]", "another worker_id", succeeding(vec![stranger])),
    ] {
        only(&workers.register_session(request).await.unwrap_err(), field, said);
    }

    let session_id = workers.register_session(new()).await.unwrap().into_inner().session_id;
    let acquire =
        || AcquireJobsRequest { session_id: session_id.clone(), max_jobs: 1, acquire_no: 1, wait: seconds(0) };
    for (field, said, request) in [
        ("session_id", "UUID", AcquireJobsRequest { session_id: "x".to_owned(), ..acquire() }),
        ("max_jobs", "1 to 1000", AcquireJobsRequest { max_jobs: 0, ..acquire() }),
        ("max_jobs", "1 to 1000", AcquireJobsRequest { max_jobs: 1_001, ..acquire() }),
        ("acquire_no", "", AcquireJobsRequest { acquire_no: 0, ..acquire() }),
        ("wait", "", AcquireJobsRequest { wait: seconds(61), ..acquire() }),
        ("wait", "", AcquireJobsRequest { wait: seconds(-1), ..acquire() }),
    ] {
        only(&workers.acquire_jobs(request).await.unwrap_err(), field, said);
    }

    let settle = |settlements| SettleJobsRequest { session_id: session_id.clone(), settlements };
    only(&workers.settle_jobs(settle(vec![])).await.unwrap_err(), "settlements", "1 to 1000");
    let many = vec![Settlement::default(); 1_001];
    only(&workers.settle_jobs(settle(many)).await.unwrap_err(), "settlements", "1 to 1000");

    let progress = ReportProgressRequest { session_id: session_id.clone(), fraction: f64::NAN, ..Default::default() };
    let mut fields: Vec<_> =
        wrong(&workers.report_progress(progress).await.unwrap_err()).into_iter().map(|it| it.0).collect();
    fields.sort();
    assert_eq!(fields, ["fraction", "lease_id"]);

    let no_session = || "x".to_owned();
    let beat = HeartbeatRequest { session_id: no_session(), draining: false };
    only(&workers.heartbeat(beat).await.unwrap_err(), "session_id", "UUID");
    only(&workers.end_session(EndSessionRequest { session_id: no_session() }).await.unwrap_err(), "session_id", "UUID");
    let list = ListWorkersRequest { worker_id: "w".repeat(101), ..ListWorkersRequest::default() };
    only(&deployment.api.admin().list_workers(list).await.unwrap_err(), "worker_id", "100");
}

async fn nothing_invalid_is_ever_stored(deployment: &mut Deployment) {
    for (_, _, request) in wrong_jobs() {
        deployment.api.try_submit(request.clone()).await.unwrap_err();
        deployment.api.jobs().submit_jobs(SubmitJobsRequest { jobs: vec![fine(), request] }).await.unwrap_err();
    }
    assert_eq!(deployment.api.metrics().await.total, 0);
    // Values at the limits are accepted.
    let at_the_limit = SubmitJobRequest {
        worker_id: "w".repeat(100),
        payload_json: "[".repeat(64) + &"]".repeat(64),
        idempotency_key: "k".repeat(255),
        max_retries: Some(100),
        task: "t".repeat(100),
        priority: Some(9),
        run_at: None,
        delay: seconds(YEAR_S),
        retry_policy: Some(RetryPolicy {
            initial: seconds(0),
            factor: Some(100.0),
            max: seconds(YEAR_S),
            jitter: Some(1.0),
        }),
        attempt_timeout: seconds(YEAR_S),
    };
    deployment.api.submit(at_the_limit).await;
    deployment.api.submit(new_job(WORKER_ID, &format!("\"{}\"", "x".repeat(256 * 1024 - 2)))).await;
    assert_eq!(deployment.api.metrics().await.total, 2);
}
