//! HTTP/1.1 and gRPC-web, byte by byte, as somebody without a library would speak them.

use std::net::SocketAddr;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use jobqueue_tests::poll::PATIENCE;
use prost::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status};

pub(crate) struct Reply {
    pub(crate) status: u16,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// Sends these bytes and reads until the server closes the connection.
pub(crate) async fn exchange(addr: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("no whole answer").unwrap();
    answer
}

/// One HTTP/1.1 request on a connection of its own.
pub(crate) async fn request(
    addr: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut bytes = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if headers.iter().all(|(name, _)| *name != "host") {
        bytes += &format!("host: {addr}\r\n");
    }
    for (name, value) in headers {
        bytes += &format!("{name}: {value}\r\n");
    }
    let bytes = [bytes.as_bytes(), b"\r\n", body].concat();
    parse(&exchange(addr, &bytes).await)
}

pub(crate) async fn get(addr: SocketAddr, path: &str) -> Reply {
    request(addr, "GET", path, &[], b"").await
}

fn parse(answer: &[u8]) -> Reply {
    let end = answer.windows(4).position(|it| it == b"\r\n\r\n").expect("the head of an answer");
    let head = std::str::from_utf8(&answer[..end]).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: Vec<_> = lines
        .map(|line| line.split_once(':').unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let body = &answer[end + 4..];
    let chunked = headers.iter().any(|(name, value)| name == "transfer-encoding" && value == "chunked");
    let body = if chunked { without_chunks(body) } else { body.to_vec() };
    Reply { status, headers, body }
}

fn without_chunks(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|it| it == b"\r\n").expect("the size of a chunk");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).unwrap(), 16).unwrap();
        rest = &rest[line + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
}

/// How gRPC-web is put into a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Binary,
    Text,
}

/// A unary gRPC-web call.
pub(crate) async fn call<M: Message + Default>(
    addr: SocketAddr,
    form: Form,
    path: &str,
    message: &impl Message,
    headers: &[(&str, &str)],
) -> Result<M, Status> {
    let message = message.encode_to_vec();
    let frame = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
    let (content_type, body) = match form {
        Form::Binary => ("application/grpc-web+proto", frame),
        Form::Text => ("application/grpc-web-text+proto", STANDARD.encode(frame).into_bytes()),
    };
    let headers = [headers, &[("content-type", content_type), ("accept", content_type), ("x-grpc-web", "1")]].concat();
    let reply = request(addr, "POST", path, &headers, &body).await;
    assert_eq!((reply.status, reply.header("content-type")), (200, Some(content_type)));
    let frames = match form {
        Form::Binary => reply.body.clone(),
        Form::Text => decoded(&reply.body),
    };
    let (mut rest, mut answer, mut trailers) = (&frames[..], None, String::new());
    while !rest.is_empty() {
        let size = u32::from_be_bytes(rest[1..5].try_into().unwrap()) as usize;
        let content = &rest[5..5 + size];
        match rest[0] {
            0 => answer = Some(M::decode(content).unwrap()),
            0x80 => trailers += std::str::from_utf8(content).unwrap(),
            flag => panic!("a frame with flag {flag}"),
        }
        rest = &rest[5 + size..];
    }
    // A call that failed at once has its status in the head.
    let trailer = |name: &str| {
        let line = trailers.lines().filter_map(|line| line.split_once(':')).find(|(known, _)| *known == name);
        line.map(|(_, value)| value.trim()).or(reply.header(name)).map(str::to_owned)
    };
    let code: i32 = trailer("grpc-status").expect("a status").parse().unwrap();
    if code == 0 {
        return Ok(answer.expect("a message"));
    }
    Err(Status::new(Code::from(code), trailer("grpc-message").unwrap_or_default()))
}

/// base64, padded at the end of each piece.
fn decoded(text: &[u8]) -> Vec<u8> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    text.chunks(4).flat_map(|piece| STANDARD.decode(piece).unwrap()).collect()
}
