//! Router of both listeners: gRPC and gRPC-web by content type, everything else by path.

use std::sync::Arc;

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, header};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;
use tower_http::{
    catch_panic::CatchPanicLayer,
    cors::{AllowOrigin, CorsLayer},
};
use tracing::{Instrument as _, debug_span};

use crate::{
    background::health::Readiness,
    config::Serve,
    dashboard::{self, Files},
    grpc::{
        self,
        routes::{self, Calls},
    },
    guard,
    metrics::Scrape,
    transport::{activity::Activity, serve::Answer},
};

/// State of the HTTP routes.
#[derive(Clone)]
pub struct Http {
    pub scrape: Arc<Scrape>,
    pub readiness: watch::Receiver<Readiness>,
    pub dashboard: Arc<Files>,
}

/// Content security policy: pages may load from and call only this server, and no other page may frame them.
/// WebAssembly needs 'wasm-unsafe-eval'.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; \
     img-src 'self' data:; font-src 'self'; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// Response headers that pages of allowed origins may read: those of gRPC-web, and the server's time.
const GRPC_HEADERS: [HeaderName; 5] = [
    HeaderName::from_static("grpc-encoding"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status-details-bin"),
    routes::TIME_HEADER,
];

/// Builds the router. `under_way` counts calls under way.
pub fn router(grpc: Calls, http: Http, config: &Serve, under_way: &TaskTracker) -> anyhow::Result<Entrance> {
    let pages = Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(readyz))
        .fallback(async |State(http): State<Http>, request: Request| dashboard::serve(&http.dashboard, &request))
        .with_state(http)
        .layer(CatchPanicLayer::new())
        .layer(middleware::from_fn(secured));
    let mut router = pages
        .layer(middleware::from_fn_with_state(grpc.for_web(), by_content_type))
        .layer(guard::cross_site(&config.cors_origins)?);
    if !config.cors_origins.is_empty() {
        router = router.layer(cors(config));
    }
    let guarded = router.layer(middleware::from_fn_with_state(guard::Hosts::new(config), guard::rebinding));
    Ok(Entrance { grpc, rest: guarded, under_way: under_way.clone() })
}

/// Entry point of requests: programs' gRPC calls go directly to the services, all other requests through the guards
/// against pages of other sites, whose layers would be copied at every call.
#[derive(Clone)]
pub struct Entrance {
    grpc: Calls,
    rest: Router,
    under_way: TaskTracker,
}

impl Answer for Entrance {
    async fn answer(&self, request: http::Request<Incoming>, activity: &Arc<Activity>) -> Response {
        let _under_way = self.under_way.token();
        let span = debug_span!("request", method = %request.method(), path = request.uri().path());
        if is_of_a_program(&request) {
            return self.grpc.clone().answer(request, Some(Arc::clone(activity))).instrument(span).await;
        }
        let _call = activity.call();
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Arc::clone(activity));
        let Ok(response) = self.rest.clone().oneshot(request).instrument(span).await;
        response
    }
}

/// Whether a request is gRPC over HTTP/2 without an origin, and so comes from a program: a browser sends an origin with
/// every request that changes something.
fn is_of_a_program<B>(request: &http::Request<B>) -> bool {
    let headers = request.headers();
    request.version() == Version::HTTP_2
        && grpc::is_grpc(headers)
        && !headers.contains_key(header::ORIGIN)
        && !headers.contains_key("sec-fetch-site")
        && !headers.get(header::CONTENT_TYPE).is_some_and(|it| it.as_bytes().starts_with(b"application/grpc-web"))
}

/// Middleware that sends requests to gRPC by content type. The paths alone do not reach the methods: a page of another
/// site cannot send gRPC's content types without being allowed to by CORS first.
async fn by_content_type(State(grpc): State<Router>, request: Request, next: Next) -> Response {
    if grpc::is_grpc(request.headers()) {
        return grpc.oneshot(request).await.into_response();
    }
    next.run(request).await
}

async fn metrics(State(http): State<Http>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], http.scrape.render().await)
}

async fn readyz(State(http): State<Http>) -> impl IntoResponse {
    match *http.readiness.borrow() {
        Readiness::Ready => (StatusCode::OK, "ready\n".to_owned()),
        Readiness::StorageAway => (StatusCode::SERVICE_UNAVAILABLE, "the storage is unavailable\n".to_owned()),
        Readiness::WorkFails(work) => {
            (StatusCode::SERVICE_UNAVAILABLE, format!("background work goes on failing: {work}\n"))
        }
        Readiness::Draining => (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n".to_owned()),
    }
}

async fn secured(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn cors(config: &Serve) -> CorsLayer {
    let origins = config.cors_origins.iter().filter_map(|it| HeaderValue::from_str(it.as_str()).ok());
    CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::POST])
        .allow_headers([
            header::CONTENT_TYPE,
            HeaderName::from_static("x-grpc-web"),
            HeaderName::from_static("x-user-agent"),
            HeaderName::from_static("grpc-timeout"),
            HeaderName::from_static("grpc-encoding"),
            HeaderName::from_static("grpc-accept-encoding"),
        ])
        .expose_headers(GRPC_HEADERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_names_an_origin_or_speaks_as_a_browser_does_is_no_program() {
        let says = |version, content_type: &str, more: Option<&str>| {
            let request = Request::builder().version(version).header(header::CONTENT_TYPE, content_type);
            let request = more.into_iter().fold(request, |request, name| request.header(name, "x"));
            is_of_a_program(&request.body(Body::empty()).unwrap())
        };
        assert!(says(Version::HTTP_2, "application/grpc", None));
        assert!(says(Version::HTTP_2, "application/grpc+proto", None));
        assert!(!says(Version::HTTP_11, "application/grpc", None));
        for content_type in ["application/grpc-web+proto", "application/json", "text/plain"] {
            assert!(!says(Version::HTTP_2, content_type, None), "{content_type}");
        }
        for name in ["origin", "sec-fetch-site"] {
            assert!(!says(Version::HTTP_2, "application/grpc", Some(name)), "{name}");
        }
    }
}
