//! Listeners: bound before anything else starts, and bounded in how many connections they accept.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::Context as _;
use futures::{Stream, stream};
use jobqueue_shared::gather::Gathered;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Sleep, sleep},
};
use tonic::transport::server::{Connected, TcpConnectInfo};
use tracing::warn;

use crate::config::Serve;

/// A connection that has not said a word in this time is closed: it would hold its place for ever.
const FIRST_BYTE: Duration = Duration::from_secs(10);
/// After an error that is not the connection's own, such as too many open files.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Listeners {
    pub grpc: TcpListener,
    pub http: TcpListener,
}

impl Listeners {
    pub async fn bind(config: &Serve) -> anyhow::Result<Self> {
        config.check_addresses().map_err(anyhow::Error::msg)?;
        Ok(Self {
            grpc: bind(config.grpc_addr, "--grpc-addr", "JOBQUEUE_GRPC_ADDR").await?,
            http: bind(config.http_addr, "--http-addr", "JOBQUEUE_HTTP_ADDR").await?,
        })
    }
}

async fn bind(addr: SocketAddr, flag: &str, variable: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|error| {
        if error.kind() == io::ErrorKind::AddrInUse {
            let port = addr.port();
            let any = SocketAddr::new(addr.ip(), 0);
            return anyhow::anyhow!(
                "port {port} is in use: choose another with {flag} (or {variable}), or any free one with {flag} {any}"
            );
        }
        anyhow::Error::new(error).context(format!("cannot listen on {addr} (see {flag})"))
    })
}

/// The address, or an explanation of why there is none.
pub fn local_addr(listener: &TcpListener) -> anyhow::Result<SocketAddr> {
    listener.local_addr().context("a listener has no address")
}

/// Connections, as long as there is a place for one; more wait in the kernel's queue.
pub fn incoming(listener: TcpListener, places: Arc<Semaphore>) -> impl Stream<Item = io::Result<Connection>> {
    stream::unfold((listener, places), |(listener, places)| async {
        let place = Arc::clone(&places).acquire_owned().await.ok()?;
        loop {
            match listener.accept().await {
                Ok((stream, _)) => {
                    // Answers are small and waited for.
                    let _ = stream.set_nodelay(true);
                    let connection = Connection {
                        stream: Gathered::new(stream),
                        silent: Some(Box::pin(sleep(FIRST_BYTE))),
                        _place: place,
                    };
                    return Some((Ok(connection), (listener, places)));
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

/// A connection that holds its place until it is dropped.
pub struct Connection {
    stream: Gathered<TcpStream>,
    silent: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.stream.get_ref().connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buf) {
            self.silent = None;
            return Poll::Ready(read);
        }
        if let Some(silent) = &mut self.silent {
            ready!(silent.as_mut().poll(cx));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    }
}

impl AsyncWrite for Connection {
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
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::{StreamExt as _, poll};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    async fn listener() -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        (listener, addr)
    }

    #[tokio::test]
    async fn a_connection_beyond_the_limit_waits_for_a_place() {
        let (listener, addr) = listener().await;
        let mut incoming = pin!(incoming(listener, Arc::new(Semaphore::new(1))));
        let _clients = [TcpStream::connect(addr).await.unwrap(), TcpStream::connect(addr).await.unwrap()];
        let first = incoming.next().await.unwrap().unwrap();
        let mut second = incoming.next();
        assert!(poll!(&mut second).is_pending());
        drop(first);
        second.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn silence_ends_a_connection_and_a_first_byte_saves_it() {
        let (listener, addr) = listener().await;
        let mut incoming = pin!(incoming(listener, Arc::new(Semaphore::new(2))));
        let (_silent, mut speaking) =
            (TcpStream::connect(addr).await.unwrap(), TcpStream::connect(addr).await.unwrap());
        let (mut silent, mut spoken) =
            (incoming.next().await.unwrap().unwrap(), incoming.next().await.unwrap().unwrap());
        speaking.write_all(b"x").await.unwrap();
        assert_eq!(spoken.read_u8().await.unwrap(), b'x');
        // Now the clock runs as soon as everybody waits.
        tokio::time::pause();
        assert_eq!(silent.read_u8().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(poll!(pin!(spoken.read_u8())).is_pending());
    }

    #[tokio::test]
    async fn a_port_in_use_is_named_with_the_flag_that_changes_it() {
        let (_listener, addr) = listener().await;
        let message = bind(addr, "--http-addr", "JOBQUEUE_HTTP_ADDR").await.unwrap_err().to_string();
        assert!(message.contains(&addr.port().to_string()) && message.contains("--http-addr"), "{message}");
    }
}
