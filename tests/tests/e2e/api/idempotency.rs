//! Idempotency: a repeated request yields its first job, however many clients send it, and whatever happens in between.

use std::collections::HashSet;

use futures::future::join_all;
use jobqueue_shared::proto::v1::{SubmitJobRequest, SubmitJobsRequest, job::Status};
use jobqueue_tests::api::job;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    deployment::{Deployment, WORKER_ID},
    scenarios,
};

scenarios!(
    of_fifty_concurrent_submits_one_makes_the_job,
    the_same_key_with_another_request_is_refused_with_the_job_that_has_it,
    a_key_holds_after_its_job_is_done_and_after_a_restart,
    a_batch_repeats_as_one,
);

fn keyed(key: &str, payload_json: &str) -> SubmitJobRequest {
    SubmitJobRequest { idempotency_key: key.to_owned(), ..job(WORKER_ID, payload_json) }
}

async fn of_fifty_concurrent_submits_one_makes_the_job(deployment: &mut Deployment) {
    let _worker = deployment.simulating();
    for round in 0..3 {
        let key = format!("order {round}");
        let submits = (0..50).map(|_| {
            let (mut jobs, request) = (deployment.server.api().jobs(), keyed(&key, r#"{"sleep_ms": 0}"#));
            tokio::spawn(async move { jobs.submit_job(request).await.unwrap().into_inner() })
        });
        let answers: Vec<_> = join_all(submits).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(answers.iter().map(|it| &it.job_id).collect::<HashSet<_>>().len(), 1);
        assert_eq!(answers.iter().filter(|it| !it.deduplicated).count(), 1);
        deployment.api.until(&answers[0].job_id, Status::Done).await;
    }
    assert_eq!(deployment.api.metrics().await.total, 3);
}

async fn the_same_key_with_another_request_is_refused_with_the_job_that_has_it(deployment: &mut Deployment) {
    let id = deployment.api.submit(keyed("k", "1")).await;
    for other in [keyed("k", "2"), SubmitJobRequest { max_retries: Some(3), ..keyed("k", "1") }] {
        let status = deployment.api.try_submit(other).await.unwrap_err();
        assert_eq!(status.code(), Code::AlreadyExists);
        let info = status.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), &info.metadata["job_id"]), ("IDEMPOTENCY_KEY_REUSED", &id));
    }
    // A key of another worker_id is independent.
    let other = deployment.api.submit(SubmitJobRequest { worker_id: "other".to_owned(), ..keyed("k", "2") }).await;
    assert_ne!(other, id);
    assert_eq!(deployment.api.metrics().await.total, 2);
}

async fn a_key_holds_after_its_job_is_done_and_after_a_restart(deployment: &mut Deployment) {
    let mut worker = deployment.simulating();
    let id = deployment.api.submit(keyed("k", r#"{"sleep_ms": 0}"#)).await;
    deployment.api.until(&id, Status::Done).await;
    assert!(worker.terminate().await.success());
    assert!(deployment.server.terminate().await.success());
    deployment.server.start_again().await;
    deployment.api = deployment.server.api();
    let again = deployment.api.jobs().submit_job(keyed("k", r#"{"sleep_ms": 0}"#)).await.unwrap().into_inner();
    assert_eq!((again.job_id, again.deduplicated), (id, true));
}

async fn a_batch_repeats_as_one(deployment: &mut Deployment) {
    let batch = || SubmitJobsRequest { jobs: (0..20).map(|n| keyed(&format!("k{n}"), "{}")).collect() };
    let first = deployment.api.jobs().submit_jobs(batch()).await.unwrap().into_inner();
    let again = deployment.api.jobs().submit_jobs(batch()).await.unwrap().into_inner();
    assert!(first.jobs.iter().all(|it| !it.deduplicated) && again.jobs.iter().all(|it| it.deduplicated));
    assert!(first.jobs.iter().map(|it| &it.job_id).eq(again.jobs.iter().map(|it| &it.job_id)));

    // One conflict refuses the whole batch.
    let mut jobs: Vec<_> = (20..30).map(|n| keyed(&format!("k{n}"), "{}")).collect();
    jobs[7] = keyed("k3", "[]");
    let status = deployment.api.jobs().submit_jobs(SubmitJobsRequest { jobs }).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(
        (&info.metadata["job_id"], &info.metadata["field"]),
        (&first.jobs[3].job_id, &"jobs[7].idempotency_key".to_owned())
    );
    assert_eq!(deployment.api.metrics().await.total, 20);
}
