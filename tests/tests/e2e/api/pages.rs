//! Lists and their counts, through the API.

use std::collections::BTreeSet;

use jobqueue_shared::proto::v1::{
    GetThroughputRequest, GetThroughputsRequest, Job, JobView, ListFailedJobsRequest, ListJobsRequest,
    SubmitJobRequest, SubmitJobsRequest, job::Status,
};
use jobqueue_tests::api::job;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID},
    scenarios,
};

scenarios!(
    pages_together_are_the_whole_list,
    a_page_of_large_jobs_ends_in_time,
    a_basic_list_holds_all_but_payloads_and_results_and_is_not_cut_by_them,
    a_page_says_up_to_which_time_its_list_has_been_read,
    the_last_hour_is_told_minute_by_minute,
    several_worker_ids_are_told_in_one_answer,
);

/// Reads every page of a list.
async fn pages(deployment: &Deployment, mut request: ListJobsRequest) -> Vec<Vec<Job>> {
    let mut pages = Vec::new();
    loop {
        let page = deployment.api.jobs().list_jobs(request.clone()).await.unwrap().into_inner();
        pages.push(page.jobs);
        if page.next_page_token.is_empty() {
            return pages;
        }
        request.page_token = page.next_page_token;
    }
}

async fn pages_together_are_the_whole_list(deployment: &mut Deployment) {
    let jobs: Vec<_> = (0..120)
        .map(|n| SubmitJobRequest {
            task: ["email", "report"][n % 2].to_owned(),
            ..job(["a", WORKER_ID][n % 3 / 2], "{}")
        })
        .collect();
    let stored = deployment.api.jobs().submit_jobs(SubmitJobsRequest { jobs }).await.unwrap().into_inner().jobs;
    let ids: Vec<_> = stored.into_iter().map(|it| it.job_id).collect();
    let mut worker = ManualWorker::register(&deployment.api).await;
    for leased in worker.acquire(9).await {
        let fail = jobqueue_shared::proto::v1::settlement::Fail { permanent: true, ..Default::default() };
        worker.settle(&leased.lease_id, jobqueue_shared::proto::v1::settlement::Outcome::Fail(fail)).await;
    }
    let list = |page_size| ListJobsRequest { page_size, ..ListJobsRequest::default() };
    let newest_first: Vec<_> = ids.iter().rev().cloned().collect();
    for page_size in [0, 1, 7, 500] {
        let pages = pages(deployment, list(page_size)).await;
        let size = if page_size == 0 { 50 } else { page_size as usize };
        assert!(pages.iter().all(|page| page.len() <= size));
        assert_eq!(pages.concat().into_iter().map(|it| it.id).collect::<Vec<_>>(), newest_first);
    }
    let of_w = pages(deployment, ListJobsRequest { worker_id: WORKER_ID.to_owned(), ..list(7) }).await.concat();
    assert_eq!(of_w.len(), 40);
    assert!(of_w.iter().all(|it| it.worker_id == WORKER_ID));
    let failed = pages(deployment, ListJobsRequest { status: Status::Failed.into(), ..list(4) }).await.concat();
    let request = ListFailedJobsRequest { worker_id: WORKER_ID.to_owned(), ..ListFailedJobsRequest::default() };
    let dead = deployment.api.jobs().list_failed_jobs(request).await.unwrap().into_inner().jobs;
    assert_eq!(failed, dead);
    assert_eq!(dead.len(), 9);
    assert!(dead.iter().all(|it| it.status() == Status::Failed));
    let reports = pages(deployment, ListJobsRequest { task: "report".to_owned(), ..list(10) }).await.concat();
    assert_eq!(reports.iter().map(|it| &it.id).collect::<BTreeSet<_>>().len(), 60);
}

async fn a_page_of_large_jobs_ends_in_time(deployment: &mut Deployment) {
    let large = format!("\"{}\"", "x".repeat(256 * 1024 - 2));
    for _ in 0..20 {
        deployment.api.submit(job(WORKER_ID, &large)).await;
    }
    // Clients accept at most 4 MiB in one answer.
    let pages = pages(deployment, ListJobsRequest { page_size: 500, ..ListJobsRequest::default() }).await;
    assert!(pages.len() >= 2);
    assert_eq!(pages.concat().len(), 20);
    let mut worker = ManualWorker::register(&deployment.api).await;
    let mut taken = 0;
    while taken < 20 {
        let jobs = worker.acquire(1_000).await;
        assert!(!jobs.is_empty());
        taken += jobs.len();
    }
}

