//! Operations: what their calls answer, and what becomes of the jobs.

use jobqueue_shared::proto::v1::{
    GetOperationRequest, HeartbeatRequest, JobFilter, ListFailedJobsRequest, ListOperationsRequest, Operation,
    OperationSpec, PauseOperationRequest, ResumeOperationRequest, Settlement, StartOperationRequest,
    StartOperationResponse, StopOperationRequest, SubmitJobRequest, SubmitJobsRequest, job::Status, job_filter,
    operation::State, operation_spec::Kind, settlement,
};
use jobqueue_shared::time::timestamp_ms;
use jobqueue_tests::{
    api::{Api, job},
    poll::eventually,
};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID},
    scenarios,
};

scenarios!(
    a_dry_run_counts_shows_samples_and_changes_nothing,
    an_operation_retries_what_matches_and_nothing_else,
    a_start_that_is_repeated_starts_nothing_more,
    hand_picked_jobs_are_retried_and_the_others_refused,
    jobs_are_cancelled_deleted_and_changed_by_filter,
    a_canary_that_fails_again_stops_the_operation,
    a_canary_that_works_lets_the_others_follow,
    a_sample_that_fails_again_stops_the_operation,
    a_rate_is_never_exceeded,
    an_operation_is_paused_resumed_and_stopped,
    operations_are_listed_page_by_page,
    what_is_wrong_with_an_operation_is_named,
);

/// Filter of the jobs of one worker_id.
pub(crate) fn of(worker_id: &str) -> JobFilter {
    JobFilter { worker_ids: vec![worker_id.to_owned()], ..JobFilter::default() }
}

pub(crate) fn spec(kind: Kind, filter: JobFilter) -> OperationSpec {
    let reason = "the cause is mended".to_owned();
    OperationSpec { kind: kind.into(), filter: Some(filter), reason, ..OperationSpec::default() }
}

async fn call(api: &Api, request: StartOperationRequest) -> Result<StartOperationResponse, tonic::Status> {
    Ok(api.operations().start_operation(request).await?.into_inner())
}

/// Starts an operation and returns its id.
pub(crate) async fn start(api: &Api, spec: OperationSpec) -> String {
    let request = StartOperationRequest { spec: Some(spec), ..StartOperationRequest::default() };
    call(api, request).await.unwrap().operation.expect("an operation").id
}

pub(crate) async fn operation(api: &Api, id: &str) -> Operation {
    let request = GetOperationRequest { operation_id: id.to_owned() };
    api.operations().get_operation(request).await.unwrap().into_inner().operation.expect("an operation")
}

/// Waits until the operation is in this state, and returns it.
pub(crate) async fn until(api: &Api, id: &str, state: State) -> Operation {
    eventually(&format!("operation {id} is {}", state.as_str_name()), async || {
        let found = operation(api, id).await;
        (found.state() == state).then_some(found)
    })
    .await
}

/// Submits that many jobs and lets each fail for good.
pub(crate) async fn dead_letters(api: &Api, number: usize) {
    submit(api, number).await;
    let mut worker = ManualWorker::register(api).await;
    let mut left = number;
    while left > 0 {
        left -= settle(&mut worker, false).await;
    }
    worker.end().await;
}

async fn submit(api: &Api, number: usize) {
    for batch in (0..number).collect::<Vec<_>>().chunks(500) {
        let jobs = batch.iter().map(|n| job(WORKER_ID, &n.to_string())).collect();
        api.jobs().submit_jobs(SubmitJobsRequest { jobs }).await.unwrap();
    }
}

/// Acquires some jobs, and lets each complete or fail for good; returns their number.
async fn settle(worker: &mut ManualWorker, complete: bool) -> usize {
    let leased = worker.acquire(500).await;
    if leased.is_empty() {
        return 0;
    }
    let outcome = || {
        if complete {
            settlement::Outcome::Complete(settlement::Complete::default())
        } else {
            settlement::Outcome::Fail(settlement::Fail { error: "no".into(), permanent: true, ..Default::default() })
        }
    };
    let settlements =
        leased.iter().map(|it| Settlement { lease_id: it.lease_id.clone(), outcome: Some(outcome()) }).collect();
    worker.settle_all(settlements).await.len()
}

