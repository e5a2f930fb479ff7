//! Server whose SubmitJob does nothing, with tonic, jobqueue's messages and its HTTP/2 settings.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::Arc,
    task::{Context, Poll},
};

use anyhow::Result;
use futures::StreamExt as _;
use jobqueue_server::transport::listen::{self, Connection};
use jobqueue_shared::proto::v1::{SubmitJobRequest, SubmitJobResponse};
use tokio::{net::TcpListener, sync::Semaphore};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::BoxFuture,
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;
use tower::Service;

use super::parent::Parent;

/// HTTP/2 windows in bytes, as the server sets them.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;

/// Service that answers SubmitJob with an id, and stores nothing.
#[derive(Clone)]
struct Echo;

impl NamedService for Echo {
    const NAME: &'static str = "jobqueue.v1.JobService";
}

impl UnaryService<SubmitJobRequest> for Echo {
    type Response = SubmitJobResponse;
    type Future = Ready<Result<Response<SubmitJobResponse>, Status>>;

    fn call(&mut self, _: Request<SubmitJobRequest>) -> Self::Future {
        let job_id = "00000000-0000-7000-8000-000000000000".to_owned();
        ready(Ok(Response::new(SubmitJobResponse { job_id, deduplicated: false })))
    }
}

impl Service<http::Request<Body>> for Echo {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(Echo, request).await) })
    }
}

pub(crate) async fn play(mut parent: Parent) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let permits = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
    parent.ready("echo").await?;
    Parent::send(&format!("http://{}", listener.local_addr()?))?;
    let connections = listen::incoming(listener, permits);
    let incoming = connections.map(|(stream, place)| Ok::<_, Infallible>(Connection::new(stream, None, place)));
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(Echo)
        .serve_with_incoming_shutdown(incoming, async {
            let _ = parent.closed().await;
        })
        .await?;
    Parent::send(&"stopped")
}
