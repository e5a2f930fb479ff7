//! Peers that misbehave: they hold connections, do not end their requests, and do not read answers.

use std::{net::SocketAddr, time::Duration};

use futures::future::{join_all, select_all};
use h2::client::{ResponseFuture, SendRequest};
use http::HeaderMap;
use jobqueue_shared::proto::v1::{
    AcquireJobsResponse, GetJobRequest, GetMetricsRequest, ListJobsRequest, SubmitJobsRequest, SubmitJobsResponse,
    job::Status as State,
};
use jobqueue_tests::{
    api::job,
    database::Driver,
    poll::{PATIENCE, eventually},
    web::{self, Form, exchange, frame},
};
use prost::Message as _;
use prost::bytes::Bytes;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tonic::{Code, Status};

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID},
    faults::outage::tells_when_to_try_again,
};

const SUBMIT: &str = "/jobqueue.v1.JobService/SubmitJobs";
const LIST: &str = "/jobqueue.v1.JobService/ListJobs";
/// The smallest transfer budget, a little less than two of the largest messages.
const BUDGET: [&str; 2] = ["--transfer-memory", "8388608"];
const LARGEST: usize = 4 * 1024 * 1024;

/// One HTTP/2 connection without a client library.
struct Peer {
    send: SendRequest<Bytes>,
    connection: JoinHandle<()>,
    addr: SocketAddr,
}

impl Peer {
    async fn connect(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).await.unwrap();
        let (send, connection) = h2::client::handshake(stream).await.unwrap();
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Self { send, connection, addr }
    }

    /// Begins a call whose request starts with `bytes`, and ends it if `end` says so.
    async fn call(&self, path: &str, bytes: Vec<u8>, end: bool) -> (ResponseFuture, h2::SendStream<Bytes>) {
        let mut send = self.send.clone().ready().await.unwrap();
        let request = http::Request::post(format!("http://{}{path}", self.addr))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        body.send_data(bytes.into(), end).unwrap();
        (response, body)
    }

    async fn closed(self) {
        timeout(PATIENCE, self.connection).await.expect("the server keeps the connection").unwrap();
    }
}

/// Status of a call that was answered without a message.
async fn status(response: ResponseFuture) -> Status {
    let response = timeout(PATIENCE, response).await.expect("no answer").unwrap();
    Status::from_header_map(response.headers()).expect("an answer with a message")
}