async fn a_dry_run_counts_shows_samples_and_changes_nothing(deployment: &mut Deployment) {
    let api = &deployment.api;
    dead_letters(api, 12).await;
    let other = api.submit(job("other", "{}")).await;
    let run = |filter: JobFilter, kind| async move {
        let spec = OperationSpec { reason: String::new(), ..spec(kind, filter) };
        let request = StartOperationRequest { spec: Some(spec), dry_run: true, request_id: "k".into() };
        let answer = call(api, request).await.unwrap();
        assert_eq!((answer.operation, answer.deduplicated), (None, false));
        answer.dry_run.expect("counts")
    };
    let found = run(of(WORKER_ID), Kind::Retry).await;
    assert_eq!((found.count, found.is_floor, found.samples.len()), (12, false, 10));
    assert!(found.samples.iter().all(|job| job.status() == Status::Failed && job.payload_json.is_empty()));
    let found = run(of("other"), Kind::Cancel).await;
    assert_eq!((found.count, found.samples[0].id.as_str()), (1, other.as_str()));
    assert_eq!(run(of("nobody"), Kind::Delete).await.count, 0);
    // Conditions that the counters do not know are counted job by job.
    let tasks = JobFilter { tasks: vec!["email".into()], ..of(WORKER_ID) };
    assert_eq!(run(tasks, Kind::Retry).await.count, 0);
    let ready = JobFilter { statuses: vec![job_filter::Status::Ready.into()], ..of("other") };
    assert_eq!(run(ready, Kind::Cancel).await.count, 1);
    let scheduled = JobFilter { statuses: vec![job_filter::Status::Scheduled.into()], ..of("other") };
    assert_eq!(run(scheduled, Kind::Cancel).await.count, 0);
    assert!(list(api).await.is_empty(), "nothing is stored");
    let counts = api.metrics().await;
    assert_eq!((counts.failed, counts.pending), (12, 1));
}

async fn list(api: &Api) -> Vec<Operation> {
    api.operations().list_operations(ListOperationsRequest::default()).await.unwrap().into_inner().operations
}

async fn an_operation_retries_what_matches_and_nothing_else(deployment: &mut Deployment) {
    let api = &deployment.api;
    dead_letters(api, 3).await;
    let tasked = api.submit(SubmitJobRequest { task: "email".into(), ..job(WORKER_ID, "{}") }).await;
    let mut worker = ManualWorker::register(api).await;
    settle(&mut worker, false).await;
    // A parked poll is told of retried jobs.
    let request = worker.next_acquire(10, 60);
    let mut workers = api.workers();
    let poll = tokio::spawn(async move { workers.acquire_jobs(request).await.unwrap().into_inner().jobs });
    let filter = JobFilter { tasks: vec!["email".into()], ..of(WORKER_ID) };
    let id = start(api, spec(Kind::Retry, filter)).await;
    let jobs = tokio::time::timeout(std::time::Duration::from_secs(20), poll).await.expect("it sleeps on").unwrap();
    assert_eq!(jobs.iter().map(|it| it.job.as_ref().unwrap().id.as_str()).collect::<Vec<_>>(), [tasked.as_str()]);
    let done = until(api, &id, State::Done).await;
    assert_eq!((done.matched, done.changed, done.refused, done.total), (1, 1, 0, Some(1)));
    assert_eq!((done.caller.as_str(), done.note.as_str()), ("127.0.0.1", ""));
    assert_eq!(done.spec.as_ref().unwrap().reason, "the cause is mended");
    assert!(timestamp_ms(&done.finished_at.unwrap()) >= timestamp_ms(&done.started_at.unwrap()));
    assert_eq!(api.metrics().await.failed, 3);
    let history = api.get(&tasked).await.attempts;
    assert!(history.iter().any(|it| it.error == format!("by operation {id}")), "{history:?}");
    // The empty filter needs a word more.
    let all = JobFilter { statuses: vec![job_filter::Status::Failed.into()], ..JobFilter::default() };
    let id = start(api, OperationSpec { all: true, ..spec(Kind::Retry, all) }).await;
    assert_eq!(until(api, &id, State::Done).await.changed, 3);
}

