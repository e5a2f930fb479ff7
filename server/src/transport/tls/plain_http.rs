//! Answer to a client that speaks plain HTTP where TLS is expected.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

const TEXT: &str = "this address speaks TLS: use https://\n";
/// Beginning of HTTP/2 with prior knowledge, as gRPC without TLS uses it.
const HTTP_2: &[u8] = b"PRI ";
/// Time in which the client may read the answer. Closing a socket with unread input would take the answer back.
const READING: Duration = Duration::from_secs(1);

/// Answers in the protocol that the client speaks: HTTP/1 with status 400, HTTP/2 with GOAWAY.
pub(super) async fn refuse(stream: &mut TcpStream) -> io::Result<()> {
    let mut begin = [0; HTTP_2.len()];
    let length = stream.peek(&mut begin).await?;
    let answer = if HTTP_2.starts_with(&begin[..length]) { go_away() } else { bad_request() };
    stream.write_all(&answer).await?;
    stream.shutdown().await?;
    let mut rest = [0; 1024];
    let _ = timeout(READING, async { while stream.read(&mut rest).await.is_ok_and(|length| length > 0) {} }).await;
    Ok(())
}

fn bad_request() -> Vec<u8> {
    let length = TEXT.len();
    format!(
        "HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: {length}\r\n\
         connection: close\r\n\r\n{TEXT}"
    )
    .into_bytes()
}

/// Empty SETTINGS, and GOAWAY with INADEQUATE_SECURITY (0xc) and the text, which clients show as debug data.
fn go_away() -> Vec<u8> {
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    let text = TEXT.trim_end().as_bytes();
    let head = [0, 0, 8 + text.len() as u8, 7, 0, 0, 0, 0, 0];
    [&settings[..], &head, &[0, 0, 0, 0], &[0, 0, 0, 0xc], text].concat()
}
