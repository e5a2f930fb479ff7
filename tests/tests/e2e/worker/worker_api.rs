//! The worker's half of the API, called directly, as by a worker in another language.

use jobqueue_shared::proto::v1::{
    AcquireJobsRequest, CancelJobRequest, EndSessionRequest, HeartbeatRequest, HeartbeatResponse,
    RegisterSessionRequest, ReportProgressRequest, ReportProgressResponse, SettleJobsRequest, SettleJobsResponse,
    Settlement, StoppedLease, SubmitJobRequest,
    attempt::Outcome::Refused,
    job::Status,
    settlement::{Complete, Fail, Outcome, Release, Snooze},
    stopped_lease,
};
use jobqueue_tests::{
    api::job,
    poll::eventually,
    web::{Form, call, get},
};
use prost_types::Duration;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID, history, parts},
    scenarios,
};

scenarios!(
    the_same_acquire_no_gives_the_same_jobs,
    a_job_that_a_call_waits_for_comes_without_another_look,
    where_nothing_was_found_a_moment_ago_a_call_waits_without_a_look,
    each_settlement_is_answered_by_itself,
    a_stale_lease_is_refused_on_every_surface,
    a_stale_lease_is_refused_over_grpc_web_too,
    what_is_refused_is_counted_by_what_was_said,
    a_heartbeat_names_the_leases_to_stop,
    a_session_that_is_over_is_told_so,
    ending_a_session_gives_back_uncharged,
    a_silent_session_is_lost_after_its_lease,
    progress_is_shown,
    texts_of_any_kind_do_not_send_a_job_round_for_ever,
    a_result_that_is_no_json_does_not_undo_the_work,
);

fn complete() -> Outcome {
    Outcome::Complete(Complete::default())
}

fn fail(error: &str) -> Outcome {
    Outcome::Fail(Fail { error: error.to_owned(), ..Fail::default() })
}

async fn the_same_acquire_no_gives_the_same_jobs(deployment: &mut Deployment) {
    for _ in 0..5 {
        deployment.api.submit(job(WORKER_ID, "{}")).await;
    }
    let mut worker = ManualWorker::register(&deployment.api).await;
    let request = worker.next_acquire(3, 0);
    let again = async || deployment.api.workers().acquire_jobs(request.clone()).await.unwrap().into_inner().jobs;
    let first = again().await;
    assert_eq!(first.len(), 3);
    assert_eq!(again().await, first);
    worker.settle(&first[1].lease_id, complete()).await;
    assert_eq!(again().await, [first[0].clone(), first[2].clone()]);
    assert_eq!(worker.acquire(10).await.len(), 2);
}

/// Repeated, because a job that is stored between the call's last acquire and its wait is not handed off.
async fn a_job_that_a_call_waits_for_comes_without_another_look(deployment: &mut Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    let server = &deployment.server;
    eventually("a job comes without a look", async || {
        let before = server.acquire_count().await;
        let (request, mut workers) = (worker.next_acquire(1, 20), deployment.api.workers());
        let call = tokio::spawn(async move { workers.acquire_jobs(request).await.unwrap().into_inner().jobs });
        eventually("it has looked", async || (server.acquire_count().await > before).then_some(())).await;
        let looks = server.acquire_count().await;
        let id = deployment.api.submit(job(WORKER_ID, "{\"n\":1}")).await;
        let jobs = call.await.unwrap();
        let [leased] = &jobs[..] else { panic!("{jobs:?}") };
        let found = leased.job.as_ref().unwrap();
        assert_eq!((&found.id, found.payload_json.as_str(), found.status()), (&id, "{\"n\":1}", Status::Running));
        worker.settle(&leased.lease_id, complete()).await;
        (server.acquire_count().await == looks).then_some(())
    })
    .await;
}

