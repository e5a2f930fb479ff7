//! Body of a gRPC request: its bytes are taken from the budget while they are read, and must arrive at a minimum pace.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::{
    BoxError,
    body::{Bytes, HttpBody},
};
use hyper::body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep_until};
use tonic::Status;

use super::errors;
use crate::transport::budget::{Budget, Permit, SMALL};

/// Minimum bytes a second of a body after the first [`Reading::patience`]. A slower body would hold memory for long.
const PACE: usize = 64 * 1024;
/// Length in bytes of gRPC's prefix of a message: a flag, and the message's length.
const PREFIX: usize = 5;

/// Limits for bodies that are being read.
#[derive(Clone, Debug)]
pub struct Reading {
    pub budget: Arc<Budget>,
    pub patience: Duration,
    /// Maximum size of a message in bytes. A message that declares more is refused by the decoder, and no more than
    /// this is reserved.
    pub message: usize,
}

/// Body that takes its messages from the budget until it is dropped, which is once the message is decoded.
pub(crate) struct RequestBody<B> {
    inner: B,
    reading: Reading,
    /// Whether the body is a stream of messages, with any time between them.
    streams: bool,
    permit: Option<Permit>,
    prefix: [u8; PREFIX],
    /// Number of bytes of the prefix that have arrived.
    known: usize,
    /// Number of bytes of the message that are still to arrive.
    missing: usize,
    received: usize,
    timer: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl<B> RequestBody<B> {
    pub(crate) fn new(inner: B, reading: Reading, streams: bool) -> Self {
        Self {
            inner,
            reading,
            streams,
            permit: None,
            prefix: [0; PREFIX],
            known: 0,
            missing: 0,
            received: 0,
            timer: None,
        }
    }

    /// Takes a message from the budget as soon as its length is known, because the decoder allocates all of it then.
    fn count(&mut self, mut data: &[u8]) -> Result<(), Status> {
        self.received += data.len();
        while !data.is_empty() {
            if self.missing > 0 {
                let some = self.missing.min(data.len());
                self.missing -= some;
                data = &data[some..];
                continue;
            }
            if self.known == PREFIX {
                self.known = 0;
            }
            let some = (PREFIX - self.known).min(data.len());
            self.prefix[self.known..][..some].copy_from_slice(&data[..some]);
            self.known += some;
            data = &data[some..];
            if self.known == PREFIX {
                let [_, length @ ..] = self.prefix;
                self.missing = u32::from_be_bytes(length) as usize;
                let bytes = PREFIX + self.missing.min(self.reading.message);
                let enough = if let Some(permit) = &mut self.permit {
                    permit.grow(bytes)
                } else {
                    self.permit = self.reading.budget.take(bytes);
                    self.permit.is_some()
                };
                if !enough {
                    return Err(errors::no_memory());
                }
            }
        }
        Ok(())
    }

    fn between_messages(&self) -> bool {
        self.missing == 0 && (self.known == PREFIX || self.known == 0)
    }

    /// Ready when the body has been slower than [`PACE`] for too long.
    fn poll_slow(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        if self.streams && self.between_messages() {
            self.timer = None;
            return Poll::Pending;
        }
        let Reading { patience, .. } = self.reading;
        let (since, timer) = self.timer.get_or_insert_with(|| {
            let now = Instant::now();
            (now, Box::pin(sleep_until(now + patience)))
        });
        let due = *since + patience + Duration::from_secs_f64(self.received as f64 / PACE as f64);
        loop {
            ready!(timer.as_mut().poll(cx));
            if timer.deadline() >= due {
                return Poll::Ready(errors::slow_request());
            }
            timer.as_mut().reset(due);
        }
    }
}

impl<B> HttpBody for RequestBody<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        if this.streams && this.between_messages() {
            // The decoder asks for more when it has decoded the last message.
            this.permit = None;
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    // Most requests arrive whole, and are decoded before anything else is read.
                    let whole = this.received == 0 && data.len() <= SMALL && this.inner.is_end_stream();
                    if !whole && let Err(status) = this.count(data) {
                        return Poll::Ready(Some(Err(status.into())));
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error.into()))),
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let slow = ready!(this.poll_slow(cx));
                Poll::Ready(Some(Err(slow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures::{poll, stream};
    use http_body_util::{BodyExt as _, StreamBody};
    use tonic::Code;

    use super::*;

    const MIB: usize = 1024 * 1024;

    fn reading(limit: usize) -> Reading {
        Reading { budget: Budget::new(limit), patience: Duration::from_secs(10), message: 4 * MIB }
    }

    fn prefix(length: usize) -> Vec<u8> {
        [&[0], &u32::try_from(length).unwrap().to_be_bytes()[..]].concat()
    }

    /// A body of these pieces that never ends.
    fn endless(pieces: Vec<Vec<u8>>) -> impl HttpBody<Data = Bytes, Error = Infallible> + Unpin {
        let pieces = stream::iter(pieces.into_iter().map(|it| Ok(Frame::data(Bytes::from(it)))));
        StreamBody::new(Box::pin(futures::StreamExt::chain(pieces, stream::pending())))
    }

    fn code(error: &BoxError) -> Code {
        error.downcast_ref::<Status>().unwrap().code()
    }

    #[tokio::test]
    async fn a_message_is_counted_by_the_length_that_it_declares_however_it_is_cut() {
        let reading = reading(5 * MIB);
        let first = prefix(4 * MIB);
        let pieces = first.iter().map(|it| vec![*it]).collect();
        let mut one = RequestBody::new(endless(pieces), reading.clone(), false);
        for _ in 0..PREFIX {
            one.frame().await.unwrap().unwrap();
        }
        assert_eq!(reading.budget.used(), 4 * MIB + PREFIX);
        let mut other = RequestBody::new(endless(vec![prefix(2 * MIB)]), reading.clone(), false);
        assert_eq!(code(&other.frame().await.unwrap().unwrap_err()), Code::ResourceExhausted);
        drop(one);
        assert_eq!(reading.budget.used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_come_ends_and_one_that_keeps_the_pace_goes_on() {
        let mut silent = RequestBody::new(endless(vec![prefix(100)]), reading(MIB), false);
        silent.frame().await.unwrap().unwrap();
        let begun = Instant::now();
        assert_eq!(code(&silent.frame().await.unwrap().unwrap_err()), Code::DeadlineExceeded);
        assert!(begun.elapsed() < Duration::from_secs(11));

        let paced = stream::unfold(0, |n| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            (n < 30).then(|| (Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; PACE]))), n + 1))
        });
        let mut paced = RequestBody::new(StreamBody::new(Box::pin(paced)), reading(MIB), false);
        paced.known = PREFIX;
        paced.missing = 30 * PACE;
        while let Some(frame) = paced.frame().await {
            frame.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_messages_waits_between_them_and_holds_one_at_a_time() {
        let reading = reading(MIB);
        let message = [prefix(3), b"abc".to_vec()].concat();
        let mut body = RequestBody::new(endless(vec![message.clone(), message]), reading.clone(), true);
        for _ in 0..2 {
            body.frame().await.unwrap().unwrap();
            assert_eq!(reading.budget.used(), PREFIX + 3);
        }
        let mut next = body.frame();
        assert!(poll!(&mut next).is_pending());
        tokio::time::sleep(Duration::from_mins(1)).await;
        assert!(poll!(&mut next).is_pending());
    }
}
