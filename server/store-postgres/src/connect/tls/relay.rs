//! Relay: a Unix socket whose connections lead to PostgreSQL by TLS.

use std::{
    fs::Permissions,
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::pki_types::ServerName;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, copy, split},
    net::{TcpStream, UnixListener, UnixStream},
    task::JoinHandle,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use crate::connect::tls::settings::{Mode, Settings};

/// Time limit of a connection up to the server's first answer. A caller of the pool gives up sooner.
const OPENING: Duration = Duration::from_secs(30);
/// Time limit of the shutdown of TLS with a server that may be gone.
const CLOSING: Duration = Duration::from_secs(1);
/// SSLRequest message, which asks for TLS: its length, and the number of the request.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];
/// Maximum size of a client's first message in bytes, as in libpq. A server's first message is shorter, too.
const FIRST_MESSAGE: usize = 10_000;

/// Address and TLS settings of the server that connections lead to.
#[derive(Debug)]
pub(super) struct Target {
    pub address: (String, u16),
    pub settings: Settings,
}

/// Relay that accepts connections until it is dropped. Open connections go on afterwards.
#[derive(Debug)]
pub(crate) struct Relay {
    /// Folder of the socket, which other users cannot enter.
    folder: TempDir,
    task: JoinHandle<()>,
}

impl Relay {
    pub(super) fn start(target: Target, port: u16) -> io::Result<Self> {
        // Private under every umask: a process that can connect here needs no certificate.
        let private = Permissions::from_mode(0o700);
        let folder = tempfile::Builder::new().prefix("jobqueue-").permissions(private).tempdir()?;
        let listener = UnixListener::bind(socket(folder.path(), port))?;
        let task = tokio::spawn(accept(listener, Arc::new(target)));
        Ok(Self { folder, task })
    }

    /// Folder of the socket, as PostgreSQL's clients take it for a host.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn socket(folder: &Path, port: u16) -> PathBuf {
    folder.join(format!(".s.PGSQL.{port}"))
}

