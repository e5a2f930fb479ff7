//! Submitting jobs.

mod idempotency;
mod inline_job;
mod submit;
mod texts;
