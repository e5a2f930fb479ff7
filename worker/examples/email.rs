//! Example: a typed handler, and a job followed from its submission to its result.
//!
//! `cargo run --example email`, with a server on <http://127.0.0.1:50051> or at the address in `JOBQUEUE_SERVER`.

use std::{env, time::Duration};

use jobqueue_worker::{Client, Context, HandlerError, JobExt as _, NewJob, Worker};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

#[derive(Serialize, Deserialize)]
struct Email {
    to: String,
    subject: String,
}

#[derive(Debug, Serialize, Deserialize)]
struct Receipt {
    message_id: String,
}

async fn send(context: Context, email: Email) -> Result<Receipt, HandlerError> {
    println!("sending {:?} to {}, attempt {}", email.subject, email.to, context.attempt());
    Ok(Receipt { message_id: format!("<1@{}>", email.to) })
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let server = env::var("JOBQUEUE_SERVER").unwrap_or_else(|_| "http://127.0.0.1:50051".to_owned());
    let stop = CancellationToken::new();
    let worker = Worker::builder(&server, "example-email").handler("email", send).build()?;
    let working = tokio::spawn(worker.run(stop.clone().cancelled_owned()));

    let client = Client::connect(&server)?;
    let email = Email { to: "ada@example.org".to_owned(), subject: "Hello".to_owned() };
    // A submit with a key that was used before gives the stored job, also when this program is started again.
    let hello = || NewJob::new("example-email", &email).task("email").idempotency_key("hello-ada").priority(1);
    let first = client.submit(hello()).await?;
    let second = client.submit(hello()).await?;
    println!("the second submit gave the same job: {}", second.deduplicated && first.job_id == second.job_id);

    let ended = tokio::time::timeout(Duration::from_mins(1), client.wait_until_finished(&first.job_id)).await??;
    let receipt: Option<Receipt> = ended.job.result()?;
    println!("{}: {receipt:?}", ended.job.status().as_str_name());

    stop.cancel();
    working.await??;
    Ok(())
}
