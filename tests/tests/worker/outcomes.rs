//! Results of handlers, and how the server shows them.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use jobqueue_tests::poll::eventually;
use jobqueue_worker::{Context, HandlerError, JobExt as _, Status, StopReason, proto::dead_letter::Reason};
use serde_json::Value;
use tokio::sync::mpsc;

use crate::{Running, World, history, job};

#[tokio::test]
async fn a_payload_that_does_not_fit_is_a_dead_letter_at_once() {
    #[derive(serde::Deserialize)]
    struct Email {
        to: String,
    }
    let world = World::new().await;
    let worker = Running::start(world.worker().handler("email", |_, email: Email| async move { Ok(email.to) }));
    let ended = world.finished(&world.submit("email").await).await;
    assert_eq!(ended.job.failure_reason(), Reason::Permanent);
    assert!(ended.job.last_error.contains("missing field `to`"), "{}", ended.job.last_error);
    worker.stop().await;
}

#[tokio::test]
async fn a_panic_is_recorded_and_the_worker_goes_on() {
    let world = World::new().await;
    let panics = |context: Context, _: Value| async move {
        assert!(context.attempt() > 1, "attempt {}", context.attempt());
        Ok(context.attempt())
    };
    let worker = Running::start(world.worker().concurrency(1).handler("panics", panics));
    let ended = world.finished(&world.submit("panics").await).await;
    assert_eq!(ended.job.result::<u32>().unwrap(), Some(2));
    assert_eq!(ended.attempts[0].error, "panic: attempt 1");
    worker.stop().await;
}

#[tokio::test]
async fn a_result_that_is_too_large_does_not_undo_the_work() {
    let world = World::new().await;
    let worker = Running::start(world.worker().handler("large", |_, _: Value| async { Ok("x".repeat(100_000)) }));
    let ended = world.finished(&world.submit("large").await).await;
    assert_eq!((ended.job.status(), ended.job.result_json.as_str()), (Status::Done, ""));
    assert_eq!(ended.job.note, "result of 98 KiB dropped: the limit is 64 KiB");
    worker.stop().await;
}

#[tokio::test]
async fn a_snooze_uses_no_attempt_and_an_asked_for_pause_is_kept() {
    let world = World::new().await;
    let worker = Running::start(
        world
            .worker()
            .handler("early", |context: Context, _: Value| async move {
                if context.job().run_no < 3 {
                    return Err(HandlerError::snooze(Duration::from_millis(10), "not yet"));
                }
                Ok(context.attempt())
            })
            .handler("busy", |_, _: Value| async {
                Err::<(), _>(HandlerError::retry_after(Duration::from_hours(1), "full"))
            }),
    );
    let early = world.finished(&world.submit_with(job("early").max_retries(1)).await).await;
    assert_eq!((early.job.result().unwrap(), history(&early)), (Some(1), vec!["snoozed", "snoozed"]));

    let busy = world.submit("busy").await;
    let waiting = eventually("the job is retried later", async || {
        Some(world.client.get(&busy).await.unwrap()).filter(|it| it.job.last_error == "full")
    })
    .await;
    let pause = waiting.job.runs_at().unwrap().duration_since(waiting.job.updated().unwrap()).unwrap();
    assert!(pause > Duration::from_mins(55), "{pause:?}");
    worker.stop().await;
}

#[tokio::test]
async fn a_task_that_nobody_knows_waits_for_a_worker_that_does() {
    let world = World::new().await;
    let worker = Running::start(world.worker().handler("other", |_, _: Value| async { Ok(()) }));
    let job_id = world.submit("email").await;
    let waiting = eventually("the job waits for a handler", async || {
        Some(world.client.get(&job_id).await.unwrap()).filter(|it| it.job.waits_for_handler)
    })
    .await;
    assert_eq!((waiting.job.status(), waiting.job.attempt_count), (Status::Pending, 0));
    worker.stop().await;

    let knows = Running::start(world.worker().handler("email", |_, _: Value| async { Ok("sent") }));
    let ended = world.finished(&job_id).await;
    assert_eq!((ended.job.status(), ended.job.attempt_count), (Status::Done, 1));
    assert_eq!(history(&ended), ["no_handler"]);
    knows.stop().await;
}

