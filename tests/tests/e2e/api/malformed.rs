//! Requests that cannot be decoded as their method's message.

use jobqueue_tests::{
    database::Driver,
    web::{exchange, frame},
};

use crate::deployment::Deployment;

/// A request that cannot be decoded is the caller's error, by gRPC and by gRPC-web, and the server's log stays quiet.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_an_invalid_argument() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    // worker_id, two bytes that are no UTF-8; a length beyond the end; a wrong wire type; a tag of zero.
    let cases: [(&[u8], &str); 4] =
        [(b"\x0a\x02\xff\xfe", "worker_id"), (b"\x0a\x7fabc", ""), (b"\x08\x01", "worker_id"), (b"\x00\x00", "")];
    for (message, field) in cases {
        for content_type in ["application/grpc-web+proto", "application/grpc-web"] {
            let path = "/jobqueue.v1.JobService/SubmitJob";
            let headers = [("content-type", content_type)];
            let answer = exchange(deployment.server.http_addr(), "POST", path, &headers, &frame(message)).await;
            let code = (tonic::Code::InvalidArgument as i32).to_string();
            assert_eq!(answer.header("grpc-status"), code, "{message:?} {}", answer.header("grpc-message"));
            assert!(answer.header("grpc-message").contains(field), "{}", answer.header("grpc-message"));
        }
        let mut grpc = tonic::client::Grpc::new(deployment.api.channel.clone());
        grpc.ready().await.unwrap();
        let path = tonic::codegen::http::uri::PathAndQuery::from_static("/jobqueue.v1.JobService/SubmitJob");
        let request = tonic::Request::new(message.to_vec());
        let status = grpc.unary(request, path, Bytes).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument, "{message:?} {status:?}");
    }
    assert!(!deployment.server.stderr().contains("ERROR"), "{}", deployment.server.stderr());
    deployment.stop_and_check().await;
}

/// Codec that sends messages as raw bytes.
struct Bytes;

impl tonic::codec::Codec for Bytes {
    type Encode = Vec<u8>;
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for Bytes {
    type Item = Vec<u8>;
    type Error = tonic::Status;

    fn encode(&mut self, item: Vec<u8>, to: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), tonic::Status> {
        prost::bytes::BufMut::put_slice(to, &item);
        Ok(())
    }
}

impl tonic::codec::Decoder for Bytes {
    type Item = ();
    type Error = tonic::Status;

    fn decode(&mut self, _: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<()>, tonic::Status> {
        Ok(Some(()))
    }
}
