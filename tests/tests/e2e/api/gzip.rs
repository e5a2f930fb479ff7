//! Requests and answers in gzip, by gRPC and by gRPC-web.

use std::io::{Read as _, Write as _};

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use jobqueue_shared::proto::v1::{
    GetJobRequest, GetJobResponse, SubmitJobRequest, SubmitJobResponse, job_service_client::JobServiceClient,
};
use jobqueue_tests::{
    api::job,
    database::Driver,
    web::{self, exchange, unframe},
};
use prost::Message;
use tonic::{Code, codec::CompressionEncoding::Gzip};

use crate::deployment::{Deployment, WORKER_ID};

const SUBMIT: &str = "/jobqueue.v1.JobService/SubmitJob";
const GET: &str = "/jobqueue.v1.JobService/GetJob";

fn large() -> SubmitJobRequest {
    job(WORKER_ID, &format!("\"{}\"", "x".repeat(100_000)))
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_gzip_are_taken_and_answered_in_gzip() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let mut api = JobServiceClient::new(deployment.api.channel.clone()).send_compressed(Gzip).accept_compressed(Gzip);
    let id = api.submit_job(large()).await.unwrap().into_inner().job_id;
    let got = api.get_job(GetJobRequest { job_id: id.clone() }).await.unwrap();
    assert_eq!(got.metadata().get("grpc-encoding").unwrap(), "gzip");
    assert_eq!(got.into_inner().job.unwrap().payload_json, large().payload_json);
    // A client that does not ask for gzip does not get it.
    let plain = deployment.api.jobs().get_job(GetJobRequest { job_id: id }).await.unwrap();
    assert!(plain.metadata().get("grpc-encoding").is_none());
    assert_eq!(plain.into_inner().job.unwrap().payload_json, large().payload_json);
    deployment.stop_and_check().await;
}

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes).unwrap();
    let mut frame = web::frame(&encoder.finish().unwrap());
    frame[0] = 1;
    frame
}

const WEB: [(&str, &str); 3] =
    [("content-type", "application/grpc-web+proto"), ("grpc-encoding", "gzip"), ("grpc-accept-encoding", "gzip")];

#[tokio::test(flavor = "multi_thread")]
async fn grpc_web_speaks_gzip_too() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let addr = deployment.server.http_addr();
    let answer = exchange(addr, "POST", SUBMIT, &WEB, &zipped(&large().encode_to_vec())).await;
    let (messages, trailers) = unframe(&answer.body);
    assert_eq!(trailers.unwrap()["grpc-status"], "0");
    let job_id = SubmitJobResponse::decode(&*messages[0]).unwrap().job_id;
    let mut answer = exchange(addr, "POST", GET, &WEB, &zipped(&GetJobRequest { job_id }.encode_to_vec())).await;
    assert_eq!((answer.header("grpc-encoding"), answer.body[0]), ("gzip", 1));
    answer.body[0] = 0;
    let (messages, _) = unframe(&answer.body);
    let mut message = Vec::new();
    GzDecoder::new(&*messages[0]).read_to_end(&mut message).unwrap();
    assert_eq!(GetJobResponse::decode(&*message).unwrap().job.unwrap().payload_json, large().payload_json);
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_grows_beyond_the_limit_when_it_is_unpacked_is_refused() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let bomb = job(WORKER_ID, &format!("\"{}\"", "x".repeat(64 * 1024 * 1024)));
    let mut api = JobServiceClient::new(deployment.api.channel.clone()).send_compressed(Gzip);
    let refused = api.submit_job(bomb).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused:?}");
    assert!(refused.message().contains("payload_json"), "{refused:?}");
    let peak = deployment.server.peak_memory();
    assert!(peak < 300 * 1024 * 1024, "{peak} bytes");
    // Bytes that are no gzip are the caller's error, too.
    let mut broken = zipped(b"x");
    broken[6] ^= 0xff;
    let answer = exchange(deployment.server.http_addr(), "POST", SUBMIT, &WEB, &broken).await;
    assert_eq!(answer.header("grpc-status"), (Code::InvalidArgument as i32).to_string());
    deployment.api.submit(large()).await;
    deployment.stop_and_check().await;
}
