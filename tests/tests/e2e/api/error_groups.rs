//! Error groups over gRPC: failures are grouped, people decide about them, and wrong requests are named.

use jobqueue_shared::proto::v1::{
    ErrorGroup, GetErrorGroupRequest, GetErrorGroupResponse, JobFilter, JobView, ListErrorGroupsRequest,
    ListErrorGroupsResponse, ListJobsRequest, SubmitJobRequest, UpdateErrorGroupRequest,
    error_group::{State, Window},
    job_filter,
    list_error_groups_request::Order,
    settlement::{Fail, Outcome},
};
use jobqueue_tests::{
    api::{Api, job},
    poll::eventually,
};
use prost_types::Timestamp;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID},
    scenarios,
};

scenarios!(
    failures_are_grouped_and_their_jobs_name_the_group,
    a_person_ignores_resolves_and_annotates_a_group,
    a_list_of_groups_has_pages,
    what_is_wrong_with_a_request_about_groups_is_named,
);

async fn list(api: &Api, request: ListErrorGroupsRequest) -> ListErrorGroupsResponse {
    api.errors().list_error_groups(request).await.unwrap().into_inner()
}

async fn get(api: &Api, id: &str) -> GetErrorGroupResponse {
    let request = GetErrorGroupRequest { id: id.to_owned(), window: Window::Hour.into() };
    api.errors().get_error_group(request).await.unwrap().into_inner()
}

async fn update(api: &Api, request: UpdateErrorGroupRequest) -> ErrorGroup {
    api.errors().update_error_group(request).await.unwrap().into_inner().group.unwrap()
}

/// Submits a job, and fails its attempt for good. Returns the job's id.
async fn fail(api: &Api, worker: &mut ManualWorker, error: &str) -> String {
    let id = api.submit(SubmitJobRequest { task: "email".to_owned(), ..job(WORKER_ID, "{}") }).await;
    let leased = worker.acquire_one().await;
    let fail = Fail { error: error.to_owned(), permanent: true, retry_after: None };
    worker.settle(&leased.lease_id, Outcome::Fail(fail)).await;
    id
}

async fn failures_are_grouped_and_their_jobs_name_the_group(deployment: &mut Deployment) {
    let api = deployment.api.clone();
    let mut worker = ManualWorker::register(&api).await;
    assert_eq!(list(&api, ListErrorGroupsRequest::default()).await.groups, []);
    let first = fail(&api, &mut worker, "SMTP 550: no mailbox 'anna' (17 ms)").await;
    let second = fail(&api, &mut worker, "SMTP 550: no mailbox 'berta' (4 ms)").await;
    fail(&api, &mut worker, "SMTP 421: try later").await;
    let found = list(&api, ListErrorGroupsRequest::default()).await;
    assert_eq!((found.groups.len(), found.total, found.next_page_token.as_str()), (2, 2, ""));
    let group = &found.groups[1];
    assert_eq!((group.title.as_str(), group.task.as_str()), ("SMTP 550: no mailbox '…' (# ms)", "email"));
    assert_eq!((group.state(), group.attempts, group.attempts_in_window), (State::Open, 2, 2));
    assert_eq!((group.dead_letters, group.counts.len()), (2, 24));
    assert_eq!(group.worker_ids, [WORKER_ID]);
    let details = get(&api, &group.id).await;
    assert_eq!(details.sample_error, "SMTP 550: no mailbox 'berta' (4 ms)");
    assert_eq!(details.sample_job_id, second);
    assert_eq!((details.died.iter().sum::<i32>(), details.died.len(), details.retrying), (2, 60, 0));
    assert_eq!(details.worker_ids.len(), 1);
    assert_eq!(api.get(&first).await.job.unwrap().error_group, group.id);
    let of_group = JobFilter {
        error_group: group.id.clone(),
        statuses: vec![job_filter::Status::Failed.into()],
        ..Default::default()
    };
    let letters =
        ListJobsRequest { filter: Some(of_group), page_size: 1, view: JobView::Basic.into(), ..Default::default() };
    let page = api.jobs().list_jobs(letters.clone()).await.unwrap().into_inner();
    assert_eq!(
        (page.jobs.len(), page.jobs[0].id.as_str(), page.jobs[0].payload_json.as_str()),
        (1, second.as_str(), "")
    );
    let rest = ListJobsRequest { page_token: page.next_page_token, ..letters };
    let page = api.jobs().list_jobs(rest).await.unwrap().into_inner();
    assert_eq!((page.jobs[0].id.as_str(), page.next_page_token.as_str()), (first.as_str(), ""));
    api.jobs().retry_job(jobqueue_shared::proto::v1::RetryJobRequest { job_id: first.clone() }).await.unwrap();
    assert_eq!(get(&api, &group.id).await.group.unwrap().dead_letters, 1);
    assert_eq!(api.get(&first).await.job.unwrap().error_group, "");
}

