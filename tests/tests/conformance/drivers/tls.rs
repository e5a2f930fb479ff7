//! TLS to PostgreSQL: every mode of libpq against a server with a certificate, one without, and rules that allow a
//! connection only one way.

use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    sync::Arc,
};

use jobqueue_server::database::connect;
use jobqueue_store::{ConnectOptions, Notification, Store};
use jobqueue_test_postgres::Cluster;
use jobqueue_tests::poll::{PATIENCE, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    drivers::schemas::works,
    store_fixture::{insert_on, jobs},
};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate of a host or a user, and its key.
fn certified(by: &Authority, name: &str) -> [String; 2] {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    [params.signed_by(&key, by).unwrap().pem(), key.serialize_pem()]
}

/// A PostgreSQL with TLS and a certificate for `localhost`, and files for its clients.
struct Secured {
    cluster: Cluster,
    folder: TempDir,
}

/// Lines of pg_hba.conf: the kind of connection that each role may use.
const RULES: &str = "
local all all trust
hostssl all by_tls all trust
host all by_tls all reject
hostnossl all without_tls all trust
host all without_tls all reject
hostssl all by_certificate all cert
host all by_certificate all reject
host all all all trust";

impl Secured {
    fn start() -> Self {
        let cluster = Cluster::start().unwrap();
        let (trusted, stranger) = (authority(), authority());
        let [certificate, key] = certified(&trusted, "localhost");
        let write = |file: &str, text: &str| {
            // Written by the server process, which must own these files.
            let lines = format!("SELECT unnest(string_to_array($file${text}$file$, E'\\n'))");
            cluster.query(&format!("COPY ({lines}) TO PROGRAM 'umask 077; cat > {file}'")).unwrap();
        };
        write("server.crt", &certificate);
        write("server.key", &key);
        write("root.crt", &trusted.pem());
        write("pg_hba.conf", RULES);
        for role in ["by_tls", "without_tls", "by_certificate"] {
            cluster.query(&format!("CREATE ROLE {role} LOGIN SUPERUSER")).unwrap();
        }
        for setting in ["ssl = on", "ssl_ca_file = 'root.crt'"] {
            cluster.query(&format!("ALTER SYSTEM SET {setting}")).unwrap();
        }
        cluster.restart().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let [client, client_key] = certified(&trusted, "by_certificate");
        for (name, text) in [
            ("trusted.crt", trusted.pem()),
            ("stranger.crt", stranger.pem()),
            ("client.crt", client),
            ("client.key", client_key),
        ] {
            let mut options = OpenOptions::new();
            let mut file = options.write(true).create_new(true).mode(0o600).open(folder.path().join(name)).unwrap();
            file.write_all(text.as_bytes()).unwrap();
        }
        Self { cluster, folder }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// URL of the server; `?file` in the parameters stands for one of its files.
    fn url(&self, user: &str, host: &str, parameters: &str) -> String {
        let files = self.folder.path().display();
        let parameters = parameters.replace('?', &format!("{files}/"));
        format!("postgres://{user}@{host}:{}/postgres?{parameters}", self.cluster.port().unwrap())
    }

    /// Numbers of connections of jobqueue servers with TLS, and without.
    fn connections(&self) -> (usize, usize) {
        let sql = "SELECT count(*) FILTER (WHERE s.ssl), count(*) FILTER (WHERE NOT s.ssl)
                   FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.application_name = 'jobqueue'";
        let found = self.cluster.query(sql).unwrap();
        let (with, without) = found.split_once('|').unwrap();
        (with.parse().unwrap(), without.parse().unwrap())
    }

    /// True when a connection uses TLS, false when it does not.
    async fn connects(&self, url: &str) -> Result<bool, String> {
        let store = connect(&ConnectOptions::new(url)).await.map_err(|error| error.to_string())?;
        assert!(store.now_ms().await.is_ok());
        let (with, without) = self.connections();
        assert!((with == 0) != (without == 0), "{with} connections with TLS, {without} without: {url}");
        store.close().await;
        eventually("its connections are closed", async || (self.connections() == (0, 0)).then_some(())).await;
        Ok(with > 0)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_mode_is_as_strong_as_it_says() {
    let it = tokio::task::spawn_blocking(Secured::start).await.unwrap();
    for (user, host, parameters, with_tls) in [
        ("postgres", "localhost", "", true),
        ("postgres", "localhost", "sslmode=disable", false),
        ("postgres", "localhost", "sslmode=allow", false),
        ("by_tls", "localhost", "sslmode=allow", true),
        ("postgres", "localhost", "sslmode=prefer", true),
        ("without_tls", "localhost", "sslmode=prefer", false),
        ("postgres", "127.0.0.1", "sslmode=require", true),
        ("postgres", "127.0.0.1", "sslmode=require&sslrootcert=?trusted.crt", true),
        ("postgres", "127.0.0.1", "sslmode=verify-ca&sslrootcert=?trusted.crt", true),
        ("postgres", "localhost", "sslmode=verify-full&sslrootcert=?trusted.crt", true),
        // The certificate is checked for the host name, not for the address.
        ("postgres", "localhost", "hostaddr=127.0.0.1&sslmode=verify-full&sslrootcert=?trusted.crt", true),
        ("by_certificate", "localhost", "sslmode=require&sslcert=?client.crt&sslkey=?client.key", true),
    ] {
        let url = it.url(user, host, parameters);
        assert_eq!(it.connects(&url).await, Ok(with_tls), "{url}");
    }
    for (user, host, parameters, says) in [
        ("postgres", "127.0.0.1", "sslmode=verify-full&sslrootcert=?trusted.crt", "not valid for name"),
        (
            "postgres",
            "localhost",
            "hostaddr=127.0.0.1&host=db.example&sslmode=verify-full&sslrootcert=?trusted.crt",
            "not valid for name",
        ),
        ("postgres", "localhost", "sslmode=verify-full&sslrootcert=?stranger.crt", "invalid peer certificate"),
        ("postgres", "localhost", "sslmode=verify-ca&sslrootcert=?stranger.crt", "invalid peer certificate"),
        ("postgres", "localhost", "sslmode=require&sslrootcert=?stranger.crt", "invalid peer certificate"),
        // The system's certificate store does not trust it either.
        ("postgres", "localhost", "sslrootcert=system", ""),
        ("postgres", "localhost", "sslmode=verify-full&sslrootcert=?none.crt", "none.crt"),
        ("by_tls", "localhost", "sslmode=disable", "pg_hba.conf"),
        ("without_tls", "localhost", "sslmode=require", "pg_hba.conf"),
        ("by_certificate", "localhost", "sslmode=require", "certificate"),
    ] {
        let url = it.url(user, host, parameters);
        let error = it.connects(&url).await.unwrap_err();
        assert!(error.contains(says), "{url}: {error}");
        assert_eq!(it.connections(), (0, 0), "{url}");
    }
    fs::set_permissions(it.file("client.key"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let url = it.url("by_certificate", "localhost", "sslmode=require&sslcert=?client.crt&sslkey=?client.key");
    assert!(it.connects(&url).await.unwrap_err().contains("chmod 0600"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_tls_is_refused_by_whoever_asks_for_it() {
    let url = Cluster::shared().unwrap().fresh_database("plain").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root.crt");
    fs::write(&root, authority().pem()).unwrap();
    let root = root.display();
    for mode in ["require".into(), format!("verify-ca&sslrootcert={root}"), format!("verify-full&sslrootcert={root}")] {
        let error = connect(&ConnectOptions::new(format!("{url}?sslmode={mode}"))).await.err().unwrap().to_string();
        assert!(error.contains("has no TLS"), "{mode}: {error}");
    }
    for mode in ["allow", "prefer", "disable"] {
        connect(&ConnectOptions::new(format!("{url}?sslmode={mode}"))).await.unwrap().close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_a_server_does_goes_by_tls() {
    let it = tokio::task::spawn_blocking(Secured::start).await.unwrap();
    let url = it.url("by_tls", "localhost", "sslmode=verify-full&sslrootcert=?trusted.crt");
    let options = ConnectOptions { direct_url: Some(url.clone()), ..ConnectOptions::new(url) };
    let (one, other): (Arc<dyn Store>, _) = (connect(&options).await.unwrap(), connect(&options).await.unwrap());
    works(&one, "w", 7).await;
    let mut notifications = other.notifications().unwrap();
    eventually("the other server hears", async || {
        one.announce(&[Notification::Runnable("w".into())]).await.unwrap();
        timeout(PATIENCE / 30, notifications.recv()).await.ok()?.ok()
    })
    .await;
    // After a restart of PostgreSQL, new connections use TLS again.
    it.cluster.stop_immediate().unwrap();
    assert!(one.now_ms().await.is_err());
    it.cluster.restart().unwrap();
    eventually("it is reached again", async || one.now_ms().await.ok()).await;
    insert_on(&*one, jobs("v", 6)).await;
    let (with, without) = it.connections();
    assert!(with > 0 && without == 0, "{with} connections with TLS, {without} without");
    for store in [one, other] {
        store.close().await;
    }
    eventually("its connections are closed", async || (it.connections() == (0, 0)).then_some(())).await;
}