/// Repeated, because a job that is stored before the call waits has to be looked for.
async fn where_nothing_was_found_a_moment_ago_a_call_waits_without_a_look(deployment: &mut Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    let server = &deployment.server;
    let other = deployment.api.submit(job(WORKER_ID, "{}")).await;
    assert_eq!(worker.acquire(1).await[0].job.as_ref().unwrap().id, other);
    let (request, leased) = eventually("a job comes without any look", async || {
        let looks = server.acquire_count().await;
        let (request, mut workers) = (worker.next_acquire(1, 20), deployment.api.workers());
        let call = tokio::spawn({
            let request = request.clone();
            async move { workers.acquire_jobs(request).await.unwrap().into_inner().jobs }
        });
        // Meanwhile the call begins to wait.
        server.acquire_count().await;
        let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
        let jobs = call.await.unwrap();
        let [leased] = &jobs[..] else { panic!("{jobs:?}") };
        assert_eq!(leased.job.as_ref().unwrap().id, id);
        let without_look = server.acquire_count().await == looks;
        if !without_look {
            worker.settle(&leased.lease_id, complete()).await;
        }
        without_look.then(|| (request, leased.clone()))
    })
    .await;
    // The answer was lost. The call is repeated, and would be answered early, because another lease of its session ends.
    let mut workers = deployment.api.workers();
    let repeated = tokio::spawn({
        let request = request.clone();
        async move { workers.acquire_jobs(request).await.unwrap().into_inner().jobs }
    });
    server.acquire_count().await;
    deployment.api.jobs().cancel_job(CancelJobRequest { job_id: other, reason: String::new() }).await.unwrap();
    let expected = [leased];
    assert_eq!(repeated.await.unwrap(), expected);
    // And once more, although nothing is runnable.
    let again = deployment.api.workers().acquire_jobs(request).await.unwrap().into_inner().jobs;
    assert_eq!(again, expected);
    worker.settle(&expected[0].lease_id, complete()).await;
}

async fn each_settlement_is_answered_by_itself(deployment: &mut Deployment) {
    use Status::{Done, Failed, Pending, Unspecified};
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(deployment.api.submit(SubmitJobRequest { max_retries: Some(1), ..job(WORKER_ID, "{}") }).await);
    }
    let mut worker = ManualWorker::register(&deployment.api).await;
    let leased = worker.acquire(6).await;
    let lease = |n: usize| leased[n].lease_id.clone();
    worker.settle(&lease(5), complete()).await;
    let hour = Some(Duration { seconds: 3_600, nanos: 0 });
    let settlements = [
        (lease(0), Some(complete())),
        ("made up".to_owned(), Some(complete())),
        (lease(1), Some(fail("no"))),
        (lease(2), Some(Outcome::Snooze(Snooze { delay: hour, reason: "later".to_owned() }))),
        (lease(3), Some(Outcome::Release(Release { no_handler: true }))),
        (lease(4), None),
        (lease(5), Some(fail("it was done"))),
        (lease(0), Some(complete())),
        (
            lease(4),
            Some(Outcome::Snooze(Snooze { delay: Some(Duration { seconds: -1, nanos: 0 }), reason: String::new() })),
        ),
    ];
    let settlements: Vec<_> =
        settlements.into_iter().map(|(lease_id, outcome)| Settlement { lease_id, outcome }).collect();
    let results = worker.settle_all(settlements.clone()).await;
    let answers: Vec<_> = results.iter().map(|it| (it.code, it.status())).collect();
    assert_eq!(
        answers,
        [
            (0, Done),
            (3, Unspecified),
            (0, Failed),
            (0, Pending),
            (0, Pending),
            (3, Unspecified),
            (9, Unspecified),
            (3, Unspecified),
            (3, Unspecified),
        ],
        "{results:?}"
    );
    assert!(results.iter().zip(&settlements).all(|(it, settlement)| it.lease_id == settlement.lease_id));
    assert!(results.iter().all(|it| (it.code == 0) == it.message.is_empty()), "{results:?}");
    let mut states = Vec::new();
    for id in &ids {
        states.push(deployment.api.get(id).await.job.unwrap().status());
    }
    assert_eq!(states, [Done, Failed, Pending, Pending, Status::Running, Done]);
}

async fn a_stale_lease_is_refused_on_every_surface(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let mut first = ManualWorker::register(&deployment.api).await;
    let mut second = ManualWorker::register(&deployment.api).await;
    let stale = first.acquire_one().await.lease_id;
    assert_eq!(first.settle(&stale, fail("slow")).await.code, 0);
    let current = second.acquire_one().await;
    assert_eq!(current.job.as_ref().unwrap().id, id);
    let before = deployment.api.get(&id).await.job.unwrap();
    let snooze = Outcome::Snooze(Snooze::default());
    for outcome in [complete(), snooze, Outcome::Release(Release::default())] {
        assert_eq!(first.settle(&stale, outcome.clone()).await.code, 9, "{outcome:?}");
        assert_eq!(first.settle(&current.lease_id, outcome.clone()).await.code, 9, "of another session: {outcome:?}");
    }
    for (session_id, lease_id) in [(&first.session_id, &stale), (&first.session_id, &current.lease_id)] {
        let request = ReportProgressRequest {
            session_id: session_id.clone(),
            lease_id: lease_id.clone(),
            fraction: 0.5,
            message: String::new(),
        };
        let status = deployment.api.workers().report_progress(request).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition);
    }
    // The answer to the first failure was lost: repeating it is accepted, and changes nothing.
    assert_eq!(first.settle(&stale, fail("slow")).await.code, 0);
    let found = deployment.api.get(&id).await;
    assert_eq!(found.job.clone().unwrap(), before);
    assert_eq!(history(&found).iter().filter(|outcome| **outcome == "refused").count(), 2, "once a lease: {found:?}");
    assert_eq!(second.settle(&current.lease_id, complete()).await.code, 0);
}

