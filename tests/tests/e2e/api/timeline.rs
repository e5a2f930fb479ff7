//! Timeline of a job: its events in order, each with its worker and reason.

use jobqueue_shared::proto::v1::{
    CancelJobRequest, GetTimelineRequest, RegisterSessionRequest, ReportProgressRequest, RetryJobRequest,
    SubmitJobRequest, TimelineEvent,
    settlement::{Complete, Fail, Outcome, Release, Snooze},
    timeline_event::Kind,
};
use jobqueue_tests::{
    api::{Api, job},
    process::Signal,
};

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID},
    scenarios,
};

scenarios!(
    a_plain_success_is_told_with_its_worker,
    all_that_happens_to_a_job_is_told_in_order,
    a_lost_worker_and_its_zombie_are_told,
    a_cancellation_that_was_taken_back_stays_in_the_timeline,
);

async fn timeline(api: &Api, job_id: &str) -> Vec<TimelineEvent> {
    let request = GetTimelineRequest { job_id: job_id.to_owned() };
    let events = api.jobs().get_timeline(request).await.unwrap().into_inner().events;
    let at = |it: &TimelineEvent| it.at.map(|at| (at.seconds, at.nanos));
    assert!(events.is_sorted_by_key(at) && events.iter().all(|it| it.at.is_some()), "oldest first: {events:?}");
    events
}

/// (kind, `run_no`, text) of each event.
fn told(events: &[TimelineEvent]) -> Vec<(Kind, i32, &str)> {
    events.iter().map(|it| (it.kind(), it.run_no, it.text.as_str())).collect()
}

async fn on_host(api: &Api, host: &str) -> ManualWorker {
    ManualWorker::register_as(api, RegisterSessionRequest { host: host.to_owned(), ..Default::default() }).await
}

async fn a_plain_success_is_told_with_its_worker(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    assert_eq!(told(&timeline(&deployment.api, &id).await), [(Kind::Submitted, 0, "")]);
    let mut worker = on_host(&deployment.api, "alpha").await;
    let lease = worker.acquire_one().await.lease_id;
    let events = timeline(&deployment.api, &id).await;
    assert_eq!(told(&events), [(Kind::Submitted, 0, ""), (Kind::Acquired, 1, "")]);
    let complete = Complete { note: "sent".to_owned(), ..Complete::default() };
    worker.settle(&lease, Outcome::Complete(complete)).await;
    let events = timeline(&deployment.api, &id).await;
    assert_eq!(told(&events), [(Kind::Submitted, 0, ""), (Kind::Acquired, 1, ""), (Kind::Completed, 1, "sent")]);
    for event in &events[1..] {
        assert_eq!((event.session_id.as_str(), event.host.as_str()), (worker.session_id.as_str(), "alpha"));
    }
    assert_eq!(events[0].at, deployment.api.get(&id).await.job.unwrap().created_at);
}

async fn all_that_happens_to_a_job_is_told_in_order(deployment: &mut Deployment) {
    let api = deployment.api.clone();
    let mut worker = on_host(&api, "alpha").await;
    let id = api.submit(SubmitJobRequest { max_retries: Some(1), ..job(WORKER_ID, "{}") }).await;

    let snooze = Snooze { delay: None, reason: "not yet".to_owned() };
    ends(&mut worker, Outcome::Snooze(snooze)).await;
    ends(&mut worker, Outcome::Release(Release::default())).await;
    let lease_id = worker.acquire_one().await.lease_id;
    let report = ReportProgressRequest {
        session_id: worker.session_id.clone(),
        lease_id: lease_id.clone(),
        fraction: 0.5,
        message: "half".to_owned(),
    };
    api.workers().report_progress(report).await.unwrap();
    let fail = Fail { error: "no route".to_owned(), ..Fail::default() };
    worker.settle(&lease_id, Outcome::Fail(fail)).await;
    assert_eq!(worker.settle(&lease_id, Outcome::Complete(Complete::default())).await.code, 9);
    api.jobs().retry_job(RetryJobRequest { job_id: id.clone() }).await.unwrap();
    ends(&mut worker, Outcome::Complete(Complete::default())).await;

    let events = timeline(&api, &id).await;
    let expected = [
        (Kind::Submitted, 0),
        (Kind::Acquired, 1),
        (Kind::Snoozed, 1),
        (Kind::Acquired, 2),
        (Kind::Released, 2),
        (Kind::Acquired, 3),
        (Kind::Progress, 3),
        (Kind::AttemptFailed, 3),
        (Kind::DeadLetter, 3),
        (Kind::Refused, 3),
        (Kind::Retried, 3),
        (Kind::Acquired, 4),
        (Kind::Completed, 4),
    ];
    assert_eq!(events.iter().map(|it| (it.kind(), it.run_no)).collect::<Vec<_>>(), expected, "{events:?}");
    assert_eq!((events[2].text.as_str(), events[7].text.as_str()), ("not yet", "no route"));
    assert_eq!((events[6].fraction, events[6].text.as_str()), (0.5, "half"));
    assert!(events[9].text.starts_with("completion refused"), "{:?}", events[9]);
    for event in events.iter().filter(|it| matches!(it.kind(), Kind::Acquired | Kind::AttemptFailed | Kind::Progress)) {
        assert_eq!((event.session_id.as_str(), event.host.as_str()), (worker.session_id.as_str(), "alpha"));
    }
}

/// Runs the next attempt, which ends with `outcome`.
async fn ends(worker: &mut ManualWorker, outcome: Outcome) {
    let lease_id = worker.acquire_one().await.lease_id;
    assert_eq!(worker.settle(&lease_id, outcome).await.code, 0);
}

async fn a_lost_worker_and_its_zombie_are_told(deployment: &mut Deployment) {
    let mut doomed = deployment.worker(&["--simulate", "--lease-time", "5s"]);
    let id = deployment
        .api
        .submit(SubmitJobRequest { max_retries: Some(1), ..job(WORKER_ID, r#"{"sleep_ms": 3600000}"#) })
        .await;
    deployment.api.until(&id, jobqueue_shared::proto::v1::job::Status::Running).await;
    doomed.signal(Signal::STOP);
    deployment.api.finished(&id).await;
    let events = timeline(&deployment.api, &id).await;
    let kinds: Vec<_> = events.iter().map(|it| (it.kind(), it.run_no)).collect();
    assert_eq!(kinds, [(Kind::Submitted, 0), (Kind::Acquired, 1), (Kind::Rescued, 1), (Kind::DeadLetter, 1)]);
    assert_eq!(events[1].session_id, events[2].session_id);
    assert!(!events[1].host.is_empty() && events[2].host == events[1].host);
    assert!(!events[2].text.is_empty() && !events[3].text.is_empty(), "{events:?}");
    doomed.signal(Signal::CONT);
    assert!(doomed.terminate().await.success());
}

async fn a_cancellation_that_was_taken_back_stays_in_the_timeline(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let cancel = CancelJobRequest { job_id: id.clone(), reason: "wrong \"address\"".to_owned() };
    deployment.api.jobs().cancel_job(cancel).await.unwrap();
    let cancelled = [(Kind::Submitted, 0, ""), (Kind::Cancelled, 0, "wrong \"address\"")];
    let before = timeline(&deployment.api, &id).await;
    assert_eq!(told(&before), cancelled);
    deployment.api.jobs().retry_job(RetryJobRequest { job_id: id.clone() }).await.unwrap();
    let events = timeline(&deployment.api, &id).await;
    assert_eq!(told(&events), [&cancelled[..], &[(Kind::Retried, 0, "")]].concat());
    assert_eq!(events[1], before[1]);
}
