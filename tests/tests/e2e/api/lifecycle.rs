//! Life of a job from submission to its end, with the real worker.

use std::time::SystemTime;

use jobqueue_shared::proto::v1::{
    CancelJobRequest, DeleteJobRequest, GetJobRequest, ListFailedJobsRequest, ListWorkersRequest, RetryJobRequest,
    SubmitJobRequest, SubmitJobsRequest, dead_letter::Reason, job::Status, worker_session,
};
use jobqueue_tests::{api::job, poll::eventually};
use prost_types::Duration;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID, history, parts},
    scenarios,
};

scenarios!(
    a_submitted_job_is_done,
    every_max_retries_ends_with_its_attempts,
    a_job_that_fails_at_first_is_done_in_the_end,
    a_dead_letter_is_retried_and_done_with_its_history_kept,
    a_delayed_job_does_not_run_before_its_time,
    a_better_priority_runs_first,
    what_a_worker_holds_ready_is_given_back_when_it_cannot_run_it,
    a_cancel_reaches_the_running_job,
    a_pending_job_that_is_cancelled_never_runs,
    a_deleted_job_is_gone,
    a_long_poll_wakes_at_once_when_a_job_is_submitted,
    a_batch_is_stored_in_order,
    workers_are_shown_while_they_live_and_afterwards,
    metrics_count_what_happened,
);

