//! Lost calls, lost answers and lost sessions, and orderly stops among them.

use std::{sync::Arc, time::Duration};

use jobqueue_tests::poll::eventually;
use jobqueue_worker::{
    Changes, Client, Context, HandlerError, Status, StopReason,
    proto::{
        AcquireJobsRequest, EndSessionRequest, HeartbeatRequest, RegisterSessionRequest, SettleJobsRequest,
        SubmitJobRequest, worker_service_client::WorkerServiceClient,
    },
};
use serde_json::Value;
use tokio::sync::{Semaphore, mpsc};
use tonic::transport::Endpoint;

use crate::{Running, World, history, job};

#[tokio::test]
async fn jobs_whose_hand_over_got_lost_are_handed_over_again_and_run_once() {
    let world = World::new().await;
    let jobs = world.client.submit_many((0..20).map(|_| job("email"))).await.unwrap();
    world.proxy.lose_answers("AcquireJobs", 3);
    let worker = Running::start(world.worker().concurrency(5).handler("email", |_, _: Value| async { Ok(()) }));
    for job in &jobs {
        let ended = world.finished(&job.job_id).await;
        assert_eq!((ended.job.status(), ended.job.run_no), (Status::Done, 1));
    }
    let numbers: Vec<_> =
        world.proxy.asked::<AcquireJobsRequest>("AcquireJobs").iter().map(|it| it.acquire_no).collect();
    assert_eq!(numbers[..5], [1, 1, 1, 1, 2], "{numbers:?}");
    worker.stop().await;
}

#[tokio::test]
async fn an_outcome_whose_acknowledgement_got_lost_is_sent_again_and_counts_once() {
    let world = World::new().await;
    world.proxy.lose_answers("SettleJobs", 2);
    let worker = Running::start(world.worker().handler("email", |_, _: Value| async { Ok("sent") }));
    let job_id = world.submit("email").await;
    let told = eventually("the outcome is sent three times", async || {
        Some(world.proxy.asked::<SettleJobsRequest>("SettleJobs")).filter(|told| told.len() == 3)
    })
    .await;
    assert!(told.iter().all(|it| *it == told[0]), "{told:?}");
    let ended = world.finished(&job_id).await;
    assert_eq!((ended.job.status(), history(&ended)), (Status::Done, vec![]));
    worker.stop().await;
}

#[tokio::test]
async fn a_submit_whose_answer_got_lost_makes_one_job() {
    let world = World::new().await;
    world.proxy.lose_answers("SubmitJob", 2);
    world.proxy.lose_answers("SubmitJobs", 1);
    let client = Client::connect(world.proxy.endpoint()).unwrap();
    let one = client.submit(job("email")).await.unwrap();
    let many = client.submit_many([job("email"), job("email")]).await.unwrap();
    assert!(!one.deduplicated && many.iter().all(|it| !it.deduplicated), "their own earlier tries");
    assert_eq!(client.metrics().await.unwrap().total, 3);
    let asked = world.proxy.asked::<SubmitJobRequest>("SubmitJob");
    assert_eq!(asked.len(), 3);
    assert!(asked.iter().all(|it| *it == asked[0] && !it.idempotency_key.is_empty()));
}

#[tokio::test]
async fn a_copy_whose_answer_got_lost_makes_one_job() {
    let world = World::new().await;
    let job_id = world.submit("email").await;
    world.proxy.lose_answers("CopyJob", 2);
    let client = Client::connect(world.proxy.endpoint()).unwrap();
    let copy = client.copy(&job_id, Changes::new().task("fax").payload(&[1])).await.unwrap();
    assert!(!copy.deduplicated, "its own earlier tries");
    let found = client.get(&copy.job_id).await.unwrap();
    assert_eq!((found.job.origin.as_str(), found.job.task.as_str()), (job_id.as_str(), "fax"));
    assert_eq!(found.job.payload_json, "[1]");
    let copies = client.get(&job_id).await.unwrap().copies;
    assert_eq!(copies.iter().map(|it| &it.job_id).collect::<Vec<_>>(), [&copy.job_id]);
}

#[tokio::test]
async fn a_cancel_whose_answer_got_lost_is_not_repeated() {
    let world = World::new().await;
    let job_id = world.submit("email").await;
    world.proxy.lose_answers("CancelJob", 1);
    let client = Client::connect(world.proxy.endpoint()).unwrap();
    let error = client.cancel(&job_id, "").await.unwrap_err();
    assert!(matches!(error, jobqueue_worker::Error::Unavailable(_)), "{error:?}");
    assert_eq!(world.proxy.calls(), ["CancelJob"]);
}

#[tokio::test]
async fn handlers_outlive_a_server_that_is_away_and_their_outcome_arrives() {
    let world = World::new().await;
    let go = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&go);
    let worker = Running::start(world.worker().handler("email", move |context: Context, _: Value| {
        let waits = Arc::clone(&waits);
        async move {
            waits.acquire().await.unwrap().forget();
            Ok(context.is_cancelled())
        }
    }));
    let job_id = world.submit("email").await;
    world.until(&job_id, Status::Running).await;
    world.proxy.set_away(true);
    go.add_permits(1);
    world.proxy.has_refused("SettleJobs").await;
    world.proxy.set_away(false);
    let ended = world.finished(&job_id).await;
    assert_eq!((ended.job.result_json.as_str(), ended.job.run_no), ("false", 1));
    worker.stop().await;
}

