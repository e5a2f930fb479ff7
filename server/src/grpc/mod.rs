//! gRPC: parses, calls the queue and converts; nothing more.
//!
//! One file a service; `convert` makes the API's messages, `errors` its errors. `deadline`, `gzip`,
//! `health` and `routes` are what every method shares.

mod admin_service;
mod convert;
mod deadline;
pub(crate) mod errors;
mod gzip;
pub mod health;
mod job_service;
pub mod routes;
mod worker_service;
