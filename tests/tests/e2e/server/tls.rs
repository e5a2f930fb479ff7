//! TLS on both addresses: who gets in, with which protocol, and with which certificate.

use std::{fs, io, net::SocketAddr, path::PathBuf, sync::Arc};

use jobqueue_shared::proto::v1::job::Status;
use jobqueue_tests::{
    api::{Api, job},
    database::{Database, Driver},
    poll::eventually,
    process::Process,
    server::{self, Server},
    worker::Worker,
};
use jobqueue_worker::{Client, NewJob, Tls};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    version::{TLS12, TLS13},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use uuid::Uuid;

/// Authority with a certificate for `localhost`.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, Uuid::new_v4().to_string());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Certificate for a host or a client, and its key.
    fn certified(&self, name: &str) -> [String; 2] {
        let params = CertificateParams::new([name.to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        [params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem()]
    }
}

/// Files of a server and its clients.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.path(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Options of a server with a certificate of `authority`.
    fn server(&self, authority: &Authority) -> Vec<String> {
        let [certificate, key] = authority.certified("localhost");
        let (certificate, key) = (self.write("server.pem", &certificate), self.write("server.key", &key));
        ["--tls-cert".into(), certificate, "--tls-key".into(), key].into()
    }
}

async fn start(database: &Database, options: &[String]) -> Server {
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    Server::start_with(database.url(), &options).await
}

fn https(addr: SocketAddr) -> String {
    format!("https://localhost:{}", addr.port())
}

fn client(addr: SocketAddr, tls: &Tls) -> Client {
    Client::connect_with(https(addr), tls).unwrap().without_repeats()
}

/// Opens a TLS connection that trusts `authority` and offers `protocol`.
async fn handshake(
    addr: SocketAddr,
    authority: &str,
    version: &'static SupportedProtocolVersion,
    protocol: &[u8],
) -> io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config =
        builder.with_protocol_versions(&[version]).unwrap().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(addr).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").unwrap(), stream).await
}

async fn get(addr: SocketAddr, authority: &str, version: &'static SupportedProtocolVersion) -> String {
    let mut stream = handshake(addr, authority, version, b"http/1.1").await.unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn both_addresses_speak_tls_and_nothing_else() {
    let (authority, files) = (Authority::new(), Files::new());
    let database = Database::create(Driver::Sqlite).await;
    let server = start(&database, &files.server(&authority)).await;
    for addr in [server.grpc_addr(), server.http_addr()] {
        for version in [&TLS12, &TLS13] {
            assert!(get(addr, &authority.pem(), version).await.starts_with("HTTP/1.1 200 OK"));
            let stream = handshake(addr, &authority.pem(), version, b"h2").await.unwrap();
            assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        }
        let trusting = Tls::new().ca(authority.pem());
        let submitted = client(addr, &trusting).submit(NewJob::new("w", &())).await.unwrap();
        assert!(!submitted.job_id.is_empty());
        // A client that speaks plain HTTP is told what is wrong, in its own protocol.
        let mut plain = TcpStream::connect(addr).await.unwrap();
        plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        plain.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.ends_with("https://\n"), "{answer}");
        let error = Api::at(addr).try_submit(job("w", "{}")).await.unwrap_err();
        assert!(format!("{error:?}").contains("https://"), "{error:?}");
        // A client that does not trust the authority, or expects another name, ends the handshake.
        for (tls, why) in [
            (Tls::new().ca(Authority::new().pem()), "UnknownIssuer"),
            (Tls::new().ca(authority.pem()).server_name("elsewhere"), "elsewhere"),
        ] {
            let error = client(addr, &tls).submit(NewJob::new("w", &())).await.unwrap_err();
            assert!(format!("{error} {error:?}").contains(why), "{error:?}");
        }
    }
    server.stop_and_check().await;
}

#[tokio::test]
async fn a_worker_runs_jobs_over_tls() {
    let (authority, files) = (Authority::new(), Files::new());
    let database = Database::create(Driver::Sqlite).await;
    let server = start(&database, &files.server(&authority)).await;
    let ca = files.write("ca.pem", &authority.pem());
    let endpoint = https(server.grpc_addr());
    let distrusting = Worker::start_at(&endpoint, "w", &["--simulate"]);
    let worker = Worker::start_at(&endpoint, "w", &["--simulate", "--ca", &ca]);
    let jobs = client(server.grpc_addr(), &Tls::new().ca(authority.pem()));
    let id = jobs.submit(NewJob::new("w", &())).await.unwrap().job_id;
    eventually("the job is done", async || (jobs.get(&id).await.unwrap().job.status() == Status::Done).then_some(()))
        .await;
    eventually("the reason is in the log", async || distrusting.stderr().contains("UnknownIssuer").then_some(())).await;
    drop((worker, distrusting));
    server.stop_and_check().await;
}