async fn a_start_that_is_repeated_starts_nothing_more(deployment: &mut Deployment) {
    let api = &deployment.api;
    dead_letters(api, 2).await;
    let request = |reason: &str| StartOperationRequest {
        spec: Some(OperationSpec { reason: reason.into(), ..spec(Kind::Retry, of(WORKER_ID)) }),
        request_id: "a click".into(),
        dry_run: false,
    };
    let (one, two) = tokio::join!(call(api, request("x")), call(api, request("x")));
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_eq!(one.operation.as_ref().unwrap().id, two.operation.as_ref().unwrap().id);
    assert!(one.deduplicated != two.deduplicated, "one of them has started it");
    let other = call(api, request("y")).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists);
    assert_eq!(list(api).await.len(), 1);
}

async fn hand_picked_jobs_are_retried_and_the_others_refused(deployment: &mut Deployment) {
    let api = &deployment.api;
    dead_letters(api, 4).await;
    let failed = api.jobs().list_failed_jobs(ListFailedJobsRequest::default()).await.unwrap().into_inner().jobs;
    let ids: Vec<_> = failed[1..3].iter().map(|job| job.id.clone()).collect();
    let id = start(api, spec(Kind::Retry, JobFilter { ids: ids.clone(), ..JobFilter::default() })).await;
    let done = until(api, &id, State::Done).await;
    assert_eq!((done.changed, done.refused, done.total, done.filter_ids), (2, 0, Some(2), 2));
    for id in &ids {
        assert_eq!(api.get(id).await.job.unwrap().status(), Status::Pending);
    }
    assert_eq!(api.metrics().await.failed, 2);

    // An answer does not repeat thousands of ids, and a page of such operations ends in time.
    let many: Vec<_> = (0..10_000_u128).map(|n| uuid::Uuid::from_u128(n).to_string()).collect();
    let id = start(api, spec(Kind::Retry, JobFilter { ids: many, ..JobFilter::default() })).await;
    let done = until(api, &id, State::Done).await;
    assert_eq!((done.changed, done.filter_ids), (0, 10_000));
    assert_eq!(done.spec.unwrap().filter.unwrap().ids.len(), 100);
}

async fn jobs_are_cancelled_deleted_and_changed_by_filter(deployment: &mut Deployment) {
    let api = &deployment.api;
    let ids = [api.submit(job(WORKER_ID, "1")).await, api.submit(job(WORKER_ID, "2")).await];
    let priority = OperationSpec { priority: Some(1), ..spec(Kind::SetPriority, of(WORKER_ID)) };
    assert_eq!(until(api, &start(api, priority).await, State::Done).await.changed, 2);
    assert_eq!(api.get(&ids[0]).await.job.unwrap().priority, 1);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs() as i64;
    let later = prost_types::Timestamp { seconds: now + 3_600, nanos: 0 };
    let reschedule = OperationSpec { run_at: Some(later), ..spec(Kind::Reschedule, of(WORKER_ID)) };
    assert_eq!(until(api, &start(api, reschedule).await, State::Done).await.changed, 2);
    assert_eq!(api.get(&ids[1]).await.job.unwrap().run_at, Some(later));
    let soon = prost_types::Timestamp { seconds: now - 1, nanos: 0 };
    let reschedule = OperationSpec { run_at: Some(soon), ..spec(Kind::Reschedule, of(WORKER_ID)) };
    until(api, &start(api, reschedule).await, State::Done).await;

    // One runs, one waits; the worker of the first is told.
    let mut worker = ManualWorker::register(api).await;
    worker.acquire_one().await;
    let cancel = start(api, spec(Kind::Cancel, of(WORKER_ID))).await;
    let done = until(api, &cancel, State::Done).await;
    assert_eq!((done.changed, done.refused), (2, 0));
    for id in &ids {
        let job = api.get(id).await.job.unwrap();
        assert_eq!((job.status(), job.note.as_str()), (Status::Cancelled, "the cause is mended"));
    }
    let beat = HeartbeatRequest { session_id: worker.session_id.clone(), ..HeartbeatRequest::default() };
    assert_eq!(api.workers().heartbeat(beat).await.unwrap().into_inner().stop.len(), 1);

    let delete = start(api, spec(Kind::Delete, of(WORKER_ID))).await;
    assert_eq!(until(api, &delete, State::Done).await.changed, 2);
    assert_eq!(api.metrics().await.total, 0);
}