/// First bytes of a message that declares `length` bytes and never ends.
fn beginning(length: usize) -> Vec<u8> {
    [&[0][..], &u32::try_from(length).unwrap().to_be_bytes(), &[b'x'; 1000]].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_end_share_one_budget_and_small_calls_go_on() {
    let deployment = Deployment::with(Driver::Sqlite, &[&BUDGET[..], &["--peer-timeout", "8s"]].concat()).await;
    let peers = join_all((0..3).map(|_| Peer::connect(deployment.server.grpc_addr()))).await;
    // Two of these requests fit into the budget.
    let calls = join_all(peers.iter().map(|peer| peer.call(SUBMIT, beginning(LARGEST - 5), false))).await;
    let (responses, _bodies): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
    let (refused, _, held) = select_all(responses.into_iter().map(|response| Box::pin(status(response)))).await;
    tells_when_to_try_again(&refused, Code::ResourceExhausted);
    // A complete request by gRPC-web that is not small.
    let jobs = vec![job(WORKER_ID, &format!("\"{}\"", "x".repeat(200_000)))];
    let large = SubmitJobsRequest { jobs };
    let web = web::call::<SubmitJobsResponse>(deployment.server.http_addr(), Form::Binary, SUBMIT, &[], &large).await;
    assert_eq!(web.unwrap_err().code(), Code::ResourceExhausted);
    deployment.api.submit(job(WORKER_ID, "{}")).await;
    // Requests that do not arrive are given up, and their share of the budget is free again.
    for status in join_all(held).await {
        assert_eq!(status.code(), Code::DeadlineExceeded);
    }
    let web = web::call::<SubmitJobsResponse>(deployment.server.http_addr(), Form::Text, SUBMIT, &[], &large).await;
    assert_eq!(web.unwrap().jobs.len(), 1);
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_share_the_budget_and_end_with_their_connection() {
    let deployment = Deployment::with(Driver::Sqlite, &[&BUDGET[..], &["--peer-timeout", "2s"]].concat()).await;
    for _ in 0..12 {
        deployment.api.submit(job(WORKER_ID, &format!("\"{}\"", "x".repeat(250_000)))).await;
    }
    let peer = Peer::connect(deployment.server.grpc_addr()).await;
    let list = frame(&ListJobsRequest { page_size: 12, ..ListJobsRequest::default() }.encode_to_vec());
    let mut kept = Vec::new();
    let refused = loop {
        let (response, _) = peer.call(LIST, list.clone(), true).await;
        let response = timeout(PATIENCE, response).await.expect("no answer").unwrap();
        if let Some(status) = Status::from_header_map(response.headers()) {
            break status;
        }
        kept.push(response);
        assert!(kept.len() < 10, "it holds all answers");
    };
    tells_when_to_try_again(&refused, Code::ResourceExhausted);
    assert!(!kept.is_empty());
    deployment.api.submit(job(WORKER_ID, "{}")).await;
    peer.closed().await;
    eventually("there is room again", async || {
        let listed =
            deployment.api.jobs().list_jobs(ListJobsRequest { page_size: 12, ..ListJobsRequest::default() }).await;
        listed.ok().map(|it| assert!(!it.into_inner().jobs.is_empty()))
    })
    .await;
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_nothing_from_its_socket_is_cut_off() {
    let deployment = Deployment::with(Driver::Sqlite, &["--peer-timeout", "1s"]).await;
    for _ in 0..12 {
        deployment.api.submit(job(WORKER_ID, &format!("\"{}\"", "x".repeat(250_000)))).await;
    }
    let mut stream = TcpStream::connect(deployment.server.http_addr()).await.unwrap();
    let body = frame(&ListJobsRequest { page_size: 12, ..ListJobsRequest::default() }.encode_to_vec());
    let head = format!(
        "POST {LIST} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/grpc-web+proto\r\n\
         content-length: {}\r\n\r\n",
        body.len()
    );
    // The answers are larger than the kernel's buffers.
    let requests = [head.as_bytes(), &body].concat().repeat(8);
    stream.write_all(&requests).await.unwrap();
    // Writes until the connection is closed, and reads nothing.
    timeout(PATIENCE, async {
        while stream.write_all(b"\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("the server keeps the connection");
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_stop_within_their_preface_keep_nobody_out_for_long() {
    // Six of the connections belong to the one address, two to the other.
    let deployment = Deployment::with(Driver::Sqlite, &["--max-connections", "8"]).await;
    let addr = deployment.server.grpc_addr();
    let mut held = Vec::new();
    for _ in 0..8 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        stream.write_all(b"PRI * HTTP").await.unwrap();
        held.push(stream);
    }
    // The other address has connections of its own.
    assert_eq!(web::get(deployment.server.http_addr(), "/healthz").await.status, 200);
    timeout(PATIENCE, deployment.api.submit(job(WORKER_ID, "{}"))).await.expect("no call is answered");
    for mut stream in held {
        let ended = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        let _ = ended.expect("a connection that never opened is kept");
    }
    deployment.stop_and_check().await;
}

/// A call that meets the end of its connection may fail, and is asked again.
async fn submitted(deployment: &Deployment, payload_json: &str) -> String {
    eventually("a job is submitted", async || deployment.api.try_submit(job(WORKER_ID, payload_json)).await.ok()).await
}

/// Answers a long poll after three peers without calls have been closed, one after the other: by then the poll's
/// connection has reached the same limits.
async fn a_long_poll_outlasts_three_peers(deployment: &Deployment) {
    let mut worker = ManualWorker::register(&deployment.api).await;
    let waiting = deployment.server.api();
    let request = worker.next_acquire(1, 20);
    let poll = tokio::spawn(async move { waiting.workers().acquire_jobs(request).await });
    for _ in 0..3 {
        Peer::connect(deployment.server.grpc_addr()).await.closed().await;
    }
    let id = submitted(deployment, "{}").await;
    let got: AcquireJobsResponse = poll.await.unwrap().unwrap().into_inner();
    assert_eq!(got.jobs[0].job.as_ref().unwrap().id, id);
    worker.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_without_calls_is_closed_and_a_long_poll_is_a_call() {
    let deployment = Deployment::with(Driver::Sqlite, &["--connection-idle", "500ms"]).await;
    a_long_poll_outlasts_three_peers(&deployment).await;
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_connections_are_replaced_while_long_polls_and_workers_go_on() {
    let deployment = Deployment::with(Driver::Sqlite, &["--connection-age", "1s"]).await;
    a_long_poll_outlasts_three_peers(&deployment).await;
    let _worker = deployment.simulating();
    for _ in 0..3 {
        Peer::connect(deployment.server.grpc_addr()).await.closed().await;
        let id = submitted(&deployment, r#"{"sleep_ms": 0}"#).await;
        eventually("the job is done", async || {
            let request = GetJobRequest { job_id: id.clone() };
            let found = deployment.api.jobs().get_job(request).await.ok()?.into_inner();
            (found.job?.status() == State::Done).then_some(())
        })
        .await;
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_and_headers_of_grpc_are_as_before() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let peer = Peer::connect(deployment.server.grpc_addr()).await;
    let empty = frame(&GetMetricsRequest::default().encode_to_vec());
    let (response, _) = peer.call("/jobqueue.v1.JobService/GetMetrics", empty, true).await;
    let mut response = response.await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/grpc");
    while let Some(data) = response.body_mut().data().await {
        data.unwrap();
    }
    let trailers: HeaderMap = response.body_mut().trailers().await.unwrap().unwrap();
    assert_eq!(trailers["grpc-status"], "0");
    let page = exchange(deployment.server.http_addr(), "GET", "/healthz", &[], b"").await;
    assert_eq!((page.status, page.text().as_str()), (200, "ok\n"));
    deployment.stop_and_check().await;
}