async fn a_stale_lease_is_refused_over_grpc_web_too(deployment: &mut Deployment) {
    const SETTLE: &str = "/jobqueue.v1.WorkerService/SettleJobs";
    const PROGRESS: &str = "/jobqueue.v1.WorkerService/ReportProgress";
    const BEAT: &str = "/jobqueue.v1.WorkerService/Heartbeat";
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let mut zombie = ManualWorker::register(&deployment.api).await;
    let stale = zombie.acquire_one().await.lease_id;
    let session_id = zombie.session_id.clone();
    deployment.api.workers().end_session(EndSessionRequest { session_id: session_id.clone() }).await.unwrap();
    let mut successor = ManualWorker::register(&deployment.api).await;
    let current = successor.acquire_one().await.lease_id;
    let before = deployment.api.get(&id).await.job;
    for addr in [deployment.server.grpc_addr(), deployment.server.http_addr()] {
        for form in [Form::Binary, Form::Text] {
            for lease_id in [&stale, &current] {
                for outcome in [complete(), fail("late"), Outcome::Snooze(Snooze::default())] {
                    let settlement = Settlement { lease_id: lease_id.clone(), outcome: Some(outcome) };
                    let request = SettleJobsRequest { session_id: session_id.clone(), settlements: vec![settlement] };
                    let answer: SettleJobsResponse = call(addr, form, SETTLE, &[], &request).await.unwrap();
                    assert_eq!(answer.results[0].code, 9, "{answer:?}");
                }
                let request = ReportProgressRequest {
                    session_id: session_id.clone(),
                    lease_id: lease_id.clone(),
                    fraction: 0.5,
                    message: String::new(),
                };
                let status = call::<ReportProgressResponse>(addr, form, PROGRESS, &[], &request).await.unwrap_err();
                assert_eq!(status.code(), Code::FailedPrecondition);
            }
            let beat = HeartbeatRequest { session_id: session_id.clone(), draining: false };
            let status = call::<HeartbeatResponse>(addr, form, BEAT, &[], &beat).await.unwrap_err();
            assert_eq!(status.code(), Code::FailedPrecondition);
        }
    }
    let found = deployment.api.get(&id).await;
    assert_eq!(found.job, before);
    let refused: Vec<_> =
        found.attempts.iter().filter(|it| it.outcome() == Refused).map(|it| it.error.as_str()).collect();
    assert_eq!(refused.len(), 2, "once a lease: {refused:?}");
    assert_eq!(refused[0], format!("completion refused: the lease belongs to session {}", successor.session_id));
    let start = format!("completion refused: the lease of session {session_id} ended at 20");
    assert!(refused[1].starts_with(&start) && refused[1].ends_with("Z (released)"), "{refused:?}");
    assert_eq!(successor.settle(&current, complete()).await.code, 0);
}

async fn what_is_refused_is_counted_by_what_was_said(deployment: &mut Deployment) {
    deployment.api.submit(job(WORKER_ID, "{}")).await;
    let mut worker = ManualWorker::register(&deployment.api).await;
    let lease_id = worker.acquire_one().await.lease_id;
    worker.settle(&lease_id, complete()).await;
    for (n, outcome) in
        [fail("late"), Outcome::Snooze(Snooze::default()), Outcome::Release(Release::default())].iter().enumerate()
    {
        for _ in 0..=n {
            assert_eq!(worker.settle(&lease_id, outcome.clone()).await.code, 9);
        }
    }
    let request = ReportProgressRequest {
        session_id: worker.session_id.clone(),
        lease_id,
        fraction: 0.5,
        message: String::new(),
    };
    deployment.api.workers().report_progress(request).await.unwrap_err();
    let metrics = get(deployment.server.http_addr(), "/metrics").await.text();
    for (what, count) in [("complete", 0), ("fail", 1), ("snooze", 2), ("release", 3), ("progress", 1)] {
        let line = format!("jobqueue_refused_outcomes_total{{what=\"{what}\"}} {count}");
        assert!(metrics.lines().any(|it| it == line), "no {line} in {metrics}");
    }
}