fn with_canary(canary: i32, percent: f64) -> OperationSpec {
    OperationSpec { canary, canary_stop_percent: Some(percent), ..spec(Kind::Retry, of(WORKER_ID)) }
}

async fn a_canary_that_fails_again_stops_the_operation(deployment: &mut Deployment) {
    let api = &deployment.api;
    dead_letters(api, 30).await;
    let id = start(api, with_canary(5, 20.0)).await;
    let waiting = until(api, &id, State::CanaryWaiting).await;
    assert_eq!((waiting.changed, waiting.canary.unwrap().jobs, waiting.canary_passed), (5, 5, false));
    let mut worker = ManualWorker::register(api).await;
    assert_eq!(settle(&mut worker, false).await, 5);
    let stopped = until(api, &id, State::Stopped).await;
    assert!(stopped.note.contains("canary jobs failed again"), "{}", stopped.note);
    assert_eq!((stopped.changed, stopped.canary_passed), (5, false));
    assert_eq!(api.metrics().await.failed, 30);
}

async fn a_canary_that_works_lets_the_others_follow(deployment: &mut Deployment) {
    let api = &deployment.api;
    dead_letters(api, 30).await;
    let id = start(api, with_canary(5, 20.0)).await;
    until(api, &id, State::CanaryWaiting).await;
    let mut worker = ManualWorker::register(api).await;
    assert_eq!(settle(&mut worker, true).await, 5);
    let done = until(api, &id, State::Done).await;
    assert_eq!((done.changed, done.refused, done.canary_passed), (30, 0, true));
    assert_eq!(done.canary.unwrap().succeeded, 5);
    let counts = api.metrics().await;
    assert_eq!((counts.pending, counts.done, counts.failed), (25, 5, 0));
}

async fn a_sample_that_fails_again_stops_the_operation(deployment: &mut Deployment) {
    let api = &deployment.api;
    dead_letters(api, 400).await;
    let id = start(api, OperationSpec { rate: 40, stop_percent: Some(50.0), ..spec(Kind::Retry, of(WORKER_ID)) }).await;
    let mut worker = ManualWorker::register(api).await;
    let stopped = loop {
        settle(&mut worker, false).await;
        let found = operation(api, &id).await;
        if found.state() != State::Running {
            break found;
        }
    };
    assert_eq!(stopped.state(), State::Stopped);
    assert!(stopped.note.contains("of the sample failed again"), "{}", stopped.note);
    assert!(stopped.changed < 400 && stopped.sample.unwrap().failed_again >= 20, "{stopped:?}");
}

async fn a_rate_is_never_exceeded(deployment: &mut Deployment) {
    const RATE: i64 = 50;
    /// Number of jobs in one step at this rate.
    const STEP: i64 = 5;
    let api = &deployment.api;
    dead_letters(api, 100).await;
    let id = start(api, OperationSpec { rate: RATE as i32, ..spec(Kind::Retry, of(WORKER_ID)) }).await;
    eventually("the operation is done", async || {
        let found = operation(api, &id).await;
        // Both times are the database's.
        let ran_ms = timestamp_ms(&found.updated_at.unwrap()) - timestamp_ms(&found.started_at.unwrap());
        let allowed = ran_ms * RATE / 1_000 + STEP;
        assert!(i64::from(found.changed) <= allowed, "{} jobs after {ran_ms} ms", found.changed);
        (found.state() == State::Done).then_some(())
    })
    .await;
}