async fn a_submitted_job_is_done(deployment: &mut Deployment) {
    let _worker = deployment.simulating();
    let payload = " {\"to\" : \"ada@example.org\", \"subject\": \"\\u0000 € 😀\"}\n";
    let id = deployment.api.submit(SubmitJobRequest { task: "email".to_owned(), ..job(WORKER_ID, payload) }).await;
    let found = deployment.api.until(&id, Status::Done).await;
    assert_eq!(history(&found), [""; 0]);
    let (job, _) = parts(found);
    assert_eq!((job.id, job.worker_id.as_str(), job.task.as_str()), (id, WORKER_ID, "email"));
    assert_eq!((job.payload_json.as_str(), job.last_error.as_str()), (payload, ""));
    assert_eq!((job.attempt_count, job.run_no, job.max_retries, job.priority), (1, 1, 3, 5));
    assert_eq!(job.result_json, r#"{"attempt":1,"simulated":true}"#);
    let times =
        [job.created_at, job.started_at, job.finished_at].map(|time| SystemTime::try_from(time.unwrap()).unwrap());
    assert!(times.is_sorted() && times[2] <= SystemTime::now(), "{times:?}");
}

async fn every_max_retries_ends_with_its_attempts(deployment: &mut Deployment) {
    let _worker = deployment.simulating();
    let mut ids = Vec::new();
    for max_retries in [None, Some(0), Some(1), Some(2), Some(5)] {
        let payload = r#"{"fail": true, "sleep_ms": 0}"#;
        ids.push(deployment.api.submit(SubmitJobRequest { max_retries, ..job(WORKER_ID, payload) }).await);
    }
    for (id, (shown, attempts)) in ids.iter().zip([(3, 3), (0, 1), (1, 1), (2, 2), (5, 5)]) {
        let (job, history) = parts(deployment.api.until(id, Status::Failed).await);
        assert_eq!((job.max_retries, job.attempt_count), (shown, attempts));
        assert_eq!((job.failure_reason(), job.last_error.as_str()), (Reason::AttemptsExhausted, "simulated failure"));
        let runs: Vec<_> = history.iter().map(|attempt| (attempt.run_no, attempt.error.as_str())).collect();
        let expected: Vec<_> = (1..=attempts).rev().map(|run_no| (run_no, "simulated failure")).collect();
        assert_eq!(runs, expected);
    }
    let listed = deployment.api.jobs().list_failed_jobs(ListFailedJobsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.jobs.len(), ids.len());
    assert!(listed.jobs.iter().all(|job| job.status() == Status::Failed && ids.contains(&job.id)));
}

async fn a_job_that_fails_at_first_is_done_in_the_end(deployment: &mut Deployment) {
    let _worker = deployment.simulating();
    let id = deployment.api.submit(job(WORKER_ID, r#"{"fail_times": 2, "sleep_ms": 0}"#)).await;
    let found = deployment.api.until(&id, Status::Done).await;
    assert_eq!(history(&found), ["failed", "failed"]);
    let (job, _) = parts(found);
    assert_eq!((job.attempt_count, job.last_error.as_str()), (3, "simulated failure"));
}

async fn a_dead_letter_is_retried_and_done_with_its_history_kept(deployment: &mut Deployment) {
    let mended = deployment.file("mended");
    let command = format!("email=test -e '{}' || {{ echo broken >&2; exit 1; }}", mended.display());
    let _worker = deployment.worker(&["--exec", &command]);
    let new = SubmitJobRequest { task: "email".to_owned(), max_retries: Some(2), ..job(WORKER_ID, "{}") };
    let id = deployment.api.submit(new).await;
    let (failed, _) = parts(deployment.api.until(&id, Status::Failed).await);
    assert_eq!((failed.attempt_count, failed.last_error.as_str()), (2, "exit status 1: broken"));

    std::fs::write(&mended, "").unwrap();
    let retried = deployment.api.jobs().retry_job(RetryJobRequest { job_id: id.clone() }).await.unwrap().into_inner();
    assert_eq!(retried.job.unwrap().id, id);
    let found = deployment.api.until(&id, Status::Done).await;
    assert_eq!(history(&found), ["failed", "failed", "retried"]);
    let (job, _) = parts(found);
    assert_eq!((job.attempt_count, job.run_no), (1, 3));
    let listed = deployment.api.jobs().list_failed_jobs(ListFailedJobsRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.jobs, []);
}

async fn a_delayed_job_does_not_run_before_its_time(deployment: &mut Deployment) {
    let _worker = deployment.simulating();
    let delay = Some(Duration { seconds: 0, nanos: 700_000_000 });
    let later = deployment.api.submit(SubmitJobRequest { delay, ..job(WORKER_ID, r#"{"sleep_ms": 0}"#) }).await;
    let now = deployment.api.submit(job(WORKER_ID, r#"{"sleep_ms": 0}"#)).await;
    deployment.api.until(&now, Status::Done).await;
    let (job, _) = parts(deployment.api.until(&later, Status::Done).await);
    let time = |time: Option<prost_types::Timestamp>| SystemTime::try_from(time.unwrap()).unwrap();
    assert!(time(job.started_at) >= time(job.run_at));
    assert!(time(job.run_at) > time(job.created_at));
}

/// The worker's pace so far makes it acquire jobs in advance, which then wait behind a long one.
async fn what_a_worker_holds_ready_is_given_back_when_it_cannot_run_it(deployment: &mut Deployment) {
    let _busy = deployment.worker(&["--concurrency", "1", "--simulate"]);
    let submit = async |payload: String| deployment.api.submit(job(WORKER_ID, &payload)).await;
    // The short jobs set a pace that still holds when an answer brings the long job with some of those behind it.
    for _ in 0..300 {
        submit(r#"{"sleep_ms": 0}"#.to_owned()).await;
    }
    let long = submit(r#"{"sleep_ms": 60000}"#.to_owned()).await;
    let mut behind = Vec::new();
    for _ in 0..50 {
        behind.push(submit(r#"{"sleep_ms": 0}"#.to_owned()).await);
    }
    deployment.api.until(&long, Status::Running).await;
    let _other = deployment.worker(&["--concurrency", "1", "--simulate"]);
    for id in &behind {
        let (job, attempts) = parts(deployment.api.until(id, Status::Done).await);
        assert_eq!((job.attempt_count, attempts.len()), (1, job.run_no as usize - 1), "{attempts:?}");
    }
    assert_eq!(deployment.api.get(&long).await.job.unwrap().status(), Status::Running);
}

async fn a_better_priority_runs_first(deployment: &mut Deployment) {
    let order = deployment.file("order");
    let mut ids = Vec::new();
    for priority in [9, 0, 5, 0, 7] {
        let new = SubmitJobRequest { task: "note".to_owned(), priority: Some(priority), ..job(WORKER_ID, "{}") };
        ids.push(deployment.api.submit(new).await);
    }
    let command = format!("note=echo $JOBQUEUE_JOB_ID >> '{}'", order.display());
    let _worker = deployment.worker(&["--concurrency", "1", "--exec", &command]);
    for id in &ids {
        deployment.api.until(id, Status::Done).await;
    }
    let order = std::fs::read_to_string(order).unwrap();
    let expected = [&ids[1], &ids[3], &ids[2], &ids[4], &ids[0]];
    assert_eq!(order.lines().collect::<Vec<_>>(), expected);
}

async fn a_cancel_reaches_the_running_job(deployment: &mut Deployment) {
    let (started, stopped) = (deployment.file("started"), deployment.file("stopped"));
    let command = format!(
        "long=trap 'touch {}; exit 1' TERM; touch {}; while :; do sleep 0.05; done",
        stopped.display(),
        started.display()
    );
    let mut worker = deployment.worker(&["--lease-time", "5s", "--exec", &command]);
    let id = deployment.api.submit(SubmitJobRequest { task: "long".to_owned(), ..job(WORKER_ID, "{}") }).await;
    eventually("the command runs", async || started.exists().then_some(())).await;

    let reason = "wrong address: \"ada\"".to_owned();
    let cancelled = deployment.api.jobs().cancel_job(CancelJobRequest { job_id: id.clone(), reason }).await.unwrap();
    assert_eq!(cancelled.into_inner().job.unwrap().status(), Status::Cancelled);
    eventually("the command is stopped", async || stopped.exists().then_some(())).await;
    let status = worker.terminate().await;
    assert!(status.success(), "{status}");
    let found = deployment.api.get(&id).await;
    assert_eq!(history(&found)[0], "cancelled");
    let (job, _) = parts(found);
    assert_eq!((job.status(), job.note.as_str()), (Status::Cancelled, "wrong address: \"ada\""));
}

async fn a_pending_job_that_is_cancelled_never_runs(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.api.jobs().cancel_job(CancelJobRequest { job_id: id.clone(), reason: String::new() }).await.unwrap();
    let _worker = deployment.simulating();
    let next = deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.api.until(&next, Status::Done).await;
    let (job, attempts) = parts(deployment.api.get(&id).await);
    assert_eq!((job.status(), job.run_no, attempts), (Status::Cancelled, 0, vec![]));
}

async fn a_deleted_job_is_gone(deployment: &mut Deployment) {
    let _worker = deployment.simulating();
    let id = deployment.api.submit(job(WORKER_ID, r#"{"sleep_ms": 0}"#)).await;
    deployment.api.until(&id, Status::Done).await;
    deployment.api.jobs().delete_job(DeleteJobRequest { job_id: id.clone() }).await.unwrap();
    let gone = deployment.api.jobs().get_job(GetJobRequest { job_id: id }).await.unwrap_err();
    assert_eq!(gone.code(), tonic::Code::NotFound);
    assert_eq!(deployment.api.metrics().await.total, 0);
}

async fn a_long_poll_wakes_at_once_when_a_job_is_submitted(deployment: &mut Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    for _ in 0..3 {
        let request = worker.next_acquire(1, 60);
        let mut workers = deployment.api.workers();
        let mut poll = tokio::spawn(async move { workers.acquire_jobs(request).await.unwrap().into_inner().jobs });
        // The call waits: there is no answer within this time.
        let early = tokio::time::timeout(std::time::Duration::from_millis(300), &mut poll).await;
        assert!(early.is_err(), "{early:?}");
        let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
        // The answer comes far sooner than the call's minute, even on a busy machine.
        let jobs = tokio::time::timeout(std::time::Duration::from_secs(10), poll).await.expect("it sleeps on").unwrap();
        assert_eq!(jobs.iter().map(|leased| leased.job.as_ref().unwrap().id.as_str()).collect::<Vec<_>>(), [id]);
    }
}

async fn a_batch_is_stored_in_order(deployment: &mut Deployment) {
    let jobs: Vec<_> = (0..500).map(|n| job(WORKER_ID, &n.to_string())).collect();
    let answer = deployment.api.jobs().submit_jobs(SubmitJobsRequest { jobs }).await.unwrap().into_inner();
    assert_eq!(answer.jobs.len(), 500);
    let ids: Vec<_> = answer.jobs.iter().map(|stored| stored.job_id.clone()).collect();
    assert!(ids.is_sorted());
    for n in [0, 17, 499] {
        let (job, _) = parts(deployment.api.get(&ids[n]).await);
        assert_eq!(job.payload_json, n.to_string());
    }
    let mut worker = ManualWorker::register(&deployment.api).await;
    let leased: Vec<_> = worker.acquire(1_000).await.into_iter().map(|leased| leased.job.unwrap().id).collect();
    assert_eq!(leased, ids);
}

async fn workers_are_shown_while_they_live_and_afterwards(deployment: &mut Deployment) {
    let mut worker =
        deployment.worker(&["--simulate", "--concurrency", "7", "--exec", "email=true", "--lease-time", "6s"]);
    let list = async || {
        let request = ListWorkersRequest { worker_id: WORKER_ID.to_owned(), ..ListWorkersRequest::default() };
        deployment.api.admin().list_workers(request).await.unwrap().into_inner().sessions
    };
    let shown = eventually("the worker is shown", async || list().await.pop()).await;
    assert_eq!((shown.state(), shown.slots, shown.running), (worker_session::State::Live, 7, 0));
    assert_eq!(shown.tasks, ["email", "*"]);
    assert_eq!(shown.lease_time, Some(Duration { seconds: 6, nanos: 0 }));
    assert!(shown.pid > 0 && !shown.host.is_empty() && !shown.version.is_empty());
    assert_eq!(deployment.api.metrics().await.sessions, 1);
    assert!(worker.terminate().await.success());
    let ended = list().await;
    assert_eq!((ended.len(), ended[0].state()), (1, worker_session::State::Ended));
    assert_eq!(deployment.api.metrics().await.sessions, 0);
}

async fn metrics_count_what_happened(deployment: &mut Deployment) {
    let _worker = deployment.simulating();
    let done = deployment.api.submit(job(WORKER_ID, r#"{"sleep_ms": 0}"#)).await;
    let failing = SubmitJobRequest { max_retries: Some(1), ..job(WORKER_ID, r#"{"fail": true, "sleep_ms": 0}"#) };
    let failed = deployment.api.submit(failing).await;
    let delay = Some(Duration { seconds: 3_600, nanos: 0 });
    deployment.api.submit(SubmitJobRequest { delay, ..job(WORKER_ID, "{}") }).await;
    deployment.api.submit(job("nobody", "{}")).await;
    deployment.api.finished(&done).await;
    deployment.api.finished(&failed).await;
    let metrics = deployment.api.metrics().await;
    assert_eq!((metrics.total, metrics.pending, metrics.scheduled, metrics.retrying), (4, 2, 1, 0));
    assert_eq!((metrics.running, metrics.done, metrics.failed, metrics.cancelled), (0, 1, 1, 0));
    assert!(metrics.oldest_runnable_age.is_some());
    let by_worker: Vec<_> =
        metrics.worker_ids.iter().map(|it| (it.worker_id.as_str(), it.total, it.sessions)).collect();
    assert_eq!(by_worker, [("nobody", 1, 0), (WORKER_ID, 3, 1)]);
    assert_eq!(metrics.worker_ids[1].oldest_runnable_age, None, "what is scheduled does not wait");
}