async fn accept(listener: UnixListener, target: Arc<Target>) {
    loop {
        match listener.accept().await {
            Ok((local, _)) => drop(tokio::spawn(serve(local, Arc::clone(&target)))),
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection that leads to PostgreSQL");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(mut local: UnixStream, target: Arc<Target>) {
    let opened = timeout(OPENING, async {
        let startup = read_startup(&mut local).await?;
        target.open(&startup).await
    });
    let opened = opened.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    match opened {
        Ok(Opened { stream, answer }) => {
            if local.write_all(&answer).await.is_ok() {
                pass_on(local, stream).await;
            }
        }
        Err(error) => {
            let _ = local.write_all(&error_response(&error.to_string())).await;
        }
    }
}

/// Copies bytes both ways until either side ends: a connection whose server is silent must not outlive its client.
async fn pass_on(local: UnixStream, remote: Box<dyn Stream>) {
    let (mut from_client, mut to_client) = local.into_split();
    let (mut from_server, mut to_server) = split(remote);
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {
            let _ = timeout(CLOSING, to_server.shutdown()).await;
        }
        _ = copy(&mut from_server, &mut to_client) => {}
    }
}

async fn read_startup(local: &mut UnixStream) -> io::Result<Vec<u8>> {
    let length = local.read_u32().await? as usize;
    if !(8..=FIRST_MESSAGE).contains(&length) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut message = vec![0; length];
    message[..4].copy_from_slice(&(length as u32).to_be_bytes());
    local.read_exact(&mut message[4..]).await?;
    Ok(message)
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// A connection, and the server's first message on it.
struct Opened {
    stream: Box<dyn Stream>,
    answer: Vec<u8>,
}

impl Opened {
    /// Whether the server has refused the connection, perhaps only with TLS or only without.
    fn is_refused(&self) -> bool {
        self.answer.first() == Some(&b'E')
    }
}

impl Target {
    /// Whether the server says that it has no TLS. False too if it does not answer: a relay tries both ways at each
    /// connection.
    pub(super) async fn has_no_tls(&self) -> bool {
        let asked = async { ask_for_tls(&mut self.connect().await?).await };
        matches!(timeout(OPENING, asked).await, Ok(Ok(false)))
    }

    async fn open(&self, startup: &[u8]) -> io::Result<Opened> {
        let (with_tls, otherwise) = match self.settings.mode {
            Mode::Disable => (false, None),
            Mode::Allow => (false, Some(true)),
            Mode::Prefer => (true, Some(false)),
            Mode::Require | Mode::VerifyCa | Mode::VerifyFull => (true, None),
        };
        let opened = self.open_one_way(with_tls, startup).await;
        match otherwise {
            Some(with_tls) if opened.as_ref().map_or(true, Opened::is_refused) => {
                self.open_one_way(with_tls, startup).await
            }
            _ => opened,
        }
    }

    async fn open_one_way(&self, with_tls: bool, startup: &[u8]) -> io::Result<Opened> {
        let tcp = self.connect().await?;
        let mut stream: Box<dyn Stream> = if with_tls { Box::new(self.secure(tcp).await?) } else { Box::new(tcp) };
        stream.write_all(startup).await?;
        stream.flush().await?;
        let answer = read_answer(&mut stream).await?;
        Ok(Opened { stream, answer })
    }

    async fn connect(&self) -> io::Result<TcpStream> {
        let (host, port) = &self.address;
        let tcp = TcpStream::connect((host.as_str(), *port)).await?;
        tcp.set_nodelay(true)?;
        Ok(tcp)
    }

    async fn secure(&self, mut tcp: TcpStream) -> io::Result<impl Stream + use<>> {
        if !ask_for_tls(&mut tcp).await? {
            return Err(io::Error::other("the server has no TLS, which sslmode asks for"));
        }
        let config = self.settings.client_config().map_err(io::Error::other)?;
        let name = ServerName::try_from(self.settings.host.clone()).map_err(io::Error::other)?;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, tcp).await;
        connected.map_err(|error| io::Error::new(error.kind(), format!("TLS with the server failed: {error}")))
    }
}

/// Asks the server for TLS. Reads no more than the one byte of the answer: what follows must come by TLS.
async fn ask_for_tls(tcp: &mut TcpStream) -> io::Result<bool> {
    tcp.write_all(&SSL_REQUEST).await?;
    match tcp.read_u8().await? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        _ => Err(io::Error::other("the server does not answer the question for TLS as PostgreSQL does")),
    }
}

/// Reads one message of the server. Empty if it has closed the connection, as it does after a request to cancel.
async fn read_answer(stream: &mut Box<dyn Stream>) -> io::Result<Vec<u8>> {
    let mut answer = vec![0; 5];
    if let Err(error) = stream.read_exact(&mut answer).await {
        return if error.kind() == io::ErrorKind::UnexpectedEof { Ok(Vec::new()) } else { Err(error) };
    }
    let length = u32::from_be_bytes([answer[1], answer[2], answer[3], answer[4]]) as usize;
    if !(4..=FIRST_MESSAGE).contains(&length) {
        return Err(io::Error::other("the server does not answer as PostgreSQL does"));
    }
    answer.resize(1 + length, 0);
    stream.read_exact(&mut answer[5..]).await?;
    Ok(answer)
}

/// ErrorResponse with the code 08001, `SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION`, as a server would send it.
fn error_response(text: &str) -> Vec<u8> {
    let text = text.replace('\0', " ");
    let fields = format!("SFATAL\0VFATAL\0C08001\0M{text}\0\0");
    let mut message = vec![b'E'];
    message.extend((fields.len() as u32 + 4).to_be_bytes());
    message.extend(fields.into_bytes());
    message
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::MetadataExt as _};

    use super::*;

    #[tokio::test]
    async fn nobody_else_can_enter_the_folder_of_the_socket() {
        let settings = Settings::new(&|_: &str| None, "localhost", None).unwrap();
        let relay = Relay::start(Target { address: ("localhost".into(), 1), settings }, 1).unwrap();
        assert_eq!(fs::metadata(relay.folder()).unwrap().mode() & 0o777, 0o700);
    }
}
