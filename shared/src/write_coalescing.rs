//! Write coalescing: small messages that are written at nearly the same time are sent together.
//!
//! HTTP/2 flushes as soon as one message is there. With many concurrent calls each message would be a system call and a
//! packet of its own, which costs more than everything else that is done for it.
//!
//! The price is that a task which blocks its thread delays what that thread was about to send.

use std::{
    io,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker, ready},
};

use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, BufWriter, ReadBuf},
    task::yield_now,
};

/// Stream whose flush waits until all runnable tasks have run, and sends what they write meanwhile with it. Writes of
/// more than a few KiB are sent at once.
#[derive(Debug)]
pub struct CoalescedWrites<S> {
    stream: BufWriter<S>,
    /// Set while a flush waits for other tasks.
    turn: Option<Arc<Turn>>,
}

/// One pass of the runtime over all runnable tasks.
#[derive(Debug)]
struct Turn {
    over: AtomicBool,
    flusher: Mutex<Waker>,
}

impl Turn {
    fn begin(flusher: &Waker) -> Arc<Self> {
        let turn = Arc::new(Self { over: AtomicBool::new(false), flusher: Mutex::new(flusher.clone()) });
        // The runtime wakes it only after its run queue is empty and it has polled for I/O.
        let waker = Waker::from(Arc::clone(&turn));
        let _ = pin!(yield_now()).poll(&mut Context::from_waker(&waker));
        turn
    }

    fn poll(&self, flusher: &Waker) -> Poll<()> {
        self.flusher.lock().clone_from(flusher);
        if self.over.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Wake for Turn {
    fn wake(self: Arc<Self>) {
        self.over.store(true, Ordering::Release);
        self.flusher.lock().wake_by_ref();
    }
}

impl<S: AsyncWrite> CoalescedWrites<S> {
    pub fn new(stream: S) -> Self {
        Self { stream: BufWriter::new(stream), turn: None }
    }

    pub fn get_ref(&self) -> &S {
        self.stream.get_ref()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for CoalescedWrites<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for CoalescedWrites<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.stream.buffer().is_empty() {
            let turn = self.turn.get_or_insert_with(|| Turn::begin(cx.waker()));
            ready!(turn.poll(cx.waker()));
        }
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.turn = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::AsyncWriteExt as _;

    use super::*;

    /// Records the bytes of each write.
    #[derive(Default)]
    struct Wire(Vec<Vec<u8>>);

    impl AsyncWrite for Wire {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.0.push(buf.to_vec());
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// Writes and starts a flush, as a connection does each time that it is woken.
    async fn send(stream: &mut CoalescedWrites<Wire>, message: &[u8]) -> Poll<()> {
        stream.write_all(message).await.unwrap();
        poll_fn(|cx| Poll::Ready(Pin::new(&mut *stream).poll_flush(cx).map(Result::unwrap))).await
    }

    #[tokio::test]
    async fn what_is_written_before_others_have_had_their_turn_leaves_together() {
        let mut stream = CoalescedWrites::new(Wire::default());
        for message in [b"one ", b"two "] {
            assert!(send(&mut stream, message).await.is_pending());
            assert!(stream.get_ref().0.is_empty());
        }
        yield_now().await;
        assert!(send(&mut stream, b"three").await.is_ready());
        assert_eq!(stream.get_ref().0, [b"one two three"]);
        assert!(send(&mut stream, b"four").await.is_pending(), "the next one waits for a turn of its own");
    }

    #[tokio::test]
    async fn a_flush_is_woken_when_the_turn_is_over() {
        let mut stream = CoalescedWrites::new(Wire::default());
        for _ in 0..3 {
            stream.write_all(b"x").await.unwrap();
            stream.flush().await.unwrap();
        }
        assert_eq!(stream.get_ref().0, [b"x", b"x", b"x"]);
    }

    #[tokio::test]
    async fn what_is_large_leaves_at_once_and_behind_what_waits() {
        let mut stream = CoalescedWrites::new(Wire::default());
        stream.write_all(b"small").await.unwrap();
        let large = vec![b'x'; 64 * 1024];
        stream.write_all(&large).await.unwrap();
        assert_eq!(stream.get_ref().0, [b"small".to_vec(), large]);
    }

    #[tokio::test]
    async fn nothing_is_lost_at_the_end() {
        let mut stream = CoalescedWrites::new(Wire::default());
        stream.write_all(b"last words").await.unwrap();
        stream.shutdown().await.unwrap();
        assert_eq!(stream.get_ref().0, [b"last words"]);
    }
}