#[tokio::test]
async fn a_session_that_was_ended_is_followed_by_another_and_its_handlers_stop() {
    let world = World::new().await;
    let (stopped, mut reasons) = mpsc::unbounded_channel();
    let worker = Running::start(world.worker().handler("email", move |context: Context, _: Value| {
        let stopped = stopped.clone();
        async move {
            if context.job().run_no == 1 {
                context.cancelled().await;
                stopped.send(context.stop_reason()).unwrap();
                // The result comes too late: another session has the job.
                return Ok("first");
            }
            Ok("second")
        }
    }));
    let job_id = world.submit("email").await;
    let session_id = world.until(&job_id, Status::Running).await.job.session_id;
    let channel = Endpoint::from_shared(world.server.endpoint()).unwrap().connect_lazy();
    let mut server = WorkerServiceClient::new(channel);
    server.end_session(EndSessionRequest { session_id: session_id.clone() }).await.unwrap();

    let ended = world.finished(&job_id).await;
    assert_eq!((ended.job.result_json.as_str(), ended.job.attempt_count), ("\"second\"", 1));
    assert_ne!(ended.job.session_id, session_id);
    assert!(!history(&ended).contains(&"refused"), "{:?}", history(&ended));
    assert_eq!(reasons.recv().await, Some(Some(StopReason::LeaseLost)));
    assert_eq!(world.proxy.asked::<RegisterSessionRequest>("RegisterSession").len(), 2);
    worker.stop().await;
}

#[tokio::test]
async fn stopping_finishes_what_it_can_and_gives_back_the_rest() {
    let world = World::new().await;
    let (stopped, mut reasons) = mpsc::unbounded_channel();
    // The handler reports its start: a job that the server shows as running may still be on its way, and would be given
    // back unstarted.
    let (started, mut starts) = mpsc::unbounded_channel();
    let long_started = started.clone();
    let go = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&go);
    let worker = Running::start(
        world
            .worker()
            .grace(Duration::from_secs(1))
            .handler("short", move |_, _: Value| {
                let waits = Arc::clone(&waits);
                started.send("short").unwrap();
                async move {
                    waits.acquire().await.unwrap().forget();
                    Ok("finished")
                }
            })
            .handler("long", move |context: Context, _: Value| {
                let stopped = stopped.clone();
                long_started.send("long").unwrap();
                async move {
                    context.cancelled().await;
                    stopped.send(context.stop_reason()).unwrap();
                    Err::<(), _>(HandlerError::retry("stopped"))
                }
            }),
    );
    let (short, long) = (world.submit("short").await, world.submit("long").await);
    let mut both = [starts.recv().await.unwrap(), starts.recv().await.unwrap()];
    both.sort_unstable();
    assert_eq!(both, ["long", "short"]);
    worker.stop.cancel();
    go.add_permits(1);
    worker.stop().await;

    assert_eq!(world.client.get(&short).await.unwrap().job.status(), Status::Done);
    let long = world.client.get(&long).await.unwrap();
    assert_eq!((long.job.status(), long.job.attempt_count), (Status::Pending, 0));
    assert_eq!(history(&long), ["released"]);
    assert_eq!(reasons.recv().await, Some(Some(StopReason::ShuttingDown)));
    assert!(world.proxy.asked::<HeartbeatRequest>("Heartbeat").iter().any(|beat| beat.draining));
    assert_eq!(world.proxy.calls().last().unwrap(), "EndSession");
}

#[tokio::test]
async fn a_job_that_was_on_its_way_to_a_stopping_worker_goes_back_at_once() {
    let world = World::new().await;
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = world.worker().concurrency(2).handler("email", |_, _: Value| async { Ok(()) }).handler(
        "long",
        move |context: Context, _: Value| {
            started.send(()).unwrap();
            async move {
                context.cancelled().await;
                Ok(())
            }
        },
    );
    let worker = Running::start(worker.grace(Duration::from_mins(10)));
    let long = world.submit("long").await;
    starts.recv().await.unwrap();
    world.proxy.hold_answers(Some("AcquireJobs"));
    let job_id = world.submit("email").await;
    let leased_to = world.until(&job_id, Status::Running).await.job.session_id;
    let held = world.proxy.asked::<AcquireJobsRequest>("AcquireJobs").len();

    worker.stop.cancel();
    // The worker repeats the call under its number.
    eventually("the worker asks what it was given", async || {
        (world.proxy.asked::<AcquireJobsRequest>("AcquireJobs").len() > held).then_some(())
    })
    .await;
    world.proxy.hold_answers(None);
    // The session lives on for the grace, and the job is released before its end.
    let back = world.until(&job_id, Status::Pending).await;
    assert_eq!((history(&back), back.job.attempt_count), (vec!["released"], 0));
    assert_eq!(world.client.get(&long).await.unwrap().job.session_id, leased_to);
    let asked = world.proxy.asked::<AcquireJobsRequest>("AcquireJobs");
    assert_eq!(asked[held].acquire_no, asked[held - 1].acquire_no);
    worker.ended.abort();
}

#[tokio::test]
async fn a_worker_that_comes_before_its_server_waits_for_it() {
    let world = World::new().await;
    world.proxy.set_away(true);
    let worker = Running::start(world.worker().handler("email", |_, _: Value| async { Ok(()) }));
    let jobs = world.client.submit_many((0..3).map(|_| job("email"))).await.unwrap();
    world.proxy.has_refused("RegisterSession").await;
    world.proxy.set_away(false);
    for job in &jobs {
        assert_eq!(world.finished(&job.job_id).await.job.status(), Status::Done);
    }
    worker.stop().await;
}