async fn a_person_ignores_resolves_and_annotates_a_group(deployment: &mut Deployment) {
    let api = deployment.api.clone();
    let mut worker = ManualWorker::register(&api).await;
    fail(&api, &mut worker, "refused").await;
    let id = list(&api, ListErrorGroupsRequest::default()).await.groups[0].id.clone();
    let change = |state: State| UpdateErrorGroupRequest { id: id.clone(), state: state.into(), ..Default::default() };
    let note = UpdateErrorGroupRequest {
        note: Some("a\0b".to_owned()),
        link: Some("https://example.org/7".to_owned()),
        ..change(State::Unspecified)
    };
    let group = update(&api, note).await;
    assert_eq!(
        (group.note.as_str(), group.link.as_str(), group.state()),
        ("a\u{FFFD}b", "https://example.org/7", State::Open)
    );
    let group = update(&api, UpdateErrorGroupRequest { ignore_attempts: Some(1), ..change(State::Ignored) }).await;
    assert_eq!((group.state(), group.ignored_attempts, group.link.len()), (State::Ignored, Some(1), 21));
    fail(&api, &mut worker, "refused").await;
    assert_eq!(get(&api, &id).await.group.unwrap().state(), State::Open);
    assert_eq!(update(&api, change(State::Resolved)).await.state(), State::Resolved);
    let states = vec![State::Open.into(), State::Regressed.into()];
    let trouble = ListErrorGroupsRequest { states, ..Default::default() };
    assert_eq!(list(&api, trouble.clone()).await.total, 0);
    fail(&api, &mut worker, "refused").await;
    assert_eq!(list(&api, trouble).await.groups[0].state(), State::Regressed);
    // The server folds in the background: what was decided stays.
    eventually("the group's row has all attempts", async || {
        let group = get(&api, &id).await.group.unwrap();
        (group.attempts == 3 && group.state() == State::Regressed && group.link.len() == 21).then_some(())
    })
    .await;
}

async fn a_list_of_groups_has_pages(deployment: &mut Deployment) {
    let api = deployment.api.clone();
    let mut worker = ManualWorker::register(&api).await;
    for kind in ["alpha", "beta", "gamma"] {
        fail(&api, &mut worker, kind).await;
    }
    let mut request = ListErrorGroupsRequest { page_size: 2, order: Order::Attempts.into(), ..Default::default() };
    let first = list(&api, request.clone()).await;
    assert_eq!((first.groups.len(), first.total), (2, 3));
    request.page_token = first.next_page_token;
    let second = list(&api, request.clone()).await;
    assert_eq!((second.groups.len(), second.next_page_token.as_str()), (1, ""));
    let other = ListErrorGroupsRequest { order: Order::DeadLetters.into(), ..request };
    let status = api.errors().list_error_groups(other).await.unwrap_err();
    assert!(status.message().contains("page_token"), "{status:?}");
}

async fn what_is_wrong_with_a_request_about_groups_is_named(deployment: &mut Deployment) {
    let api = deployment.api.clone();
    let mut errors = api.errors();
    let fields = |status: tonic::Status| {
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        let details = status.get_details_bad_request().unwrap();
        details.field_violations.into_iter().map(|it| it.field).collect::<Vec<_>>()
    };
    let wrong = ListErrorGroupsRequest {
        worker_id: "w".repeat(101),
        states: vec![9],
        order: 7,
        window: 8,
        page_size: 201,
        page_token: "?".to_owned(),
    };
    let status = errors.list_error_groups(wrong).await.unwrap_err();
    assert_eq!(fields(status), ["worker_id", "states", "order", "window", "page_size", "page_token"]);
    for id in ["", "x", "0123456789ABCDEF"] {
        let request = GetErrorGroupRequest { id: id.to_owned(), ..Default::default() };
        assert_eq!(fields(errors.get_error_group(request).await.unwrap_err()), ["id"]);
    }
    let wrong = JobFilter { error_group: "x".to_owned(), ..Default::default() };
    let wrong = ListJobsRequest { filter: Some(wrong), ..Default::default() };
    assert_eq!(fields(api.jobs().list_jobs(wrong).await.unwrap_err()), ["filter.error_group"]);
    let unknown = GetErrorGroupRequest { id: "0123456789abcdef".to_owned(), ..Default::default() };
    let status = errors.get_error_group(unknown.clone()).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    assert_eq!(status.get_details_error_info().unwrap().reason, "ERROR_GROUP_NOT_FOUND");
    let wrong = UpdateErrorGroupRequest {
        id: unknown.id.clone(),
        state: State::Regressed.into(),
        ignore_until: Some(Timestamp { seconds: 1, nanos: 0 }),
        ignore_attempts: Some(0),
        note: Some("n".repeat(1_025)),
        link: Some("javascript:alert(1)".to_owned()),
    };
    let status = errors.update_error_group(wrong).await.unwrap_err();
    assert_eq!(fields(status), ["ignore_until", "ignore_attempts", "state", "note", "link"]);
    let fine = UpdateErrorGroupRequest { id: unknown.id, state: State::Open.into(), ..Default::default() };
    assert_eq!(errors.update_error_group(fine).await.unwrap_err().code(), Code::NotFound);
}