async fn a_basic_list_holds_all_but_payloads_and_results_and_is_not_cut_by_them(deployment: &mut Deployment) {
    let large = format!("\"{}\"", "x".repeat(256 * 1024 - 2));
    for _ in 0..20 {
        deployment.api.submit(job(WORKER_ID, &large)).await;
    }
    let mut worker = ManualWorker::register(&deployment.api).await;
    for (n, leased) in worker.acquire(2).await.into_iter().enumerate() {
        use jobqueue_shared::proto::v1::settlement::{Complete, Fail, Outcome};
        let outcome = match n {
            0 => Outcome::Complete(Complete { result_json: "[1]".to_owned(), ..Complete::default() }),
            _ => Outcome::Fail(Fail { permanent: true, error: "boom".to_owned(), ..Fail::default() }),
        };
        worker.settle(&leased.lease_id, outcome).await;
    }
    let bare = |job: Job| Job { payload_json: String::new(), result_json: String::new(), ..job };
    let basic = ListJobsRequest { page_size: 500, view: JobView::Basic.into(), ..ListJobsRequest::default() };
    let page = deployment.api.jobs().list_jobs(basic.clone()).await.unwrap().into_inner();
    assert_eq!((page.jobs.len(), page.next_page_token.as_str()), (20, ""), "one page");
    let full = pages(deployment, ListJobsRequest { view: JobView::Full.into(), ..basic.clone() }).await.concat();
    assert!(full.iter().all(|job| job.payload_json == large));
    assert_eq!(full.iter().filter(|job| job.result_json == "[1]").count(), 1);
    assert_eq!(page.jobs, full.into_iter().map(bare).collect::<Vec<_>>());
    // The list of dead letters has views, too; and a page token of one view is valid in the other.
    let failed = ListFailedJobsRequest { view: JobView::Basic.into(), ..ListFailedJobsRequest::default() };
    let letters = deployment.api.jobs().list_failed_jobs(failed).await.unwrap().into_inner().jobs;
    assert_eq!((letters.len(), letters[0].last_error.as_str(), letters[0].payload_json.as_str()), (1, "boom", ""));
    let first = deployment.api.jobs().list_jobs(ListJobsRequest { page_size: 3, ..basic }).await.unwrap().into_inner();
    let rest = ListJobsRequest { page_token: first.next_page_token, page_size: 1, ..ListJobsRequest::default() };
    let next = deployment.api.jobs().list_jobs(rest).await.unwrap().into_inner().jobs;
    assert_eq!((next[0].id.as_str(), next[0].payload_json.len()), (page.jobs[3].id.as_str(), large.len()));
}

async fn a_page_says_up_to_which_time_its_list_has_been_read(deployment: &mut Deployment) {
    for _ in 0..5 {
        deployment.api.submit(SubmitJobRequest { task: "email".to_owned(), ..job(WORKER_ID, "{}") }).await;
    }
    let mut worker = ManualWorker::register(&deployment.api).await;
    for leased in worker.acquire(3).await {
        use jobqueue_shared::proto::v1::settlement::{Fail, Outcome};
        worker.settle(&leased.lease_id, Outcome::Fail(Fail { permanent: true, ..Fail::default() })).await;
    }
    let list = |page_size| ListJobsRequest { page_size, ..ListJobsRequest::default() };
    let read = async |request| deployment.api.jobs().list_jobs(request).await.unwrap().into_inner();
    let two = read(list(2)).await;
    assert_eq!(two.read_to, two.jobs[1].created_at);
    assert_eq!(read(list(5)).await.read_to, None, "this was the last page");
    let pending = read(ListJobsRequest { status: Status::Pending.into(), ..list(1) }).await;
    assert_eq!((pending.jobs.len(), pending.read_to), (1, None), "no time orders this list");
    let request = ListFailedJobsRequest { page_size: 2, ..ListFailedJobsRequest::default() };
    let failed = deployment.api.jobs().list_failed_jobs(request).await.unwrap().into_inner();
    assert_eq!(failed.read_to, failed.jobs[1].finished_at);
}

async fn the_last_hour_is_told_minute_by_minute(deployment: &mut Deployment) {
    for _ in 0..3 {
        deployment.api.submit(job(WORKER_ID, "{}")).await;
    }
    let request = GetThroughputRequest { worker_id: WORKER_ID.to_owned(), ..GetThroughputRequest::default() };
    let minutes = deployment.api.jobs().get_throughput(request).await.unwrap().into_inner().minutes;
    assert_eq!(minutes.len(), 60, "those without events included");
    let starts: Vec<_> = minutes.iter().map(|minute| minute.start.unwrap().seconds).collect();
    assert!(starts.windows(2).all(|it| it[1] - it[0] == 60) && starts[0] % 60 == 0);
    assert_eq!(minutes.iter().map(|minute| minute.submitted).sum::<i32>(), 3);
    let request = GetThroughputRequest { worker_id: WORKER_ID.to_owned(), minutes: 1_440, step: 15 };
    let quarters = deployment.api.jobs().get_throughput(request).await.unwrap().into_inner().minutes;
    assert!((96..=97).contains(&quarters.len()), "{}", quarters.len());
    let starts: Vec<_> = quarters.iter().map(|quarter| quarter.start.unwrap().seconds).collect();
    assert!(starts.windows(2).all(|it| it[1] - it[0] == 900) && starts[0] % 900 == 0);
    assert_eq!(quarters.iter().map(|quarter| quarter.submitted).sum::<i32>(), 3);
    let request = GetThroughputRequest { worker_id: "other".to_owned(), minutes: 5, step: 0 };
    let minutes = deployment.api.jobs().get_throughput(request).await.unwrap().into_inner().minutes;
    assert_eq!((minutes.len(), minutes.iter().map(|it| it.submitted).sum::<i32>()), (5, 0));
}

async fn several_worker_ids_are_told_in_one_answer(deployment: &mut Deployment) {
    for worker_id in ["a", "b", "b"] {
        deployment.api.submit(job(worker_id, "{}")).await;
    }
    let worker_ids = ["b", "nobody", "a"].map(str::to_owned).to_vec();
    let request = GetThroughputsRequest { worker_ids: worker_ids.clone(), minutes: 60, step: 5 };
    let answer = deployment.api.jobs().get_throughputs(request).await.unwrap().into_inner();
    assert_eq!((answer.step, answer.start.unwrap().seconds % 300), (5, 0));
    let named: Vec<_> = answer.series.iter().map(|series| series.worker_id.clone()).collect();
    assert_eq!(named, worker_ids, "in the order of the request");
    let submitted: Vec<i32> = answer.series.iter().map(|series| series.submitted.iter().sum()).collect();
    assert_eq!(submitted, [2, 0, 1]);
    for series in &answer.series {
        for values in [&series.submitted, &series.done, &series.failed, &series.retried] {
            assert!((12..=13).contains(&values.len()), "{}", values.len());
        }
    }
}