async fn a_heartbeat_names_the_leases_to_stop(deployment: &mut Deployment) {
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(deployment.api.submit(job(WORKER_ID, "{}")).await);
    }
    let timeout = Some(Duration { seconds: 0, nanos: 50_000_000 });
    ids.push(
        deployment
            .api
            .submit(SubmitJobRequest { attempt_timeout: timeout, max_retries: Some(1), ..job(WORKER_ID, "{}") })
            .await,
    );
    let mut worker = ManualWorker::register(&deployment.api).await;
    let leased = worker.acquire(3).await;
    assert!(leased[2].deadline.is_some() && leased[0].deadline.is_none());
    let beat = async || {
        let request = HeartbeatRequest { session_id: worker.session_id.clone(), draining: false };
        deployment.api.workers().heartbeat(request).await.unwrap().into_inner()
    };
    deployment.api.jobs().cancel_job(CancelJobRequest { job_id: ids[0].clone(), reason: String::new() }).await.unwrap();
    let stop = eventually("both are to be stopped", async || {
        let mut stop = beat().await.stop;
        stop.sort_by_key(|it| it.reason);
        (stop.len() == 2).then_some(stop)
    })
    .await;
    let expected = |n: usize, reason: stopped_lease::Reason| StoppedLease {
        lease_id: leased[n].lease_id.clone(),
        job_id: ids[n].clone(),
        reason: reason.into(),
    };
    assert_eq!(stop, [expected(0, stopped_lease::Reason::Cancelled), expected(2, stopped_lease::Reason::TimedOut)]);
    assert_eq!(worker.settle(&leased[0].lease_id, complete()).await.code, 9);
    assert_eq!(worker.settle(&leased[2].lease_id, complete()).await.code, 9);
    assert_eq!(worker.settle(&leased[1].lease_id, complete()).await.code, 0);
    let (timed_out, _) = parts(deployment.api.get(&ids[2]).await);
    assert_eq!((timed_out.status(), timed_out.attempt_count), (Status::Failed, 1));
}

async fn a_session_that_is_over_is_told_so(deployment: &mut Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    let end = || EndSessionRequest { session_id: worker.session_id.clone() };
    deployment.api.workers().end_session(end()).await.unwrap();
    // A repeated EndSession is accepted, since its answer may have been lost.
    deployment.api.workers().end_session(end()).await.unwrap();
    let acquire = worker.next_acquire(1, 0);
    let over = |status: tonic::Status| {
        assert_eq!(status.code(), Code::FailedPrecondition);
        assert_eq!(status.get_details_error_info().unwrap().reason, "SESSION_ENDED");
    };
    over(deployment.api.workers().acquire_jobs(acquire.clone()).await.unwrap_err());
    let beat = HeartbeatRequest { session_id: worker.session_id.clone(), draining: false };
    over(deployment.api.workers().heartbeat(beat).await.unwrap_err());
    let unknown = AcquireJobsRequest { session_id: uuid::Uuid::now_v7().to_string(), ..acquire };
    over(deployment.api.workers().acquire_jobs(unknown).await.unwrap_err());
}

async fn ending_a_session_gives_back_uncharged(deployment: &mut Deployment) {
    let id = deployment.api.submit(SubmitJobRequest { max_retries: Some(1), ..job(WORKER_ID, "{}") }).await;
    let mut first = ManualWorker::register(&deployment.api).await;
    first.acquire_one().await;
    let request = EndSessionRequest { session_id: first.session_id.clone() };
    deployment.api.workers().end_session(request).await.unwrap();
    let (given_back, _) = parts(deployment.api.get(&id).await);
    assert_eq!((given_back.status(), given_back.attempt_count), (Status::Pending, 0));
    let mut second = ManualWorker::register(&deployment.api).await;
    let leased = second.acquire_one().await;
    assert_eq!(leased.job.unwrap().attempt_count, 1);
    assert_eq!(second.settle(&leased.lease_id, complete()).await.code, 0);
}

