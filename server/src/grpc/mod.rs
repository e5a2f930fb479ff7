//! gRPC services: they pass each request to the queue, which checks it, and convert the result.
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

use http::{HeaderMap, header};

/// Whether a request is gRPC or gRPC-web, by its content type.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}
