//! The gRPC half of the router: the services, and what is done around each call.

use std::{any::Any, sync::Arc};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::Response,
};
use futures::StreamExt as _;
use http::{Uri, header::HeaderValue};
use http_body_util::{BodyStream, StreamBody};
use jobqueue_shared::{
    limits,
    proto::{
        FILE_DESCRIPTOR_SET,
        v1::{
            admin_service_server::AdminServiceServer, job_service_server::JobServiceServer,
            worker_service_server::WorkerServiceServer,
        },
    },
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, service::Routes};
use tonic_health::{pb::health_server::HealthServer, server::HealthReporter};
use tower_http::catch_panic::CatchPanicLayer;

use super::{
    admin_service::AdminService, deadline, errors, health::Endpoint, job_service::JobService,
    worker_service::WorkerService,
};
use crate::queue::Queue;

/// Every service, for gRPC and gRPC-web.
pub fn routes(queue: &Arc<Queue>, reporter: HealthReporter, draining: &CancellationToken) -> anyhow::Result<Router> {
    let mut services = Routes::builder();
    let limit = limits::REQUEST_BYTES;
    services
        .add_service(JobServiceServer::new(JobService(Arc::clone(queue))).max_decoding_message_size(limit))
        .add_service(WorkerServiceServer::new(WorkerService(Arc::clone(queue))).max_decoding_message_size(limit))
        .add_service(AdminServiceServer::new(AdminService(Arc::clone(queue))).max_decoding_message_size(limit))
        .add_service(HealthServer::new(Endpoint::new(reporter, draining.clone())))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(services
        .routes()
        .into_axum_router()
        .fallback(|uri: Uri| async move { errors::no_such_method(uri.path()).into_http::<Body>() })
        .layer(middleware::from_fn(too_large))
        .layer(middleware::from_fn_with_state(draining.clone(), end_streams))
        .layer(middleware::from_fn(deadline::observe))
        .layer(CatchPanicLayer::custom(|_: Box<dyn Any + Send>| errors::panicked().into_http::<Body>()))
        // Outermost: every answer so far is one of gRPC, which this makes one of gRPC-web for those who asked so.
        .layer(tonic_web::GrpcWebLayer::new()))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// tonic's decoder answers OUT_OF_RANGE to a message above the limit, and nothing here does: to callers it is a
/// field too large like any other.
async fn too_large(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let out_of_range = HeaderValue::from(Code::OutOfRange as u16);
    if response.headers().get(Status::GRPC_STATUS) == Some(&out_of_range) {
        return errors::too_large().into_http();
    }
    response
}

/// Ends the callers' half of reflection streams when the server drains; the services then end theirs.
async fn end_streams(State(draining): State<CancellationToken>, request: Request, next: Next) -> Response {
    if !request.uri().path().starts_with("/grpc.reflection.") {
        return next.run(request).await;
    }
    let request =
        request.map(|body| Body::new(StreamBody::new(BodyStream::new(body).take_until(draining.cancelled_owned()))));
    next.run(request).await
}
