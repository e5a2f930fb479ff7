//! Filters of lists and counts, through the API.

use jobqueue_shared::{
    filter::{parse, print},
    proto::v1::{
        CountJobsRequest, JobFilter, ListFailedJobsRequest, ListJobsRequest, PayloadMatch, SubmitJobRequest, TimeRange,
        job::Status, job_filter, settlement,
    },
};
use jobqueue_tests::api::job;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID},
    scenarios,
};

scenarios!(
    a_filter_in_text_lists_and_counts_the_jobs_that_it_describes,
    counts_by_status_tell_pending_jobs_apart,
    a_wrong_filter_is_named_field_by_field,
    a_page_token_belongs_to_the_whole_filter,
    the_client_lists_and_counts_by_a_filter_in_text,
);

async fn ids(deployment: &Deployment, text: &str) -> Vec<String> {
    let filter = Some(parse(text, 0).unwrap());
    let list = ListJobsRequest { filter: filter.clone(), ..ListJobsRequest::default() };
    let page = deployment.api.jobs().list_jobs(list).await.unwrap().into_inner();
    assert_eq!(page.next_page_token, "");
    let request = CountJobsRequest { filter, by_status: false };
    let count = deployment.api.jobs().count_jobs(request).await.unwrap().into_inner();
    assert!(count.at_least || count.count as usize == page.jobs.len(), "{text}: {count:?}");
    page.jobs.into_iter().map(|it| it.id).collect()
}