#[tokio::test]
async fn a_timeout_stops_the_handler_and_is_called_one() {
    let world = World::new().await;
    let (stopped, mut reasons) = mpsc::unbounded_channel();
    let worker = Running::start(world.worker().handler("hangs", move |context: Context, _: Value| {
        let stopped = stopped.clone();
        async move {
            context.cancelled().await;
            stopped.send(context.stop_reason()).unwrap();
            Err::<(), _>(HandlerError::retry("was stopped"))
        }
    }));
    let hanging = job("hangs").attempt_timeout(Duration::from_millis(100)).max_retries(1);
    let ended = world.finished(&world.submit_with(hanging).await).await;
    assert_eq!(ended.job.failure_reason(), Reason::TimedOut);
    assert_eq!(history(&ended), ["timed_out"]);
    assert_eq!(reasons.recv().await, Some(Some(StopReason::TimedOut)));
    worker.stop().await;
}

#[tokio::test]
async fn progress_is_shown_and_a_cancel_is_heard_before_the_next_heartbeat() {
    let world = World::new().await;
    let (stopped, mut reasons) = mpsc::unbounded_channel();
    let worker = Running::start(world.worker().lease_time(Duration::from_hours(1)).handler(
        "film",
        move |context: Context, _: Value| {
            let stopped = stopped.clone();
            async move {
                while !context.is_cancelled() {
                    context.progress(0.5, "half");
                    tokio::task::yield_now().await;
                }
                stopped.send(context.stop_reason()).unwrap();
                Ok(())
            }
        },
    ));
    let job_id = world.submit("film").await;
    let progress = eventually("the progress is shown", async || world.client.get(&job_id).await.unwrap().job.progress);
    assert_eq!(progress.await.message, "half");
    world.client.cancel(&job_id, "enough").await.unwrap();
    let reason = tokio::time::timeout(jobqueue_tests::poll::PATIENCE, reasons.recv()).await.unwrap();
    assert_eq!(reason, Some(Some(StopReason::Cancelled)));
    worker.stop().await;
    // A result that is returned after the stop is not sent.
    let ended = world.client.get(&job_id).await.unwrap();
    assert_eq!((ended.job.status(), history(&ended)), (Status::Cancelled, vec!["cancelled"]));
}

#[tokio::test]
async fn a_cancel_is_heard_at_once_while_the_worker_waits_for_more_jobs() {
    let world = World::new().await;
    let (events, mut heard) = mpsc::unbounded_channel();
    // The next heartbeat is twenty minutes away.
    let worker = Running::start(world.worker().lease_time(Duration::from_hours(1)).concurrency(2).handler(
        "film",
        move |context: Context, _: Value| {
            let events = events.clone();
            async move {
                events.send(None).unwrap();
                context.cancelled().await;
                events.send(context.stop_reason()).unwrap();
                Ok(())
            }
        },
    ));
    world.waits_for_jobs(0).await;
    for _ in 0..3 {
        let looks = world.server.acquire_count().await;
        let job_id = world.submit("film").await;
        assert_eq!(heard.recv().await, Some(None), "it runs");
        // The parked poll has returned the job; this waits for the next one.
        world.waits_for_jobs(looks).await;
        world.client.cancel(&job_id, "enough").await.unwrap();
        let reason = tokio::time::timeout(jobqueue_tests::poll::PATIENCE, heard.recv()).await.unwrap();
        assert_eq!(reason, Some(Some(StopReason::Cancelled)));
        let ended = world.client.get(&job_id).await.unwrap();
        assert_eq!((ended.job.status(), history(&ended)), (Status::Cancelled, vec!["cancelled"]));
    }
    worker.stop().await;
}

#[tokio::test]
async fn no_more_jobs_run_at_once_than_allowed() {
    let world = World::new().await;
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let counted = (Arc::clone(&running), Arc::clone(&most));
    let worker = Running::start(world.worker().concurrency(3).handler("counted", move |_, _: Value| {
        let (running, most) = counted.clone();
        async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            Ok(())
        }
    }));
    let jobs = world.client.submit_many((0..50).map(|_| job("counted"))).await.unwrap();
    for job in jobs {
        world.finished(&job.job_id).await;
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
    worker.stop().await;
}
