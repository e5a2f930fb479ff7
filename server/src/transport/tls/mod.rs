//! TLS of the listeners: the certificate in use, and the handshake of a connection.

mod plain_http;
mod read;

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use parking_lot::RwLock;
use rustls::ServerConfig;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::read::Contents;
use crate::config::TlsFiles;

/// First byte of a connection that begins with a TLS handshake.
const HANDSHAKE: u8 = 0x16;
/// Time for the whole handshake. A connection in it occupies its place.
const HANDSHAKE_TIME: Duration = Duration::from_secs(10);
/// Interval at which the files are compared with what is in use.
const RELOAD_EVERY: Duration = Duration::from_secs(2);

/// Certificate, key and client authorities that new connections use.
pub struct Tls {
    cert: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    current: RwLock<Current>,
}

struct Current {
    config: Arc<ServerConfig>,
    /// Contents of the files when they were last read, whether usable or not.
    contents: Contents,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// When one cannot be read or used; the message names the option and the file.
    pub fn new(files: TlsFiles<'_>) -> anyhow::Result<Self> {
        let contents = Contents::read(files)?;
        let current = RwLock::new(Current { config: Arc::new(contents.config(files)?), contents });
        let TlsFiles { cert, key, client_ca } = files;
        Ok(Self { cert: cert.to_owned(), key: key.to_owned(), client_ca: client_ca.map(ToOwned::to_owned), current })
    }

    fn files(&self) -> TlsFiles<'_> {
        TlsFiles { cert: &self.cert, key: &self.key, client_ca: self.client_ca.as_deref() }
    }

    /// Reads the files again; returns whether new connections use something else now. Established connections keep
    /// what they have.
    ///
    /// # Errors
    /// When the files have changed and cannot be used. What was in use stays in use, and the same contents give no
    /// second error.
    pub fn reload(&self) -> anyhow::Result<bool> {
        let files = self.files();
        let contents = Contents::read(files)?;
        if contents == self.current.read().contents {
            return Ok(false);
        }
        let config = contents.config(files);
        let mut current = self.current.write();
        current.contents = contents;
        current.config = Arc::new(config?);
        Ok(true)
    }

    /// Makes a connection secure. `None`: the peer spoke plain HTTP, and was told that this is the wrong protocol.
    ///
    /// # Errors
    /// When the handshake fails or takes too long.
    pub async fn accept(&self, mut stream: TcpStream) -> io::Result<Option<TlsStream<TcpStream>>> {
        let handshake = async {
            let mut first = [0];
            if stream.peek(&mut first).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            if first != [HANDSHAKE] {
                plain_http::refuse(&mut stream).await?;
                return Ok(None);
            }
            let acceptor = TlsAcceptor::from(Arc::clone(&self.current.read().config));
            acceptor.accept(stream).await.map(Some)
        };
        timeout(HANDSHAKE_TIME, handshake).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Reloads changed files until `stop` is cancelled.
pub async fn keep_current(tls: Arc<Tls>, stop: CancellationToken) {
    let mut failed = false;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(RELOAD_EVERY) => {}
        }
        let reloaded = tls.reload();
        match &reloaded {
            Ok(true) => info!("new connections use the changed TLS files"),
            Ok(false) => {}
            // A file that cannot be read fails at every turn.
            Err(_) if failed => {}
            Err(error) => warn!("changed TLS files cannot be used, and the former ones stay in use: {error:#}"),
        }
        failed = reloaded.is_err();
    }
}
