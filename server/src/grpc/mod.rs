//! gRPC services: they pass each request to the queue, which checks it, and convert the result.
//!
//! Each service has a file; `health_service` is gRPC's standard one. `convert` makes the API's messages, and `errors`
//! its status. `routes` answers the calls of all methods, with `deadline`, `gzip`, `request_body` and `response_body`.

mod admin_service;
mod convert;
mod deadline;
mod error_service;
pub(crate) mod errors;
mod gzip;
pub mod health_service;
mod job_service;
mod operation_service;
pub mod request_body;
mod response_body;
pub mod routes;
mod worker_service;

use http::{HeaderMap, header};

/// Whether a request is gRPC or gRPC-web, by its content type.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"application/grpc"))
}
