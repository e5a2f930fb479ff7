//! gRPC half of the router: the services, and the handling around each call.

use std::{
    convert::Infallible,
    panic::AssertUnwindSafe,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    BoxError, Router,
    body::{Body, Bytes, HttpBody},
    extract::Request,
    middleware,
    response::Response,
};
use futures::{FutureExt as _, StreamExt as _, future::BoxFuture};
use http::{
    Uri,
    header::{HeaderName, HeaderValue},
};
use http_body_util::{BodyStream, StreamBody};
use jobqueue_shared::{
    limits,
    proto::{
        FILE_DESCRIPTOR_SET,
        v1::{
            admin_service_server::AdminServiceServer, error_service_server::ErrorServiceServer,
            job_service_server::JobServiceServer, operation_service_server::OperationServiceServer,
            worker_service_server::WorkerServiceServer,
        },
    },
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, codec::CompressionEncoding::Gzip, service::Routes};
use tonic_health::{pb::health_server::HealthServer, server::HealthReporter};
use tower::{Layer as _, Service, ServiceExt as _};

use super::{
    admin_service::AdminService,
    deadline,
    error_service::ErrorService,
    errors, gzip,
    health_service::Endpoint,
    job_service::JobService,
    operation_service,
    operation_service::OperationService,
    request_body::{Reading, RequestBody},
    response_body::{Encoded, ResponseBody, encode},
    worker_service::WorkerService,
};
use crate::{clock::DisplayClock, queue::Queue, transport::activity::Activity};

/// Maximum size in bytes of a request to a service that takes only names.
const NAMES: usize = 64 * 1024;
/// Maximum time for a call, a long poll included. It also ends requests whose body never arrives.
const CALL: Duration = Duration::from_millis(2 * limits::ACQUIRE_WAIT_MS as u64);

/// Header of gRPC-web answers with the server's time, in milliseconds since 1970.
pub const TIME_HEADER: HeaderName = HeaderName::from_static("jobqueue-time-ms");

/// Builds all services.
pub fn routes(
    queue: &Arc<Queue>,
    reporter: HealthReporter,
    draining: &CancellationToken,
    reading: Reading,
) -> anyhow::Result<Calls> {
    let mut services = Routes::builder();
    macro_rules! add {
        ($service:expr, $limit:expr) => {
            services.add_service($service.max_decoding_message_size($limit).accept_compressed(Gzip))
        };
    }
    add!(JobServiceServer::new(JobService(Arc::clone(queue))), reading.message);
    add!(WorkerServiceServer::new(WorkerService(Arc::clone(queue))), reading.message);
    add!(AdminServiceServer::new(AdminService(Arc::clone(queue))), reading.message);
    add!(ErrorServiceServer::new(ErrorService(Arc::clone(queue))), reading.message);
    add!(OperationServiceServer::new(OperationService(Arc::clone(queue))), reading.message);
    add!(HealthServer::new(Endpoint::new(reporter, draining.clone())), NAMES);
    add!(reflection().build_v1()?, NAMES);
    add!(reflection().build_v1alpha()?, NAMES);
    Ok(Calls::new(services.routes().into_axum_router(), draining.clone(), reading, Arc::clone(&queue.context.clock)))
}

fn reflection() -> tonic_reflection::server::Builder<'static> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
}

/// Services with the handling around every call. That is one function instead of layers, because each layer of axum's
/// copies everything below it at every call (docs/performance.md).
#[derive(Clone)]
pub struct Calls {
    services: Router,
    draining: CancellationToken,
    reading: Reading,
    clock: Arc<DisplayClock>,
}

impl Calls {
    fn new(services: Router, draining: CancellationToken, reading: Reading, clock: Arc<DisplayClock>) -> Self {
        let none = |uri: Uri| async move { errors::no_such_method(uri.path()).into_http::<Body>() };
        Self { services: services.fallback(none), draining, reading, clock }
    }

    /// Router of the services for gRPC-web. Each answer carries the server's time, so that ages and due times on a page
    /// do not depend on the browser's clock.
    pub fn for_web(&self) -> Router {
        let clock = Arc::clone(&self.clock);
        let timed = move |mut response: Response| {
            response.headers_mut().insert(TIME_HEADER, HeaderValue::from(clock.now_ms()));
            std::future::ready(response)
        };
        Router::new()
            .fallback_service(tonic_web::GrpcWebLayer::new().layer(self.clone()))
            .layer(middleware::map_response(timed))
    }