async fn an_operation_is_paused_resumed_and_stopped(deployment: &mut Deployment) {
    let api = &deployment.api;
    dead_letters(api, 200).await;
    let id = start(api, OperationSpec { rate: 20, ..spec(Kind::Retry, of(WORKER_ID)) }).await;
    eventually("some jobs are retried", async || (operation(api, &id).await.changed > 0).then_some(())).await;
    let pause = || PauseOperationRequest { operation_id: id.clone() };
    let paused = api.operations().pause_operation(pause()).await.unwrap().into_inner().operation.unwrap();
    assert_eq!((paused.state(), paused.note.as_str()), (State::Paused, "paused by a person"));
    api.operations().pause_operation(pause()).await.expect("to pause it again is no error");
    // Another operation beside it is not in its way, and takes what it has not.
    let rest = JobFilter { statuses: vec![job_filter::Status::Failed.into()], ..of(WORKER_ID) };
    let some = api.jobs().list_failed_jobs(ListFailedJobsRequest::default()).await.unwrap().into_inner().jobs;
    let ids = some.iter().take(10).map(|job| job.id.clone()).collect();
    let beside = start(api, spec(Kind::Delete, JobFilter { ids, ..rest })).await;
    assert_eq!(until(api, &beside, State::Done).await.changed, 10);
    assert_eq!(operation(api, &id).await.changed, paused.changed, "it stands still");

    let resume = ResumeOperationRequest { operation_id: id.clone() };
    let resumed = api.operations().resume_operation(resume.clone()).await.unwrap().into_inner().operation.unwrap();
    assert!(matches!(resumed.state(), State::Running | State::CanaryWaiting));
    eventually("it goes on", async || (operation(api, &id).await.changed > paused.changed).then_some(())).await;
    let stop = StopOperationRequest { operation_id: id.clone() };
    let stopped = api.operations().stop_operation(stop.clone()).await.unwrap().into_inner().operation.unwrap();
    assert_eq!((stopped.state(), stopped.note.as_str()), (State::Stopped, "stopped by a person"));
    assert!(stopped.finished_at.is_some() && stopped.changed < 190);
    api.operations().stop_operation(stop).await.expect("to stop it again is no error");
    for refused in [
        api.operations().resume_operation(resume).await.unwrap_err(),
        api.operations().pause_operation(pause()).await.unwrap_err(),
    ] {
        assert_eq!(refused.code(), Code::FailedPrecondition);
        assert!(refused.message().contains("is stopped"), "{refused:?}");
    }
    let counts = api.metrics().await;
    assert_eq!((counts.pending, counts.failed), (stopped.changed, 190 - stopped.changed));
}

async fn operations_are_listed_page_by_page(deployment: &mut Deployment) {
    let api = &deployment.api;
    let mut ids = Vec::new();
    for _ in 0..5 {
        ids.insert(0, start(api, spec(Kind::Retry, of("nobody"))).await);
    }
    let (mut listed, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = ListOperationsRequest { page_size: 2, page_token };
        let page = api.operations().list_operations(request).await.unwrap().into_inner();
        assert!(page.operations.len() <= 2);
        listed.extend(page.operations.into_iter().map(|it| it.id));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, ids);
}

async fn what_is_wrong_with_an_operation_is_named(deployment: &mut Deployment) {
    let api = &deployment.api;
    let wrong = |spec: OperationSpec, request_id: String| async move {
        let request = StartOperationRequest { spec: Some(spec), request_id, dry_run: false };
        let status = call(api, request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        let details = status.get_details_bad_request().unwrap().field_violations;
        details.into_iter().map(|it| (it.field, it.description)).collect::<Vec<_>>()
    };
    let found = wrong(OperationSpec::default(), "x".repeat(256)).await;
    let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["request_id", "spec.kind", "spec.all", "spec.reason"]);
    let many = JobFilter { ids: vec![String::new(); 10_001], ..JobFilter::default() };
    let found = wrong(spec(Kind::Retry, many), String::new()).await;
    assert!(found[0].0 == "spec.filter.ids" && found[0].1.contains("10000"), "{found:?}");
    let nowhere = "01a20bc1-67cb-7621-9286-30fd25718a8a".to_owned();
    for (operation_id, code) in [(nowhere, Code::NotFound), ("x".to_owned(), Code::InvalidArgument)] {
        let get = GetOperationRequest { operation_id: operation_id.clone() };
        assert_eq!(api.operations().get_operation(get).await.unwrap_err().code(), code);
        let stop = StopOperationRequest { operation_id };
        assert_eq!(api.operations().stop_operation(stop).await.unwrap_err().code(), code);
    }
    let list = ListOperationsRequest { page_size: 201, page_token: "x".into() };
    let status = api.operations().list_operations(list).await.unwrap_err();
    assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), 2);
}