#[tokio::test]
async fn changed_files_count_for_new_connections_and_unusable_ones_do_not() {
    let (first, second, files) = (Authority::new(), Authority::new(), Files::new());
    let database = Database::create(Driver::Sqlite).await;
    let server = start(&database, &files.server(&first)).await;
    let addr = server.http_addr();
    let mut kept = handshake(addr, &first.pem(), &TLS13, b"http/1.1").await.unwrap();
    files.write("server.pem", "not a certificate");
    let refused = "changed TLS files cannot be used";
    eventually("the change is refused", async || server.stderr().contains(refused).then_some(())).await;
    assert!(server.stderr().contains("server.pem"));
    assert!(get(addr, &first.pem(), &TLS13).await.contains("200 OK"));
    files.server(&second);
    eventually("the new certificate is in use", async || handshake(addr, &second.pem(), &TLS13, b"h2").await.ok())
        .await;
    assert!(handshake(addr, &first.pem(), &TLS13, b"h2").await.is_err());
    kept.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    kept.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    server.stop_and_check().await;
}

#[tokio::test]
async fn only_clients_with_a_certificate_of_the_client_authority_get_in() {
    let (authority, clients, files) = (Authority::new(), Authority::new(), Files::new());
    let database = Database::create(Driver::Sqlite).await;
    let mut options = files.server(&authority);
    options.extend(["--tls-client-ca".into(), files.write("clients.pem", &clients.pem())]);
    let server = start(&database, &options).await;
    let trusting = Tls::new().ca(authority.pem());
    let own = |by: &Authority| {
        let [certificate, key] = by.certified("client");
        trusting.clone().identity(certificate, key)
    };
    for addr in [server.grpc_addr(), server.http_addr()] {
        let submit = async |tls: Tls| client(addr, &tls).submit(NewJob::new("w", &())).await;
        submit(own(&clients)).await.unwrap();
        submit(trusting.clone()).await.unwrap_err();
        submit(own(&authority)).await.unwrap_err();
    }
    let [certificate, key] = clients.certified("worker");
    let (certificate, key) = (files.write("worker.pem", &certificate), files.write("worker.key", &key));
    let ca = files.write("ca.pem", &authority.pem());
    let identity = ["--simulate", "--ca", &ca, "--client-cert", &certificate, "--client-key", &key];
    let worker = Worker::start_at(&https(server.grpc_addr()), "w", &identity);
    eventually("the worker is registered", async || worker.stderr().contains("taking jobs").then_some(())).await;
    drop(worker);
    server.stop_and_check().await;
}

/// Reason that a server gives for not starting.
async fn refusal(database: &Database, options: &[&str]) -> String {
    let mut command = server::command(database.url());
    command.args(["--http-addr", "127.0.0.1:0"]).args(options);
    if !options.contains(&"--grpc-addr") {
        command.args(["--grpc-addr", "127.0.0.1:0"]);
    }
    let mut process = Process::start("jobqueue-server", &mut command);
    assert!(!process.ended().await.success());
    process.stderr()
}

#[tokio::test]
async fn files_that_cannot_be_used_keep_the_server_from_starting() {
    let (authority, files) = (Authority::new(), Files::new());
    let database = Database::create(Driver::Sqlite).await;
    let [certificate, key] = authority.certified("localhost");
    let [_, other_key] = authority.certified("localhost");
    let (certificate, key) = (files.write("server.pem", &certificate), files.write("server.key", &key));
    let (other_key, empty) = (files.write("other.key", &other_key), files.write("empty.pem", ""));
    for (options, named) in [
        (vec!["--tls-cert", &certificate], "--tls-key"),
        (vec!["--tls-cert", "missing.pem", "--tls-key", &key], "--tls-cert missing.pem"),
        (vec!["--tls-cert", &empty, "--tls-key", &key], "empty.pem"),
        (vec!["--tls-cert", &certificate, "--tls-key", &empty], "--tls-key"),
        (vec!["--tls-cert", &certificate, "--tls-key", &other_key], "other.key"),
        (vec!["--tls-cert", &certificate, "--tls-key", &key, "--tls-client-ca", &empty], "--tls-client-ca"),
        (vec!["--grpc-addr", "0.0.0.0:0", "--tls-cert", &certificate, "--tls-key", &key], "--tls-client-ca"),
    ] {
        let reason = refusal(&database, &options).await;
        assert!(reason.contains(named), "{options:?}: {reason}");
    }
}
