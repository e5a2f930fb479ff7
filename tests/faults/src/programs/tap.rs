//! Proxy between the library and its server, in the worker's own process: it records every call and answer, and passes
//! them on byte for byte, so that the library is used unchanged.

use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, HeaderValue, request::Parts};
use http_body_util::{BodyExt as _, Full};
use jobqueue_shared::proto::v1::{
    AcquireJobsRequest, AcquireJobsResponse, EndSessionRequest, HeartbeatRequest, RegisterSessionRequest,
    RegisterSessionResponse, SettleJobsRequest, SettleJobsResponse,
};
use prost::Message;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Status, transport::Channel};
use tower::{Service as _, ServiceExt as _};

use super::{calls, scribe::Scribe};

/// Length of the gRPC header before each message, in bytes.
const FRAMING: usize = 5;

pub(super) struct Tap {
    pub endpoint: String,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Clone)]
struct Wire {
    server: Channel,
    scribe: Scribe,
}

/// Answer of the server, unchanged.
struct Answer {
    headers: HeaderMap,
    body: Bytes,
    trailers: Option<HeaderMap>,
}

impl Tap {
    pub(super) async fn before(server: Channel, scribe: Scribe) -> anyhow::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let endpoint = format!("http://{}", listener.local_addr()?);
        let router = Router::new().fallback(pass).with_state(Wire { server, scribe });
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the tap has ended");
            }
        });
        Ok(Self { endpoint, _serving: AbortOnDropHandle::new(serving) })
    }
}

async fn pass(State(wire): State<Wire>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let method = parts.uri.path().rsplit('/').next().unwrap_or_default().to_owned();
    // A request whose client goes away before its end is not a call.
    let Ok(body) = to_bytes(body, usize::MAX).await else { return failed(&Status::cancelled("half a request")) };
    let call = wire.asked(&method, &body);
    // When the client goes away while it waits for the answer, this future is dropped and the call's result stays
    // unknown.
    let answer = wire.send(parts, body.clone()).await;
    wire.answered(&method, call, &body, &answer);
    match answer {
        Ok(answer) => answer.into_response(),
        Err(status) => failed(&status),
    }
}

impl Wire {
    async fn send(&self, parts: Parts, body: Bytes) -> Result<Answer, Status> {
        let mut server = self.server.clone();
        let request = Request::from_parts(parts, tonic::body::Body::new(Body::from(body)));
        let away = |error: tonic::transport::Error| Status::unavailable(format!("no answer: {error:?}"));
        let answer = server.ready().await.map_err(away)?.call(request).await.map_err(away)?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await?;
        let trailers = body.trailers().cloned();
        Ok(Answer { headers: parts.headers, body: body.to_bytes(), trailers })
    }

    fn asked(&self, method: &str, body: &[u8]) -> u64 {
        match (method, message::<SettleJobsRequest>(body)) {
            ("SettleJobs", Some(request)) => self.scribe.settling(&request),
            _ => 0,
        }
    }

    fn answered(&self, method: &str, call: u64, body: &[u8], answer: &Result<Answer, Status>) {
        let status = match answer {
            Ok(answer) => answer.status(),
            Err(status) => Some(status.clone()),
        };
        let reply = answer.as_ref().map(|answer| &answer.body[..]).unwrap_or_default();
        match method {
            "RegisterSession" if status.is_none() => {
                if let Some((request, reply)) = both::<RegisterSessionRequest, RegisterSessionResponse>(body, reply) {
                    self.scribe.registered(&request, &reply);
                }
            }
            "AcquireJobs" if status.is_none() => {
                if let Some((request, reply)) = both::<AcquireJobsRequest, AcquireJobsResponse>(body, reply) {
                    self.scribe.acquired(&request, &reply);
                }
            }
            "Heartbeat" if status.as_ref().is_some_and(calls::is_over) => {
                if let Some(request) = message::<HeartbeatRequest>(body) {
                    self.scribe.lost(&request.session_id);
                }
            }
            "SettleJobs" => {
                if let Some(request) = message::<SettleJobsRequest>(body) {
                    let reply = message::<SettleJobsResponse>(reply).unwrap_or_default();
                    self.scribe.settled(call, &request, status.as_ref().map_or(Ok(&reply), Err));
                }
            }
            "EndSession" if status.is_none() => {
                if let Some(request) = message::<EndSessionRequest>(body) {
                    self.scribe.ended(&request.session_id);
                }
            }
            _ => {}
        }
    }
}

impl Answer {
    /// Error of the answer; `None` for OK.
    fn status(&self) -> Option<Status> {
        let status = Status::from_header_map(&self.headers)
            .or_else(|| self.trailers.as_ref().and_then(Status::from_header_map))
            .unwrap_or_else(|| Status::unknown("an answer without an end"));
        (status.code() != tonic::Code::Ok).then_some(status)
    }

    fn into_response(self) -> Response<Body> {
        let trailers = self.trailers.map(Ok);
        let mut response = Response::new(Body::new(Full::new(self.body).with_trailers(async { trailers })));
        *response.headers_mut() = self.headers;
        response
    }
}

/// Answer to a call that broke off. The library handles it as a broken connection.
fn failed(status: &Status) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if status.add_header(headers).is_err() {
        headers.insert("grpc-status", HeaderValue::from_static("14"));
    }
    response
}

fn message<T: Message + Default>(body: &[u8]) -> Option<T> {
    T::decode(body.get(FRAMING..)?).ok()
}

fn both<Asked: Message + Default, Reply: Message + Default>(asked: &[u8], reply: &[u8]) -> Option<(Asked, Reply)> {
    Some((message(asked)?, message(reply)?))
}
