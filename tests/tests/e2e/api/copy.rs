//! `CopyJob`: a new job out of an old one, with changes, stored once for each key.

use jobqueue_shared::proto::v1::{
    CopyJobRequest, CopyJobResponse, DeleteJobRequest, GetJobResponse, JobChanges, RetryPolicy, SubmitJobRequest,
    job::Status,
};
use jobqueue_tests::api::job;
use prost_types::Duration;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    deployment::{Deployment, WORKER_ID, parts},
    scenarios,
};

scenarios!(
    a_copy_runs_and_its_original_stays_as_it_was,
    every_change_is_stored,
    a_repeated_call_returns_the_first_copy,
    a_job_names_its_origin_and_its_newest_copies,
    what_is_wrong_with_a_copy_is_named,
);

async fn copy(deployment: &Deployment, request: CopyJobRequest) -> Result<CopyJobResponse, tonic::Status> {
    Ok(deployment.api.jobs().copy_job(request).await?.into_inner())
}

fn of(job_id: &str) -> CopyJobRequest {
    CopyJobRequest { job_id: job_id.to_owned(), ..CopyJobRequest::default() }
}

async fn a_copy_runs_and_its_original_stays_as_it_was(deployment: &mut Deployment) {
    let _worker = deployment.simulating();
    let new = SubmitJobRequest {
        task: "email".into(),
        max_retries: Some(1),
        idempotency_key: "mine".into(),
        ..job(WORKER_ID, r#"{"fail": true, "sleep_ms": 0}"#)
    };
    let id = deployment.api.submit(new).await;
    let failed = deployment.api.until(&id, Status::Failed).await;
    let changes = JobChanges { payload_json: Some(r#"{"sleep_ms": 0}"#.into()), ..JobChanges::default() };
    let answer = copy(deployment, CopyJobRequest { changes: Some(changes), ..of(&id) }).await.unwrap();
    assert!(answer.job_id != id && !answer.deduplicated);
    let (done, attempts) = parts(deployment.api.until(&answer.job_id, Status::Done).await);
    assert_eq!((done.payload_json.as_str(), done.task.as_str()), (r#"{"sleep_ms": 0}"#, "email"));
    assert_eq!((done.origin.as_str(), done.idempotency_key.as_str(), done.max_retries), (id.as_str(), "", 1));
    assert_eq!((done.attempt_count, attempts.len()), (1, 0), "no attempt was copied");
    let GetJobResponse { job: original, attempts, copies, .. } = deployment.api.get(&id).await;
    assert_eq!((original, attempts), (failed.job, failed.attempts));
    assert_eq!((copies.len(), copies[0].job_id.as_str(), copies[0].status()), (1, done.id.as_str(), Status::Done));
    assert_eq!(
        (copies[0].worker_id.as_str(), copies[0].task.as_str(), copies[0].created_at),
        (WORKER_ID, "email", done.created_at)
    );
}

async fn every_change_is_stored(deployment: &mut Deployment) {
    let timeout = Some(Duration { seconds: 5, nanos: 0 });
    let id = deployment.api.submit(SubmitJobRequest { attempt_timeout: timeout, ..job(WORKER_ID, "1") }).await;
    let policy = RetryPolicy { initial: Some(Duration { seconds: 9, nanos: 0 }), ..RetryPolicy::default() };
    let changes = JobChanges {
        worker_id: Some("other".into()),
        payload_json: Some(" [2] ".into()),
        task: Some("fax".into()),
        priority: Some(0),
        max_retries: Some(7),
        run_at: None,
        delay: Some(Duration { seconds: 3_600, nanos: 0 }),
        retry_policy: Some(policy),
        attempt_timeout: Some(Duration::default()),
    };
    let answer = copy(deployment, CopyJobRequest { changes: Some(changes), ..of(&id) }).await.unwrap();
    let (found, _) = parts(deployment.api.get(&answer.job_id).await);
    assert_eq!((found.worker_id.as_str(), found.payload_json.as_str(), found.task.as_str()), ("other", " [2] ", "fax"));
    assert_eq!((found.priority, found.max_retries, found.attempt_timeout), (0, 7, None));
    assert!(found.run_at.unwrap().seconds >= found.created_at.unwrap().seconds + 3_599);
    assert_eq!(found.retry_policy.unwrap().initial.unwrap().seconds, 9);

    // A copy of this scheduled job is scheduled for the same time.
    let (again, _) = parts(deployment.api.get(&copy(deployment, of(&found.id)).await.unwrap().job_id).await);
    assert_eq!((again.run_at, again.origin), (found.run_at, found.id));
    assert_eq!((again.retry_policy, again.worker_id), (found.retry_policy, found.worker_id));
}

async fn a_repeated_call_returns_the_first_copy(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "1")).await;
    let keyed = || CopyJobRequest { idempotency_key: "k".into(), ..of(&id) };
    let first = copy(deployment, keyed()).await.unwrap();
    let again = copy(deployment, keyed()).await.unwrap();
    assert_eq!((again.job_id.as_str(), again.deduplicated), (first.job_id.as_str(), true));
    let unkeyed = copy(deployment, of(&id)).await.unwrap();
    assert!(unkeyed.job_id != first.job_id && !unkeyed.deduplicated);

    // Another copy, and a submit, under the same key are refused with the job that has it.
    let changes = Some(JobChanges { priority: Some(1), ..JobChanges::default() });
    let refused = copy(deployment, CopyJobRequest { changes, ..keyed() }).await.unwrap_err();
    let submit = SubmitJobRequest { idempotency_key: "k".into(), ..job(WORKER_ID, "1") };
    for status in [refused, deployment.api.try_submit(submit).await.unwrap_err()] {
        assert_eq!(status.code(), Code::AlreadyExists);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((&info.metadata["job_id"], info.metadata["field"].as_str()), (&first.job_id, "idempotency_key"));
    }
    assert_eq!(deployment.api.metrics().await.total, 3);
}

async fn a_job_names_its_origin_and_its_newest_copies(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "1")).await;
    assert_eq!(deployment.api.get(&id).await.copies, []);
    let mut made = Vec::new();
    for _ in 0..21 {
        let found = deployment.api.get(&id).await;
        assert!(found.copies.len() == made.len() && !found.more_copies);
        made.push(copy(deployment, of(&id)).await.unwrap().job_id);
        if made.len() == 20 {
            break;
        }
    }
    made.push(copy(deployment, of(&id)).await.unwrap().job_id);
    made.reverse();
    let found = deployment.api.get(&id).await;
    assert!(found.more_copies);
    assert_eq!(found.copies.into_iter().map(|it| it.job_id).collect::<Vec<_>>(), made[..20]);
}

async fn what_is_wrong_with_a_copy_is_named(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "1")).await;
    let changes = JobChanges {
        worker_id: Some(String::new()),
        payload_json: Some("{".into()),
        priority: Some(10),
        ..JobChanges::default()
    };
    let wrong = CopyJobRequest { job_id: "x".into(), changes: Some(changes), idempotency_key: "k".repeat(256) };
    let status = copy(deployment, wrong).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let named: Vec<_> =
        status.get_details_bad_request().unwrap().field_violations.into_iter().map(|it| it.field).collect();
    assert_eq!(named, ["job_id", "idempotency_key", "changes.worker_id", "changes.payload_json", "changes.priority"]);
    let gone = deployment.api.submit(job("gone", "1")).await;
    let cancel = jobqueue_shared::proto::v1::CancelJobRequest { job_id: gone.clone(), reason: String::new() };
    deployment.api.jobs().cancel_job(cancel).await.unwrap();
    deployment.api.jobs().delete_job(DeleteJobRequest { job_id: gone.clone() }).await.unwrap();
    assert_eq!(copy(deployment, of(&gone)).await.unwrap_err().code(), Code::NotFound);
    assert_eq!(deployment.api.metrics().await.total, 1, "nothing was stored");
    deployment.api.get(&id).await;
}
