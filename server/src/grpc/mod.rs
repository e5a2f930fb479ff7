//! gRPC services: they parse requests, call the queue and convert results, nothing more.
//!
//! Each service has a file. `convert` makes the API's messages, and `errors` its status. `deadline`, `gzip`, `health`
//! and `routes` serve all methods.

mod admin_service;
mod convert;
mod deadline;
pub(crate) mod errors;
mod gzip;
pub mod health;
mod job_service;
pub mod routes;
mod worker_service;