    /// Answers a gRPC call, also if it panics, times out or exceeds the budget.
    pub(crate) async fn answer<B>(self, request: http::Request<B>, activity: Option<Arc<Activity>>) -> Response
    where
        B: HttpBody<Data = Bytes> + Unpin + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { services, draining, reading, .. } = self;
        let under_way = activity.as_ref().map(Activity::call);
        let budget = Arc::clone(&reading.budget);
        let gzip = gzip::accepted(request.headers());
        let streams = request.uri().path().starts_with("/grpc.reflection.");
        let mut request = request.map(|body| Body::new(RequestBody::new(body, reading, streams)));
        if streams {
            request = end_stream(request, draining);
        }
        operation_service::note_caller(&mut request, activity.as_deref());
        let deadline = deadline::observe(&mut request, CALL);
        let uri = request.uri().clone();
        let called = AssertUnwindSafe(services.oneshot(request)).catch_unwind();
        let response = match deadline::within(deadline, called).await {
            Some(Ok(Ok(response))) => sized(response, uri.path()),
            Some(Err(_)) => return errors::panicked().into_http(),
            None => return errors::deadline().into_http(),
        };
        let (mut head, mut body) = response.into_parts();
        let encoded = std::future::poll_fn(|cx| Poll::Ready(encode(&mut body, &budget, cx))).await;
        let encoded = match encoded {
            Ok(Encoded::TooMuch) => return errors::no_memory().into_http(),
            Ok(Encoded::Frame(frame, permit)) if gzip => gzip::answer(&mut head.headers, frame, permit).await,
            Ok(encoded) => encoded,
            Err(_) => return errors::panicked().into_http(),
        };
        Response::from_parts(head, Body::new(ResponseBody::new(encoded, body, budget, activity, under_way)))
    }
}

impl<B> Service<http::Request<B>> for Calls
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: http::Request<B>) -> Self::Future {
        let activity = request.extensions_mut().remove::<Arc<Activity>>();
        self.clone().answer(request.map(Body::new), activity).map(Ok).boxed()
    }
}

/// Replaces errors of tonic's decoder by INVALID_ARGUMENT: OUT_OF_RANGE for a message above the limit,
/// RESOURCE_EXHAUSTED for one that exceeds it when it is decompressed, and INTERNAL for one that cannot be decompressed
/// or decoded.
fn sized(response: Response, path: &str) -> Response {
    let Some(status) = response.headers().get(Status::GRPC_STATUS) else { return response };
    let is = |code: Code| *status == HeaderValue::from(code as u16);
    let message = response.headers().get(Status::GRPC_MESSAGE).map_or(&[][..], HeaderValue::as_bytes);
    let unpacking = message.starts_with(b"Error%20decompressing");
    if is(Code::OutOfRange) || unpacking && is(Code::ResourceExhausted) {
        return errors::too_large(path).into_http();
    }
    if unpacking && is(Code::Internal) {
        return Status::invalid_argument("the request is not in the encoding that grpc-encoding names").into_http();
    }
    // Beginnings of INTERNAL errors that are not the request's: the server's own text, and errors about answers.
    let own = ["internal%20error", "Error%20encoding", "Error%20compressing"];
    if is(Code::Internal) && !own.iter().any(|own| message.starts_with(own.as_bytes())) {
        let text = percent_encoding::percent_decode(message).decode_utf8_lossy();
        return errors::malformed(&text).into_http();
    }
    response
}

/// Ends the callers' half of reflection streams when the server drains; the services then end theirs.
fn end_stream(request: Request, draining: CancellationToken) -> Request {
    request.map(|body| Body::new(StreamBody::new(BodyStream::new(body).take_until(draining.cancelled_owned()))))
}

#[cfg(test)]
mod tests {
    use axum::routing::post;
    use http::{Method, header};
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::transport::budget::Budget;

    async fn call(path: &str, content_type: &str, timeout: &str) -> Response {
        let services = Router::new()
            .route("/s/panics", post(async || -> Response { panic!("on purpose") }))
            .route("/s/never", post(async || std::future::pending::<Response>().await))
            .route("/s/SubmitJob", post(async || Status::out_of_range("too large").into_http::<Body>()));
        let request = Request::builder()
            .version(http::Version::HTTP_2)
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, content_type)
            .header(header::ACCEPT, content_type)
            .header("grpc-timeout", timeout)
            .body(Body::empty())
            .unwrap();
        let budget = Budget::new(1024 * 1024);
        let reading = Reading { budget, patience: Duration::from_secs(10), message: 1024 * 1024 };
        Calls::new(services, CancellationToken::new(), reading, Arc::default())
            .for_web()
            .oneshot(request)
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn whatever_goes_wrong_is_answered_in_the_callers_protocol() {
        for content_type in ["application/grpc", "application/grpc-web+proto", "application/grpc-web-text+proto"] {
            for (path, code) in [
                ("/s/panics", Code::Internal),
                ("/s/never", Code::DeadlineExceeded),
                ("/s/SubmitJob", Code::InvalidArgument),
                ("/s/other", Code::Unimplemented),
                ("/other/method", Code::Unimplemented),
            ] {
                let response = call(path, content_type, "50m").await;
                assert_eq!(response.status(), http::StatusCode::OK);
                assert_eq!(response.headers()[header::CONTENT_TYPE], content_type, "{path}");
                let status = Status::from_header_map(response.headers()).unwrap();
                assert_eq!(status.code(), code, "{path} {content_type}");
                let time: i64 = response.headers()[TIME_HEADER].to_str().unwrap().parse().unwrap();
                assert!(time > 1_600_000_000_000, "{path}");
            }
        }
    }

    #[tokio::test]
    async fn a_request_too_large_to_read_names_the_field_that_made_it_so() {
        let response = call("/s/SubmitJob", "application/grpc", "1S").await;
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.get_details_bad_request().unwrap().field_violations[0].field, "payload_json");
    }
}