async fn a_filter_in_text_lists_and_counts_the_jobs_that_it_describes(deployment: &mut Deployment) {
    let email = SubmitJobRequest { task: "email".to_owned(), ..job(WORKER_ID, r#"{"customer": {"id": 42}}"#) };
    let email = deployment.api.submit(email).await;
    let mut worker = ManualWorker::register(&deployment.api).await;
    let lease_id = worker.acquire_one().await.lease_id;
    let error = "SMTP timed out".to_owned();
    let fail = settlement::Fail { error, permanent: true, ..settlement::Fail::default() };
    worker.settle(&lease_id, settlement::Outcome::Fail(fail)).await;
    let report = SubmitJobRequest { task: "report".to_owned(), priority: Some(1), ..job("etl", "{}") };
    let report = deployment.api.submit(report).await;
    for (text, found) in [
        ("task:email", vec![&email]),
        ("task:email,report", vec![&report, &email]),
        ("worker:etl status:pending", vec![&report]),
        ("status:failed,ready", vec![&report, &email]),
        ("status:done", vec![]),
        ("error:\"TIMED out\"", vec![&email]),
        ("reason:permanent attempts:1", vec![&email]),
        ("reason:timed_out", vec![]),
        ("payload.customer.id:42", vec![&email]),
        ("priority:0..3", vec![&report]),
        ("created:2020-01-01..2020-12-31", vec![]),
        ("created:>=2020-01-01", vec![&report, &email]),
        ("finished:>=2020-01-01", vec![&email]),
    ] {
        assert_eq!(ids(deployment, text).await.iter().collect::<Vec<_>>(), found, "{text}");
    }
    assert_eq!(ids(deployment, &email).await, [email.as_str()]);
    let session = deployment.api.get(&email).await.job.unwrap().session_id;
    assert_eq!(ids(deployment, &format!("session:{session}")).await, [email.as_str()]);
    let filter = parse("task:email", 0).unwrap();
    let request = ListFailedJobsRequest { filter: Some(filter.clone()), ..ListFailedJobsRequest::default() };
    let failed = deployment.api.jobs().list_failed_jobs(request).await.unwrap().into_inner().jobs;
    assert_eq!((failed.len(), print(&filter).as_str()), (1, "task:email"));
}

async fn counts_by_status_tell_pending_jobs_apart(deployment: &mut Deployment) {
    for n in 0..5 {
        let delay = (n < 2).then_some(prost_types::Duration { seconds: 3_600, nanos: 0 });
        deployment.api.submit(SubmitJobRequest { delay, ..job(WORKER_ID, "{}") }).await;
    }
    deployment.api.submit(job("other", "{}")).await;
    let worker_ids = vec![WORKER_ID.to_owned()];
    let filter = JobFilter { worker_ids, statuses: vec![job_filter::Status::Ready.into()], ..JobFilter::default() };
    let request = CountJobsRequest { filter: Some(filter), by_status: true };
    let counts = deployment.api.jobs().count_jobs(request).await.unwrap().into_inner();
    assert_eq!((counts.count, counts.at_least, counts.statuses.len()), (3, false, 8));
    let of = |status| counts.statuses.iter().find(|it| it.status() == status).unwrap().count;
    assert_eq!(of(job_filter::Status::Scheduled), 2, "whatever statuses the filter names");
    assert_eq!(of(job_filter::Status::Ready), 3);
    assert_eq!(counts.statuses.iter().map(|it| it.count).sum::<i32>(), 5);
    let all = deployment.api.jobs().count_jobs(CountJobsRequest::default()).await.unwrap().into_inner();
    assert_eq!((all.count, all.at_least, all.statuses.len()), (6, false, 0));
}

fn fields(status: &tonic::Status) -> Vec<String> {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().unwrap();
    details.field_violations.into_iter().map(|it| it.field).collect()
}

async fn a_wrong_filter_is_named_field_by_field(deployment: &mut Deployment) {
    let mut jobs = deployment.api.jobs();
    let wrong = JobFilter {
        tasks: vec![String::new(), "a".into(), "b".into(), "\n".into()],
        statuses: vec![77],
        created: Some(TimeRange::default()),
        ids: vec!["x".to_owned()],
        payload: vec![PayloadMatch::default()],
        ..JobFilter::default()
    };
    let expected =
        ["filter.tasks[3]", "filter.statuses[0]", "filter.created", "filter.ids[0]", "filter.payload[0].path"];
    let list = ListJobsRequest { filter: Some(wrong.clone()), ..ListJobsRequest::default() };
    assert_eq!(fields(&jobs.list_jobs(list).await.unwrap_err()), expected);
    let failed = ListFailedJobsRequest { filter: Some(wrong.clone()), ..ListFailedJobsRequest::default() };
    assert_eq!(fields(&jobs.list_failed_jobs(failed).await.unwrap_err()), expected);
    let count = CountJobsRequest { filter: Some(wrong), by_status: false };
    assert_eq!(fields(&jobs.count_jobs(count).await.unwrap_err()), expected);

    // A condition can be given twice only if it is the same.
    let filter = Some(parse("task:a worker:w status:ready", 0).unwrap());
    let both = ListJobsRequest {
        task: "b".to_owned(),
        worker_id: "v".to_owned(),
        status: Status::Pending.into(),
        filter: filter.clone(),
        ..ListJobsRequest::default()
    };
    assert_eq!(fields(&jobs.list_jobs(both).await.unwrap_err()), ["worker_id", "task", "status"]);
    let same = ListJobsRequest { task: "a".to_owned(), filter: filter.clone(), ..ListJobsRequest::default() };
    jobs.list_jobs(same).await.unwrap();
    let failed = ListFailedJobsRequest { filter, ..ListFailedJobsRequest::default() };
    assert_eq!(fields(&jobs.list_failed_jobs(failed).await.unwrap_err()), ["filter.statuses"]);
}

async fn a_page_token_belongs_to_the_whole_filter(deployment: &mut Deployment) {
    for _ in 0..3 {
        deployment.api.submit(job(WORKER_ID, "{}")).await;
    }
    let mut jobs = deployment.api.jobs();
    let list = |text: &str, page_token: &str| ListJobsRequest {
        page_size: 1,
        page_token: page_token.to_owned(),
        filter: Some(parse(text, 0).unwrap()),
        ..ListJobsRequest::default()
    };
    let token = jobs.list_jobs(list("priority:5", "")).await.unwrap().into_inner().next_page_token;
    assert_ne!(token, "");
    assert_eq!(jobs.list_jobs(list("priority:5", &token)).await.unwrap().into_inner().jobs.len(), 1);
    for other in ["priority:4..5", "priority:5 attempts:0", "priority:5 created:>=2020-01-01", ""] {
        assert_eq!(fields(&jobs.list_jobs(list(other, &token)).await.unwrap_err()), ["page_token"], "{other}");
    }
}

async fn the_client_lists_and_counts_by_a_filter_in_text(deployment: &mut Deployment) {
    for task in ["email", "email", "report"] {
        deployment.api.submit(SubmitJobRequest { task: task.to_owned(), ..job(WORKER_ID, "{}") }).await;
    }
    let client = jobqueue_worker::Client::connect(format!("http://{}", deployment.server.grpc_addr())).unwrap();
    let of = |text: &str| jobqueue_worker::JobFilter::new().worker_id(WORKER_ID).matching(text);
    let listed = client.list(of("task:email age:<1h").unwrap()).await.unwrap().jobs;
    assert_eq!(listed.len(), 2);
    let count = client.count(of("task:report").unwrap().status(Status::Pending)).await.unwrap();
    assert_eq!((count.number, count.at_least), (1, false));
    assert_eq!(client.count(of("").unwrap()).await.unwrap().number, 3);
    assert_eq!(
        of("task:a status:x").unwrap_err().to_string(),
        "the filter: position 15: expected a status: pending, \
        ready, scheduled, retrying, no_handler, running, done, failed, cancelled"
    );
}
