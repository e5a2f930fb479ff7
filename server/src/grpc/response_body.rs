//! Body of a gRPC answer: its bytes are taken from the budget until they have been sent.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

use crate::transport::{
    activity::{Activity, UnderWay, Unread},
    budget::{Budget, Permit},
};

/// Maximum size in bytes of a piece that is given to a connection at once: each piece that is sent shows that the peer
/// still reads.
const PIECE: usize = 64 * 1024;
/// Size in bytes up to which answers are not counted: the calls of a connection hold at most 128 KiB of them.
const TINY: usize = 1024;

/// The part of an answer that is encoded before it is sent.
pub(crate) enum Encoded {
    /// A frame, with its part of the budget.
    Frame(Frame<Bytes>, Option<Permit>),
    /// The first message of a stream is not available yet, or there is none.
    Nothing,
    /// The answer exceeds the budget.
    TooMuch,
}

/// Encodes the first message ahead of time. An answer that is not encoded takes memory that is not counted, and the
/// connection would encode it only when the peer reads.
pub(crate) fn encode(body: &mut Body, budget: &Arc<Budget>, cx: &mut Context<'_>) -> Result<Encoded, axum::Error> {
    match Pin::new(body).poll_frame(cx) {
        Poll::Ready(Some(frame)) => Ok(counted(frame?, budget)),
        Poll::Ready(None) | Poll::Pending => Ok(Encoded::Nothing),
    }
}

fn counted(frame: Frame<Bytes>, budget: &Arc<Budget>) -> Encoded {
    match frame.data_ref().map(Bytes::len) {
        Some(length) if length > TINY => match budget.take(length) {
            Some(permit) => Encoded::Frame(frame, Some(permit)),
            None => Encoded::TooMuch,
        },
        _ => Encoded::Frame(frame, None),
    }
}

/// Body of an answer, sent in pieces.
pub(crate) struct ResponseBody {
    first: Option<Frame<Bytes>>,
    /// Rest of a message, and its part of the budget.
    rest: Option<(Bytes, Permit)>,
    inner: Body,
    activity: Option<Arc<Activity>>,
    budget: Arc<Budget>,
    _under_way: Option<UnderWay>,
}

impl ResponseBody {
    pub(crate) fn new(
        encoded: Encoded,
        inner: Body,
        budget: Arc<Budget>,
        activity: Option<Arc<Activity>>,
        under_way: Option<UnderWay>,
    ) -> Self {
        let mut body = Self { first: None, rest: None, inner, activity, budget, _under_way: under_way };
        if let Encoded::Frame(frame, permit) = encoded {
            body.first = body.keep(frame, permit);
        }
        body
    }

    /// Keeps a frame that has a permit, to send it in pieces; returns any other frame.
    fn keep(&mut self, frame: Frame<Bytes>, permit: Option<Permit>) -> Option<Frame<Bytes>> {
        let Some(permit) = permit else { return Some(frame) };
        match frame.into_data() {
            Ok(data) => {
                self.rest = Some((data, permit));
                None
            }
            Err(frame) => Some(frame),
        }
    }

    fn piece(&mut self) -> Option<Bytes> {
        let (mut data, mut permit) = self.rest.take()?;
        let unread = self.activity.as_ref().map(Activity::unread);
        if data.len() <= PIECE {
            return Some(Bytes::from_owner(Piece { data, _permit: permit, _unread: unread }));
        }
        let piece = Piece { data: data.split_to(PIECE), _permit: permit.split(PIECE), _unread: unread };
        self.rest = Some((data, permit));
        Some(Bytes::from_owner(piece))
    }
}

/// Piece of an answer. The connection drops it when it has been written.
struct Piece {
    data: Bytes,
    _permit: Permit,
    _unread: Option<Unread>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if let Some(first) = this.first.take() {
            return Poll::Ready(Some(Ok(first)));
        }
        loop {
            if let Some(piece) = this.piece() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => frame,
                other => return other,
            };
            match counted(frame, &this.budget) {
                Encoded::Frame(frame, permit) => {
                    if let Some(frame) = this.keep(frame, permit) {
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                // This is a later message of a stream; those are small.
                Encoded::TooMuch | Encoded::Nothing => {
                    return Poll::Ready(Some(Err(axum::Error::new("too much waits to be sent"))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && self.rest.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn encoded(length: usize, budget: &Arc<Budget>) -> (Encoded, Body) {
        let mut body = Body::from(vec![7; length]);
        let encoded = std::future::poll_fn(|cx| Poll::Ready(encode(&mut body, budget, cx).unwrap())).await;
        (encoded, body)
    }

    #[tokio::test]
    async fn an_answer_is_counted_from_its_encoding_until_each_piece_is_sent() {
        let budget = Budget::new(1024 * 1024);
        let activity = Arc::new(Activity::default());
        let length = 2 * PIECE + 1;
        let (first, body) = encoded(length, &budget).await;
        assert_eq!(budget.used(), length);
        let mut body = ResponseBody::new(first, body, Arc::clone(&budget), Some(Arc::clone(&activity)), None);
        let mut pieces = Vec::new();
        while let Some(frame) = body.frame().await {
            pieces.push(frame.unwrap().into_data().unwrap());
        }
        drop(body);
        assert_eq!(pieces.iter().map(Bytes::len).collect::<Vec<_>>(), [PIECE, PIECE, 1]);
        assert_eq!(budget.used(), length, "pieces that wait in the connection are not counted");
        assert!(!activity.next_period());
        pieces.remove(0);
        assert_eq!(budget.used(), length - PIECE);
        assert!(activity.next_period(), "the peer has not read for a whole period");
        pieces.clear();
        assert_eq!(budget.used(), 0);
    }

    #[tokio::test]
    async fn an_answer_beyond_the_budget_is_known_before_its_head_is_sent() {
        let budget = Budget::new(100_000);
        let (_first, _body) = encoded(90_000, &budget).await;
        assert!(matches!(encoded(90_000, &budget).await.0, Encoded::TooMuch));
        assert!(matches!(encoded(TINY, &budget).await.0, Encoded::Frame(_, None)));
    }
}
