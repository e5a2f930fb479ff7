//! Connections that a listener accepts, up to a limit.

use std::{
    io,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{Stream, stream};
use jobqueue_shared::write_coalescing::CoalescedWrites;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::warn;

use super::activity::{Activity, Unread};

/// Time for the first bytes of HTTP/1, or for the preface and settings of HTTP/2. A connection without them would
/// occupy its place.
const OPENING: Duration = Duration::from_secs(10);
/// Preface of an HTTP/2 connection.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length of the header of an HTTP/2 frame, in bytes. The first three bytes are the length of the payload.
const FRAME_HEAD: usize = 9;
/// Pause after an error of accept that is not the connection's own, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepted connection, and its place.
pub type Accepted = (TcpStream, OwnedSemaphorePermit);

/// Stream of accepted connections, as long as there is a place for one; more wait in the kernel's queue.
pub fn incoming(listener: TcpListener, places: Arc<Semaphore>) -> impl Stream<Item = Accepted> {
    stream::unfold((listener, places), |(listener, places)| async {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Answers are small, and clients wait for them.
                    let _ = stream.set_nodelay(true);
                    return Some(((stream, place), (listener, places)));
                }
                Err(error) if is_the_peers(&error) => {}
                Err(error) => {
                    warn!(%error, "connections cannot be accepted");
                    sleep(PAUSE).await;
                }
            }
        }
    })
}

fn is_the_peers(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionRefused
    )
}

/// Bytes received from a connection that has not opened yet.
struct Opening {
    timer: Pin<Box<Sleep>>,
    head: [u8; PREFACE.len() + FRAME_HEAD],
    received: usize,
}

impl Opening {
    fn new() -> Self {
        Self { timer: Box::pin(sleep(OPENING)), head: [0; PREFACE.len() + FRAME_HEAD], received: 0 }
    }

    /// Adds received bytes; returns whether the connection is open. HTTP/2 is open after its preface and its first
    /// frame, the settings; anything else is open at once, since hyper limits the time for a request head of HTTP/1.
    fn opens(&mut self, bytes: &[u8]) -> bool {
        if let Some(missing) = self.head.get_mut(self.received..) {
            let some = missing.len().min(bytes.len());
            missing[..some].copy_from_slice(&bytes[..some]);
        }
        self.received += bytes.len();
        let known = self.received.min(PREFACE.len());
        if self.head[..known] != PREFACE[..known] {
            return true;
        }
        let [.., a, b, c, _, _, _, _, _, _] = self.head;
        let settings = u32::from_be_bytes([0, a, b, c]) as usize;
        self.received >= self.head.len() + settings
    }
}

/// Connection over a TCP or TLS stream. It occupies its place until it is dropped.
pub struct Connection<S> {
    stream: CoalescedWrites<S>,
    opening: Option<Box<Opening>>,
    activity: Arc<Activity>,
    /// Set while a write waits for the peer to make room.
    blocked: Option<Unread>,
    _place: OwnedSemaphorePermit,
}

impl<S: AsyncWrite> Connection<S> {
    /// Makes a connection; `peer` is the address that it comes from.
    pub fn new(stream: S, peer: Option<IpAddr>, place: OwnedSemaphorePermit) -> Self {
        Self {
            stream: CoalescedWrites::new(stream),
            opening: Some(Box::new(Opening::new())),
            activity: Arc::new(Activity::of(peer)),
            blocked: None,
            _place: place,
        }
    }

    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    fn written<T>(&mut self, written: Poll<T>) -> Poll<T> {
        if written.is_ready() {
            self.blocked = None;
        } else if self.blocked.is_none() {
            self.blocked = Some(self.activity.unread());
        }
        written
    }
}

/// For tonic's own server, which the benchmark compares with these connections.
impl Connected for Connection<TcpStream> {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().connect_info()
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Connection<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let Some(opening) = &mut this.opening {
            if read.is_pending() {
                ready!(opening.timer.as_mut().poll(cx));
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            if opening.opens(&buf.filled()[before..]) {
                this.opening = None;
            }
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Connection<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.written(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, pin::pin};

    use futures::{StreamExt as _, poll};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    async fn next(incoming: &mut (impl Stream<Item = Accepted> + Unpin)) -> Connection<TcpStream> {
        let (stream, place) = incoming.next().await.unwrap();
        Connection::new(stream, None, place)
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_a_place() {
        let (listener, addr) = listener().await;
        let mut incoming = pin!(incoming(listener, Arc::new(Semaphore::new(1))));
        let _clients = [TcpStream::connect(addr).await.unwrap(), TcpStream::connect(addr).await.unwrap()];
        let first = incoming.next().await.unwrap();
        let mut second = incoming.next();
        assert!(poll!(&mut second).is_pending());
        drop(first);
        drop(second.await.unwrap());
    }

    #[tokio::test]
    async fn silence_ends_a_connection_and_a_first_byte_saves_it() {
        let (listener, addr) = listener().await;
        let mut incoming = pin!(incoming(listener, Arc::new(Semaphore::new(2))));
        let (_silent, mut speaking) =
            (TcpStream::connect(addr).await.unwrap(), TcpStream::connect(addr).await.unwrap());
        let (mut silent, mut spoken) = (next(&mut incoming).await, next(&mut incoming).await);
        speaking.write_all(b"x").await.unwrap();
        assert_eq!(spoken.read_u8().await.unwrap(), b'x');
        // From here on, time advances as soon as all tasks wait.
        tokio::time::pause();
        assert_eq!(silent.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(poll!(pin!(spoken.read_u8())).is_pending());
    }

    #[tokio::test]
    async fn http_2_is_open_after_its_preface_and_settings_and_nothing_less() {
        let settings = [&[0, 0, 6, 4, 0, 0, 0, 0, 0][..], &[0; 6]].concat();
        let whole = [PREFACE, &settings[..]].concat();
        for step in 1..=whole.len() {
            let mut opening = Opening::new();
            let mut pieces = whole.chunks(step).peekable();
            while let Some(piece) = pieces.next() {
                assert_eq!(opening.opens(piece), pieces.peek().is_none(), "in steps of {step}");
            }
        }
        assert!(Opening::new().opens(b"GET / HTTP/1.1\r\n"));
        assert!(Opening::new().opens(b"PRI / HTTP/1.1\r\n"));
        assert!(!Opening::new().opens(b"PRI * HTTP"));
    }

    #[tokio::test]
    async fn a_connection_that_stops_within_the_preface_is_ended() {
        let (listener, addr) = listener().await;
        let mut incoming = pin!(incoming(listener, Arc::new(Semaphore::new(1))));
        let mut client = TcpStream::connect(addr).await.unwrap();
        let mut connection = next(&mut incoming).await;
        client.write_all(b"PRI * HTTP").await.unwrap();
        let mut read = [0; 10];
        connection.read_exact(&mut read).await.unwrap();
        tokio::time::pause();
        assert_eq!(connection.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
