//! Example: the ways in which a handler fails (retry, snooze, permanent failure, panic), and the retry of a dead
//! letter.
//!
//! `cargo run --example errors`, with a server on <http://127.0.0.1:50051> or at the address in `JOBQUEUE_SERVER`.

use std::{
    env,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use jobqueue_worker::{Client, Context, HandlerError, JobDetails, JobFilter, NewJob, RetryPolicy, Status, Worker};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

const WORKER_ID: &str = "example-errors";

static REPAIRED: AtomicBool = AtomicBool::new(false);

/// Fails twice with an I/O error. Any `std::error::Error` converts to a retryable `HandlerError`, so `?` works.
async fn flaky(context: Context, _payload: Value) -> Result<u32, HandlerError> {
    if context.attempt() < 3 {
        std::fs::read("/no/such/file")?;
    }
    Ok(context.attempt())
}

async fn early(context: Context, _payload: Value) -> Result<(), HandlerError> {
    if context.job().run_no == 1 {
        return Err(HandlerError::snooze(Duration::from_millis(200), "the report is not there yet"));
    }
    Ok(())
}

async fn broken(_context: Context, _payload: Value) -> Result<&'static str, HandlerError> {
    if REPAIRED.load(Ordering::Relaxed) {
        return Ok("works now");
    }
    Err(HandlerError::permanent("the account is closed"))
}

async fn panicking(_context: Context, payload: Vec<u32>) -> Result<u32, HandlerError> {
    Ok(payload[3])
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = env::var("JOBQUEUE_SERVER").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let stop = CancellationToken::new();
    let worker = Worker::builder(&server, WORKER_ID)
        .handler("flaky", flaky)
        .handler("early", early)
        .handler("broken", broken)
        .handler("panicking", panicking)
        .build()?;
    let working = tokio::spawn(worker.run(stop.clone().cancelled_owned()));

    let client = Client::connect(&server)?;
    let quickly = RetryPolicy::new().initial(Duration::from_millis(100)).jitter(0.0);
    let job = |task: &str| NewJob::new(WORKER_ID, &json!([1, 2])).task(task).retry_policy(quickly);
    let jobs = ["flaky", "early", "broken"].map(job).into_iter().chain([job("panicking").max_retries(1)]);
    let submitted = client.submit_many(jobs).await?;
    for job in &submitted {
        let ended = wait(&client, &job.job_id).await?;
        print(&ended);
    }

    let dead = client.list(JobFilter::new().worker_id(WORKER_ID).status(Status::Failed)).await?;
    println!("dead letters: {}", dead.jobs.len());
    REPAIRED.store(true, Ordering::Relaxed);
    client.retry(&submitted[2].job_id).await?;
    print(&wait(&client, &submitted[2].job_id).await?);
    let events = client.timeline(&submitted[2].job_id).await?;
    let told: Vec<_> = events.iter().map(|event| event.kind().as_str_name()).collect();
    println!("its timeline: {}", told.join(", "));

    stop.cancel();
    working.await??;
    Ok(())
}

async fn wait(client: &Client, job_id: &str) -> anyhow::Result<JobDetails> {
    Ok(tokio::time::timeout(Duration::from_mins(1), client.wait_until_finished(job_id)).await??)
}

fn print(ended: &JobDetails) {
    let job = &ended.job;
    let history: Vec<_> = ended.attempts.iter().rev().map(|attempt| attempt.outcome().as_str_name()).collect();
    println!(
        "{} is {} after {} attempt(s), history [{}], result {:?}, last error {:?}",
        job.task,
        job.status().as_str_name(),
        job.attempt_count,
        history.join(", "),
        job.result_json,
        job.last_error
    );
}
