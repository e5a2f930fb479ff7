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
//! Public items, in reading order: [`Client`] and [`NewJob`] submit and read jobs; a [`Handler`] runs one with a
//! [`Context`], and fails with a [`HandlerError`]; [`WorkerBuilder`] builds a [`Worker`].
//!
//! Internal modules: `runner` keeps a `session` alive (`heartbeat`), fills free `slots` with jobs (`acquire`), runs
//! each (`execute`) and sends their outcomes (`settle`, `progress`); `takeover` finds earlier runs that died.
//! `channel`, `backoff` and `connectivity` handle calls to a server that may be away.

mod acquire;
mod backoff;
mod builder;
mod channel;
mod client;
mod connectivity;
mod context;
mod error;
mod execute;
mod handler;
mod heartbeat;
mod job;
mod new_job;
mod progress;
mod runner;
mod session;
mod settle;
mod slots;
mod takeover;

pub use builder::{BuildError, WorkerBuilder};
pub use client::{Client, JobDetails, JobFilter, Page, Submitted};
pub use context::{Context, StopReason};
pub use error::{Error, FieldViolation};
pub use handler::{Handler, HandlerError, HandlerResult, Output};
pub use job::{Job, JobExt, Status};
pub use new_job::{NewJob, RetryPolicy};
pub use runner::{RunError, Worker};

/// The generated messages of `proto/jobqueue/v1`.
pub use jobqueue_shared::proto::v1 as proto;

/// The published limits: sizes in bytes, times in milliseconds.
pub use jobqueue_shared::limits;