async fn a_silent_session_is_lost_after_its_lease(deployment: &mut Deployment) {
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(deployment.api.submit(SubmitJobRequest { max_retries: Some(1), ..job(WORKER_ID, "{}") }).await);
    }
    // The shortest lease that is allowed, and one slot: the second job is held without having been started.
    let new = RegisterSessionRequest {
        worker_id: WORKER_ID.to_owned(),
        slots: 1,
        lease_time: Some(Duration { seconds: 5, nanos: 0 }),
        ..RegisterSessionRequest::default()
    };
    let session = deployment.api.workers().register_session(new).await.unwrap().into_inner();
    assert_eq!(session.heartbeat_interval, Some(Duration { seconds: 1, nanos: 666_000_000 }));
    let acquire = AcquireJobsRequest { session_id: session.session_id, max_jobs: 2, acquire_no: 1, wait: None };
    assert_eq!(deployment.api.workers().acquire_jobs(acquire).await.unwrap().into_inner().jobs.len(), 2);
    let found = deployment.api.until(&ids[0], Status::Failed).await;
    assert_eq!(history(&found), ["lost"]);
    let (held, _) = parts(deployment.api.until(&ids[1], Status::Pending).await);
    assert_eq!((held.attempt_count, held.run_no), (0, 1));
    assert_eq!(deployment.api.get(&ids[2]).await.job.unwrap().run_no, 0);
}

async fn progress_is_shown(deployment: &mut Deployment) {
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let mut worker = ManualWorker::register(&deployment.api).await;
    let lease_id = worker.acquire_one().await.lease_id;
    let request = ReportProgressRequest {
        session_id: worker.session_id.clone(),
        lease_id,
        fraction: 0.25,
        message: "a quarter — 😀".to_owned(),
    };
    deployment.api.workers().report_progress(request).await.unwrap();
    let progress = deployment.api.get(&id).await.job.unwrap().progress.unwrap();
    assert_eq!((progress.fraction.to_string().as_str(), progress.message.as_str()), ("0.25", "a quarter — 😀"));
}

async fn texts_of_any_kind_do_not_send_a_job_round_for_ever(deployment: &mut Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    let long = "€".repeat(10_000);
    for error in ["before\0after", "\u{1b}[31m\r\n<script>alert(1)</script>", long.as_str(), ""] {
        let id = deployment.api.submit(SubmitJobRequest { max_retries: Some(1), ..job(WORKER_ID, "{}") }).await;
        let lease_id = worker.acquire_one().await.lease_id;
        let request = ReportProgressRequest {
            session_id: worker.session_id.clone(),
            lease_id: lease_id.clone(),
            fraction: 1.0,
            message: error.chars().take(300).collect(),
        };
        deployment.api.workers().report_progress(request).await.unwrap();
        let result = worker.settle(&lease_id, fail(error)).await;
        assert_eq!((result.code, result.status()), (0, Status::Failed));
        let (job, attempts) = parts(deployment.api.get(&id).await);
        assert_eq!(job.last_error, attempts[0].error);
        assert!(job.last_error.len() <= 8 * 1024);
        if error.len() < 8 * 1024 {
            assert_eq!(job.last_error, error.replace('\0', "\u{fffd}"));
        }
    }
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    let request = CancelJobRequest { job_id: id.clone(), reason: "a\0b".to_owned() };
    deployment.api.jobs().cancel_job(request).await.unwrap();
    assert_eq!(deployment.api.get(&id).await.job.unwrap().note, "a\u{fffd}b");
    // An escaped NUL is JSON like any other, and comes back unchanged.
    let id = deployment.api.submit(job(WORKER_ID, "\"\\u0000\"")).await;
    let leased = worker.acquire_one().await;
    let result = Complete { result_json: "{\"a\":\"\\u0000\"}".to_owned(), note: "n\0".to_owned() };
    assert_eq!(worker.settle(&leased.lease_id, Outcome::Complete(result)).await.code, 0);
    let (job, _) = parts(deployment.api.get(&id).await);
    assert_eq!((job.payload_json.as_str(), job.result_json.as_str()), ("\"\\u0000\"", "{\"a\":\"\\u0000\"}"));
    assert_eq!(job.note, "n\u{fffd}");
}

async fn a_result_that_is_no_json_does_not_undo_the_work(deployment: &mut Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    for result_json in ["{".to_owned(), "\"\0\"".to_owned(), format!("\"{}\"", "x".repeat(64 * 1024))] {
        let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
        let lease_id = worker.acquire_one().await.lease_id;
        let outcome = Outcome::Complete(Complete { result_json, note: String::new() });
        let result = worker.settle(&lease_id, outcome.clone()).await;
        assert_eq!((result.code, result.status()), (0, Status::Done));
        assert_eq!(worker.settle(&lease_id, outcome).await.code, 0);
        let (job, _) = parts(deployment.api.get(&id).await);
        assert_eq!((job.status(), job.result_json.as_str()), (Status::Done, ""));
        assert_ne!(job.note, "", "it says what became of the result");
    }
}
