//! Handlers that block the threads of their runtime.

use std::{sync::mpsc, time::Duration};

use jobqueue_shared::proto::v1::{ListWorkersRequest, WorkerSession};
use jobqueue_tests::poll::eventually;
use jobqueue_worker::{Status, Worker};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::{WORKER_ID, World, history};

async fn sessions(world: &World) -> Vec<WorkerSession> {
    let request = ListWorkersRequest { worker_id: WORKER_ID.to_owned(), ..ListWorkersRequest::default() };
    world.server.api().admin().list_workers(request).await.unwrap().into_inner().sessions
}

#[tokio::test(flavor = "multi_thread")]
async fn handlers_that_block_every_thread_for_longer_than_the_lease_run_once() {
    let world = World::new().await;
    let (started, starts) = mpsc::channel();
    let (go, waits) = mpsc::channel::<()>();
    let waits = std::sync::Arc::new(std::sync::Mutex::new(waits));
    let worker = Worker::builder(world.server.endpoint(), WORKER_ID)
        .lease_time(Duration::from_secs(5))
        .concurrency(4)
        .handler("blocks", move |_, _: Value| {
            let (started, waits) = (started.clone(), waits.clone());
            async move {
                started.send(()).unwrap();
                let _ = waits.lock().unwrap().recv();
                Ok("once")
            }
        })
        .build()
        .unwrap();
    let stop = CancellationToken::new();
    let stopped = stop.clone().cancelled_owned();
    let running = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async { tokio::spawn(worker.run(stopped)).await.unwrap() })
    });
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(world.submit_with(crate::job("blocks").max_retries(1)).await);
    }
    let starts = tokio::task::spawn_blocking(move || {
        starts.recv().unwrap();
        starts.recv().unwrap();
        starts
    });
    let starts = starts.await.unwrap();
    // The session lives for longer than its lease after that.
    let kept_until = |session: &WorkerSession| session.expires_at.unwrap().seconds;
    let before = kept_until(&sessions(&world).await[0]);
    eventually("the lease is kept", async || (kept_until(&sessions(&world).await[0]) > before + 6).then_some(())).await;
    drop(go);
    for job_id in jobs {
        let ended = world.finished(&job_id).await;
        assert_eq!((ended.job.status(), history(&ended)), (Status::Done, vec![]));
        assert_eq!((ended.job.run_no, ended.job.attempt_count), (1, 1));
    }
    assert_eq!(sessions(&world).await.len(), 1);
    assert_eq!(starts.try_iter().count(), 2, "the third and the fourth");
    stop.cancel();
    tokio::task::spawn_blocking(move || running.join().unwrap().unwrap()).await.unwrap();
}
