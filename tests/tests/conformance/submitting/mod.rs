//! Submitting jobs.

mod copies;
mod idempotency;
mod inline_job;
mod submit;
mod texts;
