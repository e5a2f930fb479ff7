//! Worker and client library of jobqueue: runs jobs, and submits them.
//!
//! ```no_run
//! use jobqueue_worker::{Context, HandlerError, Worker};
//!
//! #[derive(serde::Deserialize)]
//! struct Email {
//!     to: String,
//! }
//!
//! async fn send(context: Context, email: Email) -> Result<String, HandlerError> {
//!     Ok(format!("sent to {}, attempt {}", email.to, context.attempt()))
//! }
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let worker = Worker::builder("http://127.0.0.1:50051", "worker-1a").handler("email", send).concurrency(10).build()?;
//! worker.run(async { tokio::signal::ctrl_c().await.unwrap_or_default() }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Public items, in reading order: [`Client`] and [`NewJob`] submit and read jobs, [`Changes`] describes a copy of one; a [`Handler`] runs one with a
//! [`Context`], and fails with a [`HandlerError`]; [`WorkerBuilder`] builds a [`Worker`].
//!
//! Internal modules, each of which uses only those before it: `fields` converts fields of messages; `config`
//! is what a worker is built with; `connection` calls a server that may be away; `client` is
//! for programs that submit jobs; `handlers` has the handlers of a worker and the context of a job; `running_worker` is
//! the state that all parts of a worker share; `sessions` registers sessions and keeps their leases; `report` sends
//! outcomes and progress; `run` acquires jobs and runs them; `worker` serves one session after another; `builder`
//! builds it.

mod builder;
mod client;
mod config;
mod connection;
mod fields;
mod handlers;
mod report;
mod run;
mod running_worker;
mod sessions;
mod worker;

pub use builder::{BuildError, WorkerBuilder};
pub use client::{
    changes::Changes,
    error::{Error, FieldViolation},
    job::{Job, JobExt, Status},
    job_list::{JobCount, JobFilter, Page},
    job_service::{Client, JobDetails, Submitted},
    new_job::NewJob,
    retry_policy::RetryPolicy,
};
pub use connection::tls::Tls;
pub use handlers::{
    context::Context,
    handler::{Handler, HandlerResult},
    handler_error::HandlerError,
    output::Output,
    stop::StopReason,
};
/// The published limits: sizes in bytes, times in milliseconds.
pub use jobqueue_shared::limits;
/// The generated messages of `proto/jobqueue/v1`.
pub use jobqueue_shared::proto::v1 as proto;
pub use worker::{RunError, Worker};
