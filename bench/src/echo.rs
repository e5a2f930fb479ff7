//! Minimum cost of a unary call: tonic, jobqueue's messages and HTTP/2 settings, and a service that does nothing.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::StreamExt as _;
use jobqueue_server::transport::listen;
use jobqueue_shared::connect::connector;
use jobqueue_shared::proto::v1::{SubmitJobRequest, SubmitJobResponse, job_service_client::JobServiceClient};
use tokio::{net::TcpListener, sync::Semaphore, task::JoinSet};
use tonic::{
    Request, Response, Status,
    body::Body,
    codegen::BoxFuture,
    server::{Grpc, NamedService, UnaryService},
    transport::{Channel, Endpoint, Server},
};
use tonic_prost::ProstCodec;
use tower::Service;

use crate::{
    child::{Child, Parent, Role},
    stats::{Percentiles, Times},
    submit::payload,
};

/// HTTP/2 windows in bytes, as the server sets them.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * STREAM_WINDOW;
const CALLERS_PER_CONNECTION: usize = 64;

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
    let places = Arc::new(Semaphore::new(Semaphore::MAX_PERMITS));
    parent.ready("echo").await?;
    Parent::say(&format!("http://{}", listener.local_addr()?))?;
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .add_service(Echo)
        .serve_with_incoming_shutdown(listen::incoming(listener, places).map(Ok::<_, Infallible>), async {
            let _ = parent.closed().await;
        })
        .await?;
    Parent::say(&"stopped")
}

/// Measures calls per second and their times, with `callers` callers at once.
pub async fn measure(callers: usize, time: Duration) -> Result<(f64, Percentiles)> {
    let mut server = Child::start(&Role::Echo).await?;
    server.go().await?;
    let endpoint = Endpoint::from_shared(server.line::<String>().await?)?;
    let connections = callers.div_ceil(CALLERS_PER_CONNECTION);
    let mut channels = Vec::new();
    for _ in 0..connections {
        channels.push(endpoint.connect_with_connector(connector(None)).await?);
    }
    let (count, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let mut calling = JoinSet::new();
    for caller in 0..callers {
        let channel = channels[caller % connections].clone();
        calling.spawn(call(channel, Arc::clone(&count), Arc::clone(&stop)));
    }
    // The first calls warm up.
    tokio::time::sleep(time / 4).await;
    let (from, begun) = (count.load(Ordering::Relaxed), Instant::now());
    tokio::time::sleep(time).await;
    let rate = (count.load(Ordering::Relaxed) - from) as f64 / begun.elapsed().as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    let mut times = Times::new()?;
    while let Some(caller) = calling.join_next().await {
        times.add(&caller??);
    }
    drop(channels);
    server.finish::<String>().await?;
    Ok((rate, times.summary()))
}

async fn call(channel: Channel, count: Arc<AtomicU64>, stop: Arc<AtomicBool>) -> Result<Times> {
    let mut api = JobServiceClient::new(channel);
    let mut times = Times::new()?;
    while !stop.load(Ordering::Relaxed) {
        let payload_json = payload(0, "", 64);
        let request = SubmitJobRequest { worker_id: "echo".to_owned(), payload_json, ..SubmitJobRequest::default() };
        let called = Instant::now();
        api.submit_job(request).await?;
        times.record(called.elapsed());
        count.fetch_add(1, Ordering::Relaxed);
    }
    Ok(times)
}
