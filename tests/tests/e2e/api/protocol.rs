//! Protocols on both listeners, and how calls end.

use std::net::SocketAddr;

use jobqueue_shared::proto::v1::{
    AcquireJobsRequest, AcquireJobsResponse, GetJobRequest, GetJobResponse, GetMetricsRequest, RegisterSessionRequest,
    RegisterSessionResponse, SubmitJobResponse, job::Status as JobStatus,
};
use jobqueue_tests::{
    api::{Api, job},
    database::Driver,
    poll::{PATIENCE, eventually},
    process::Signal,
    web::{Form, call, exchange, get},
};
use prost_types::Duration;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_stream::StreamExt as _;
use tonic::{Code, IntoRequest as _};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

use crate::deployment::{Deployment, WORKER_ID};

const SUBMIT: &str = "/jobqueue.v1.JobService/SubmitJob";
const GET: &str = "/jobqueue.v1.JobService/GetJob";

async fn deployment() -> Deployment {
    Deployment::new(Driver::Sqlite).await
}

impl Deployment {
    fn listeners(&self) -> [SocketAddr; 2] {
        [self.server.grpc_addr(), self.server.http_addr()]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_web_works_over_plain_http_1_on_both_listeners() {
    let deployment = deployment().await;
    for addr in deployment.listeners() {
        for form in [Form::Binary, Form::Text] {
            let payload = "{\"a\": \"€ 😀 \\u0000\"}";
            let stored: SubmitJobResponse = call(addr, form, SUBMIT, &[], &job(WORKER_ID, payload)).await.unwrap();
            let request = GetJobRequest { job_id: stored.job_id.clone() };
            let found: GetJobResponse = call(addr, form, GET, &[], &request).await.unwrap();
            let found = found.job.unwrap();
            assert_eq!((found.id.as_str(), found.payload_json.as_str()), (stored.job_id.as_str(), payload));
            assert_eq!(found.status(), JobStatus::Pending);
        }
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_web_tells_errors_as_grpc_does() {
    let deployment = deployment().await;
    for addr in deployment.listeners() {
        for form in [Form::Binary, Form::Text] {
            let call = async |path: &str, job_id: &str| {
                let request = GetJobRequest { job_id: job_id.to_owned() };
                call::<GetJobResponse>(addr, form, path, &[], &request).await.unwrap_err()
            };
            assert_eq!(call(GET, "no id").await.code(), Code::InvalidArgument);
            assert_eq!(call(GET, "01a20bc1-67cb-7621-9286-30fd25718a8a").await.code(), Code::NotFound);
            for path in ["/jobqueue.v1.JobService/Nothing", "/jobqueue.v1.Nothing/GetJob", "/nothing"] {
                assert_eq!(call(path, "").await.code(), Code::Unimplemented, "{path}");
            }
        }
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_works_on_both_listeners() {
    let deployment = deployment().await;
    for addr in deployment.listeners() {
        let api = Api::at(addr);
        let id = api.submit(job(WORKER_ID, "{}")).await;
        assert_eq!(api.get(&id).await.job.unwrap().id, id);
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_method_is_unimplemented_and_never_a_page() {
    let deployment = deployment().await;
    for addr in deployment.listeners() {
        let mut client = tonic::client::Grpc::new(Api::at(addr).channel);
        for path in ["/jobqueue.v1.JobService/Nothing", "/jobqueue.v1.Nothing/Nothing", "/nothing"] {
            client.ready().await.unwrap();
            let codec = tonic_prost::ProstCodec::<GetMetricsRequest, GetMetricsRequest>::default();
            let answer = client.unary(GetMetricsRequest::default().into_request(), path.parse().unwrap(), codec).await;
            assert_eq!(answer.unwrap_err().code(), Code::Unimplemented, "{path}");
        }
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_callers_deadline_ends_a_long_poll() {
    let deployment = deployment().await;
    let new = RegisterSessionRequest { worker_id: WORKER_ID.to_owned(), slots: 1, ..RegisterSessionRequest::default() };
    let addr = deployment.server.grpc_addr();
    let path = "/jobqueue.v1.WorkerService/RegisterSession";
    let session: RegisterSessionResponse = call(addr, Form::Binary, path, &[], &new).await.unwrap();
    for addr in deployment.listeners() {
        let acquire = AcquireJobsRequest {
            session_id: session.session_id.clone(),
            max_jobs: 1,
            acquire_no: 1,
            wait: Some(Duration { seconds: 60, nanos: 0 }),
        };
        // `call` gives up long before the minute is over.
        let path = "/jobqueue.v1.WorkerService/AcquireJobs";
        let answer: AcquireJobsResponse = eventually("an empty answer before the deadline", async || {
            match call(addr, Form::Binary, path, &[("grpc-timeout", "400m")], &acquire).await {
                Ok(answer) => Some(answer),
                // The machine was too busy to answer before the deadline.
                Err(status) => {
                    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
                    None
                }
            }
        })
        .await;
        assert_eq!(answer.jobs, []);
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_browser_that_navigates_gets_the_page_for_an_unknown_path() {
    let deployment = deployment().await;
    let html = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    for addr in deployment.listeners() {
        for (path, status) in [("/", 200), ("/jobs/some-job", 200), ("/no-such-page", 404)] {
            let reply = exchange(addr, "GET", path, &[html], b"").await;
            assert_eq!(reply.status, status, "{path}");
            assert!(reply.header("content-type").starts_with("text/html"), "{path}");
            assert!(reply.header("content-security-policy").contains("default-src 'none'"), "{path}");
            assert!(reply.text().to_ascii_lowercase().starts_with("<!doctype html"), "{path}");
        }
        assert_eq!(exchange(addr, "GET", "/jobs/some-job", &[("accept", "*/*")], b"").await.status, 404);
        assert_eq!(exchange(addr, "POST", "/jobs/some-job", &[html], b"").await.status, 404);
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn health_answers_for_the_server_and_each_service() {
    let mut deployment = deployment().await;
    for addr in deployment.listeners() {
        let mut health = HealthClient::new(Api::at(addr).channel);
        for service in [
            "",
            "jobqueue.v1.JobService",
            "jobqueue.v1.WorkerService",
            "jobqueue.v1.AdminService",
            "jobqueue.v1.OperationService",
            "jobqueue.v1.ErrorService",
        ]
        .map(str::to_owned)
        {
            let answer = health.check(HealthCheckRequest { service }).await.unwrap().into_inner();
            assert_eq!(answer.status(), ServingStatus::Serving);
        }
        let unknown = health.check(HealthCheckRequest { service: "nothing".to_owned() }).await.unwrap_err();
        assert_eq!(unknown.code(), Code::NotFound);
    }
    // A watcher is told of the server's end, and does not hold it up.
    let mut health = HealthClient::new(deployment.api.channel.clone());
    let mut watch = health.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::Serving);
    deployment.server.signal(Signal::TERM);
    assert_eq!(watch.next().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(deployment.server.ended().await.success());
    deployment.stop_and_check().await;
}

/// Services that one version of the reflection API lists.
macro_rules! reflected {
    ($version:ident, $channel:expr) => {{
        use tonic_reflection::pb::$version::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let ask = async |message| {
            let request = ServerReflectionRequest { host: String::new(), message_request: Some(message) };
            let stream = tokio_stream::once(request);
            let answers = ServerReflectionClient::new($channel).server_reflection_info(stream).await.unwrap();
            answers.into_inner().next().await.unwrap().unwrap().message_response.unwrap()
        };
        let MessageResponse::ListServicesResponse(list) = ask(MessageRequest::ListServices(String::new())).await else {
            panic!("no list")
        };
        let symbol = MessageRequest::FileContainingSymbol("jobqueue.v1.JobService".to_owned());
        let MessageResponse::FileDescriptorResponse(files) = ask(symbol).await else { panic!("no files") };
        assert!(!files.file_descriptor_proto.is_empty());
        list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_answers_in_both_versions() {
    let deployment = deployment().await;
    for services in
        [reflected!(v1, deployment.api.channel.clone()), reflected!(v1alpha, deployment.api.channel.clone())]
    {
        for service in [
            "jobqueue.v1.JobService",
            "jobqueue.v1.WorkerService",
            "jobqueue.v1.AdminService",
            "jobqueue.v1.OperationService",
            "jobqueue.v1.ErrorService",
            "grpc.health.v1.Health",
        ] {
            assert!(services.iter().any(|known| known == service), "{services:?}");
        }
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_and_metrics_answer_plain_http() {
    let deployment = deployment().await;
    let worker_id = "it's \"w\"\\ 😀";
    deployment.api.submit(job(worker_id, "{}")).await;
    for addr in deployment.listeners() {
        for (path, text) in [("/healthz", "ok\n"), ("/readyz", "ready\n")] {
            let reply = get(addr, path).await;
            assert_eq!((reply.status, reply.text().as_str()), (200, text));
        }
    }
    let reply = get(deployment.server.http_addr(), "/metrics").await;
    assert_eq!(reply.status, 200);
    assert!(reply.header("content-type").starts_with("text/plain; version=0.0.4"));
    let text = reply.text();
    for line in [
        "jobqueue_storage_up 1",
        "jobqueue_submitted_total 1",
        "# TYPE jobqueue_submit_seconds histogram",
        "jobqueue_jobs{worker_id=\"it's \\\"w\\\"\\\\ 😀\",state=\"pending\"} 1",
        "jobqueue_jobs{worker_id=\"it's \\\"w\\\"\\\\ 😀\",state=\"failed\"} 0",
    ] {
        assert!(text.lines().any(|it| it == line), "{line}\n{text}");
    }
    for name in ["jobqueue_queue_latency_seconds{", "jobqueue_store_seconds_bucket{", "jobqueue_sessions{"] {
        assert!(text.lines().any(|it| it.starts_with(name)), "{name}\n{text}");
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_other_sites_reach_nothing() {
    let deployment = deployment().await;
    let addr = deployment.server.http_addr();
    let web = ("content-type", "application/grpc-web+proto");
    let body = [0, 0, 0, 0, 0];
    let other_site = [web, ("origin", "https://evil.example"), ("sec-fetch-site", "cross-site")];
    let reply = exchange(addr, "POST", SUBMIT, &other_site, &body).await;
    assert_eq!(reply.status, 403);
    assert_eq!(reply.header("access-control-allow-origin"), "");
    // A foreign name that its owner has pointed at this address (DNS rebinding).
    let rebound = [web, ("host", "evil.example")];
    assert_eq!(exchange(addr, "POST", SUBMIT, &rebound, &body).await.status, 421);
    assert_eq!(exchange(addr, "GET", "/metrics", &[("host", "evil.example")], b"").await.status, 421);
    // The server's own pages are allowed.
    let origin = format!("http://{addr}");
    let own = [web, ("origin", origin.as_str()), ("sec-fetch-site", "same-origin")];
    assert_eq!(exchange(addr, "POST", SUBMIT, &own, &body).await.status, 200);
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_others_may_reach_answers_pages_only_under_its_own_names() {
    let args = ["--insecure-allow-remote", "--http-host", "jobs.example.com"];
    let deployment = Deployment::with(Driver::Sqlite, &args).await;
    let web = ("content-type", "application/grpc-web+proto");
    let body = [0, 0, 0, 0, 0];
    for addr in deployment.listeners() {
        for (host, allowed) in [
            ("evil.example", false),
            ("jobs.example.com.evil.example", false),
            ("jobs.example.com", true),
            ("jobs.example.com:8080", true),
            ("localhost", true),
            ("192.0.2.7:8080", true),
        ] {
            let status = if allowed { 200 } else { 421 };
            let call = exchange(addr, "POST", SUBMIT, &[web, ("host", host)], &body).await;
            assert_eq!(call.status, status, "{host}");
            let page = exchange(addr, "GET", "/metrics", &[("host", host)], b"").await;
            assert_eq!(page.status, status, "{host}");
        }
    }
    assert_eq!(deployment.api.metrics().await.total, 0);
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_a_connection_harms_nobody_else() {
    let deployment = deployment().await;
    for addr in deployment.listeners() {
        for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00"[..], b"GET\r\n\r\n", &[0xff; 4_096], b"\r\n\r\n\r\n\r\n"] {
            let mut stream = TcpStream::connect(addr).await.unwrap();
            // An answer, a close and a reset are all right, as long as the connection ends.
            let spoken = async {
                stream.write_all(garbage).await?;
                stream.shutdown().await?;
                stream.read_to_end(&mut Vec::new()).await
            };
            drop(timeout(PATIENCE, spoken).await.expect("the connection stays open"));
        }
        let frame = [(&[0_u8, 0xff, 0xff, 0xff, 0xff][..]), b"short"].concat();
        let headers = [("content-type", "application/grpc-web+proto")];
        let reply = exchange(addr, "POST", SUBMIT, &headers, &frame).await;
        assert_eq!(reply.status, 200, "the error is in its status");
        let id = Api::at(addr).submit(job(WORKER_ID, "{}")).await;
        assert_ne!(id, "");
    }
    deployment.stop_and_check().await;
}
