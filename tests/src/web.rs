//! HTTP/1.1 and gRPC-web as bytes on a socket, without a client library that could hide the server's mistakes.

use std::{collections::HashMap, net::SocketAddr};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use prost::Message;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tonic::{Code, Status};

use crate::poll::PATIENCE;

/// An answer, its chunks put together. Header names are lower case.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HashMap<String, String>,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// Encoding of gRPC-web in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Binary,
    Text,
}

/// Sends a GET.
pub async fn get(addr: SocketAddr, path: &str) -> Answer {
    exchange(addr, "GET", path, &[], &[]).await
}

/// Makes one unary call; `path` is `/package.Service/Method`.
pub async fn call<M: Message + Default>(
    addr: SocketAddr,
    form: Form,
    path: &str,
    headers: &[(&str, &str)],
    message: &impl Message,
) -> Result<M, Status> {
    let frame = frame(&message.encode_to_vec());
    let (content_type, body) = match form {
        Form::Binary => ("application/grpc-web+proto", frame),
        Form::Text => ("application/grpc-web-text+proto", STANDARD.encode(frame).into_bytes()),
    };
    let headers = [headers, &[("content-type", content_type), ("accept", content_type), ("x-grpc-web", "1")]].concat();
    let http = exchange(addr, "POST", path, &headers, &body).await;
    assert_eq!((http.status, http.header("content-type")), (200, content_type));
    let (mut messages, trailers) = match form {
        Form::Binary => unframe(&http.body),
        Form::Text => unframe(&decoded(&http.body)),
    };
    // A call that failed at once has its status in the headers, and no body.
    let trailer = |name: &str| trailers.as_ref().unwrap_or(&http.headers).get(name).map_or("", String::as_str);
    let code: i32 = trailer("grpc-status").parse().unwrap();
    if code != 0 {
        return Err(Status::new(Code::from(code), trailer("grpc-message")));
    }
    assert_eq!(messages.len(), 1);
    Ok(M::decode(&*messages.remove(0)).unwrap())
}

/// Decodes base64 that may be padded at the end of each piece.
fn decoded(text: &[u8]) -> Vec<u8> {
    text.chunks(4).flat_map(|piece| STANDARD.decode(piece).unwrap()).collect()
}

/// A message with the five bytes of its gRPC header.
pub fn frame(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap();
    [&[0], &length.to_be_bytes()[..], message].concat()
}

/// Messages of a body, and its trailers.
pub fn unframe(mut body: &[u8]) -> (Vec<Vec<u8>>, Option<HashMap<String, String>>) {
    let (mut messages, mut trailers) = (Vec::new(), None);
    while let Some((head, rest)) = body.split_first_chunk::<5>() {
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        assert!(trailers.is_none() && length <= rest.len(), "a frame after the trailers, or one that is cut off");
        let (content, after) = rest.split_at(length);
        match head[0] {
            0x00 => messages.push(content.to_vec()),
            0x80 => trailers = Some(fields(&String::from_utf8_lossy(content))),
            flags => panic!("a frame with flags {flags:#x}"),
        }
        body = after;
    }
    assert!(body.is_empty(), "{} bytes after the last frame", body.len());
    (messages, trailers)
}

/// Sends one request on a connection of its own; `headers` may name another host.
pub async fn exchange(addr: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut request = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\n");
    if headers.iter().all(|(name, _)| *name != "host") {
        request.extend(["host: ", &addr.to_string(), "\r\n"]);
    }
    for (name, value) in headers {
        request.extend([name, ": ", value, "\r\n"]);
    }
    request.extend(["content-length: ", &body.len().to_string(), "\r\n\r\n"]);
    let all = timeout(PATIENCE, async {
        let mut stream = TcpStream::connect(addr).await?;
        stream.write_all(&[request.as_bytes(), body].concat()).await?;
        let mut all = Vec::new();
        stream.read_to_end(&mut all).await?;
        std::io::Result::Ok(all)
    });
    let all = all.await.unwrap_or_else(|_| panic!("{method} {path}: no end of the answer within {PATIENCE:?}"));
    parse(&all.unwrap_or_else(|error| panic!("{method} {path}: {error}")))
}

fn parse(all: &[u8]) -> Answer {
    let end = all.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let (status_line, rest) = head.split_once("\r\n").unwrap();
    let status = status_line.strip_prefix("HTTP/1.1 ").and_then(|it| it.get(..3)).unwrap().parse().unwrap();
    let headers = fields(rest);
    let body = &all[end + 4..];
    let chunked = headers.get("transfer-encoding").is_some_and(|it| it == "chunked");
    let body = if chunked { dechunked(body) } else { body.to_vec() };
    Answer { status, headers, body }
}

fn fields(text: &str) -> HashMap<String, String> {
    let pairs = text.split("\r\n").filter_map(|line| line.split_once(':'));
    pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned())).collect()
}

fn dechunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|it| it == b"\r\n").unwrap();
        let length = usize::from_str_radix(&String::from_utf8_lossy(&body[..end]), 16).unwrap();
        let chunk = &body[end + 2..];
        if length == 0 {
            return whole;
        }
        whole.extend_from_slice(&chunk[..length]);
        body = &chunk[length + 2..];
    }
}
