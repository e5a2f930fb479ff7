//! Example: a long job that reports its progress and stops when it is cancelled.
//!
//! `cargo run --example cancel`, with a server on <http://127.0.0.1:50051> or at the address in `JOBQUEUE_SERVER`.

use std::{env, time::Duration};

use jobqueue_worker::{Client, Context, HandlerError, NewJob, Worker};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const WORKER_ID: &str = "example-cancel";

#[derive(Serialize, Deserialize)]
struct Film {
    minutes: u32,
}

/// Encodes a film in steps, and stops between them when the job is cancelled.
async fn encode(context: Context, film: Film) -> Result<String, HandlerError> {
    for minute in 1..=film.minutes {
        context.progress(f64::from(minute) / f64::from(film.minutes), format!("minute {minute} of {}", film.minutes));
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
            () = context.cancelled() => return Err(HandlerError::retry("stopped half-way")),
        }
    }
    Ok("film.mp4".to_owned())
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = env::var("JOBQUEUE_SERVER").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let stop = CancellationToken::new();
    let (stopped, mut reasons) = mpsc::channel(1);
    let worker = Worker::builder(&server, WORKER_ID)
        .handler("encode", move |context: Context, film| {
            let stopped = stopped.clone();
            async move {
                let result = encode(context.clone(), film).await;
                if let Some(reason) = context.stop_reason() {
                    let _ = stopped.send(reason).await;
                }
                result
            }
        })
        // A cancel reaches the handler with the answer to an open acquire call, or else with the next heartbeat, which
        // is sent after a third of the lease time at most.
        .lease_time(Duration::from_secs(5))
        .build()?;
    let working = tokio::spawn(worker.run(stop.clone().cancelled_owned()));

    let client = Client::connect(&server)?;
    let job_id = client.submit(NewJob::new(WORKER_ID, &Film { minutes: 10_000 }).task("encode")).await?.job_id;
    let progress = loop {
        if let Some(progress) = client.get(&job_id).await?.job.progress {
            break progress;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    println!("progress: {}", progress.message);

    let job = client.cancel(&job_id, "nobody wants to see it").await?;
    println!("{}: {}", job.status().as_str_name(), job.note);
    let reason = tokio::time::timeout(Duration::from_mins(1), reasons.recv()).await?;
    println!("the handler was told: {reason:?}");

    stop.cancel();
    working.await??;
    Ok(())
}
