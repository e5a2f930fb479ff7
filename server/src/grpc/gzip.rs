//! Compression of answers with gzip, for callers that accept it. tonic would compress small answers, too.

use std::io::{self, Write as _};

use axum::body::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderValue};
use hyper::body::Frame;

use super::response_body::Encoded;
use crate::transport::budget::Permit;

/// Minimum size in bytes of an answer that is compressed: below it, compression hardly saves a packet.
const FROM: usize = 4 * 1024;
/// Maximum size in bytes of an answer that is compressed on the runtime's threads. Larger ones, which would hold up
/// other calls, are compressed on a blocking thread.
const INLINE: usize = 64 * 1024;
/// Length in bytes of gRPC's prefix of a message: a flag, and the message's length.
const PREFIX: usize = 5;

/// Whether the caller accepts answers in gzip.
pub(super) fn accepted(headers: &HeaderMap) -> bool {
    let encodings = headers.get("grpc-accept-encoding").and_then(|it| it.to_str().ok());
    encodings.is_some_and(|it| it.split(',').any(|it| it.trim().eq_ignore_ascii_case("gzip")))
}

/// Compresses the first frame of an answer if it is a whole message of at least [`FROM`] bytes.
pub(super) async fn answer(headers: &mut HeaderMap, frame: Frame<Bytes>, permit: Option<Permit>) -> Encoded {
    let message = match frame.data_ref() {
        Some(data) if data.len() >= FROM && is_one_message(data) => data.clone(),
        _ => return Encoded::Frame(frame, permit),
    };
    let compressed = if message.len() <= INLINE {
        compressed(&message)
    } else {
        tokio::task::spawn_blocking(move || compressed(&message)).await.map_err(io::Error::other).flatten()
    };
    let Ok(compressed) = compressed else { return Encoded::Frame(frame, permit) };
    headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    let permit = permit.map(|mut permit| {
        let saved = permit.bytes().saturating_sub(compressed.len());
        drop(permit.split(saved));
        permit
    });
    Encoded::Frame(Frame::data(compressed), permit)
}

fn is_one_message(data: &[u8]) -> bool {
    data.split_first_chunk::<PREFIX>().is_some_and(|([flag, length @ ..], message)| {
        *flag == 0 && u32::from_be_bytes(*length) as usize == message.len()
    })
}

fn compressed(message: &[u8]) -> io::Result<Bytes> {
    let mut whole = Vec::with_capacity(message.len() / 4);
    whole.resize(PREFIX, 0);
    let mut encoder = GzEncoder::new(whole, Compression::fast());
    encoder.write_all(message.get(PREFIX..).unwrap_or_default())?;
    let mut whole = encoder.finish()?;
    let length = u32::try_from(whole.len() - PREFIX).map_err(io::Error::other)?;
    whole[0] = 1;
    whole[1..PREFIX].copy_from_slice(&length.to_be_bytes());
    Ok(whole.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gzip_is_found_among_what_a_caller_accepts() {
        let accepts = |value: &'static str| {
            accepted(&HeaderMap::from_iter([(
                "grpc-accept-encoding".parse().unwrap(),
                HeaderValue::from_static(value),
            )]))
        };
        assert!(accepts("gzip") && accepts("identity, deflate, gzip"));
        assert!(!accepts("identity") && !accepts("xgzip") && !accepted(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn only_whole_messages_that_are_worth_it_are_compressed() {
        for (length, expected) in [(FROM - PREFIX - 1, false), (FROM, true), (2 * INLINE, true)] {
            let message = [&[0][..], &u32::try_from(length).unwrap().to_be_bytes(), &vec![b'x'; length]].concat();
            let mut headers = HeaderMap::new();
            let encoded = answer(&mut headers, Frame::data(message.clone().into()), None).await;
            let Encoded::Frame(frame, _) = encoded else { panic!("it has gone") };
            let data = frame.into_data().unwrap();
            assert_eq!(headers.contains_key("grpc-encoding"), expected);
            assert_eq!((data[0] == 1, data.len() < message.len()), (expected, expected));
        }
    }
}
