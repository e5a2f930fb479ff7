//! PgBouncer in transaction mode in front of a cluster.
//!
//! Its configuration has nothing for jobqueue: no startup parameter is ignored, nothing is reset between the
//! transactions that share a session.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::own::{account, free_port};
use crate::{Cluster, Error, with_database};

/// Runs PgBouncer until the end of a pipe that only this process holds: also after a `kill -9`, and for statics. `$1`
/// is its program, `$2` its folder.
const SCRIPT: &str = r#"
trap '' INT TERM HUP
"$1" -q "$2/pgbouncer.ini" </dev/null &
pid=$!
read -r _
kill -KILL $pid
wait $pid
rm -rf "$2"
exit 0
"#;

const READY_WITHIN: Duration = Duration::from_secs(20);

/// A running PgBouncer. Dropping it ends it.
#[derive(Debug)]
pub struct Pooler {
    url: String,
    shell: Child,
    folder: TempDir,
}

impl Pooler {
    /// Starts a pooler on 127.0.0.1 and a free port with up to `sessions` server sessions for each database, and
    /// returns when it accepts connections.
    ///
    /// # Errors
    /// [`Error::NoPooler`] when PgBouncer is not installed.
    pub fn start(cluster: &Cluster, sessions: u32) -> Result<Self, Error> {
        let program = program()?;
        let folder = tempfile::Builder::new()
            .prefix("jobqueue-pgbouncer-")
            .tempdir()
            .map_err(Error::io("cannot make a temporary folder"))?;
        let port = free_port()?;
        let address = cluster.url("postgres");
        let server = Server::of(&address);
        let config = format!(
            "[databases]\n* = {}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = transaction\ndefault_pool_size = {sessions}\nmax_client_conn = 2000\n\
             server_idle_timeout = 5\nserver_login_retry = 1\nlogfile = {}\n",
            server.parameters(),
            folder.path().join("pgbouncer.log").display()
        );
        let file = folder.path().join("pgbouncer.ini");
        fs::write(&file, config).map_err(Error::io("cannot write pgbouncer.ini"))?;
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT, "jobqueue-pgbouncer"]).arg(program).arg(folder.path());
        // PgBouncer refuses to run as root.
        if let Some(account) = account()? {
            for path in [folder.path(), &file] {
                std::os::unix::fs::chown(path, Some(account.uid), Some(account.gid))
                    .map_err(Error::io("cannot hand PgBouncer's folder over"))?;
            }
            command.uid(account.uid).gid(account.gid);
        }
        let output = File::create(folder.path().join("output")).map_err(Error::io("cannot write a log"))?;
        let errors = output.try_clone().map_err(Error::io("cannot write a log"))?;
        let shell = command
            .current_dir("/")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            .spawn()
            .map_err(Error::io("cannot start sh"))?;
        let pooler = Self { url: format!("postgres://{}@127.0.0.1:{port}/postgres", server.user), shell, folder };
        pooler.wait_ready(port)?;
        Ok(pooler)
    }

    /// The pooler before [`Cluster::shared`] that all tests of this process share.
    ///
    /// # Errors
    /// As [`Pooler::start`] and [`Cluster::shared`].
    pub fn shared() -> Result<&'static Self, String> {
        static SHARED: OnceLock<Result<Pooler, String>> = OnceLock::new();
        let start = || {
            let cluster = Cluster::shared().map_err(ToString::to_string)?;
            Self::start(cluster, 6).map_err(|error| error.to_string())
        };
        SHARED.get_or_init(start).as_ref().map_err(Clone::clone)
    }

    /// URL of `database` through the pooler.
    pub fn url(&self, database: &str) -> String {
        with_database(&self.url, database)
    }

    fn wait_ready(&self, port: u16) -> Result<(), Error> {
        let deadline = Instant::now() + READY_WITHIN;
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            if Instant::now() > deadline {
                let read = |name| fs::read_to_string(self.folder.path().join(name)).unwrap_or_default();
                let output = read("output") + &read("pgbouncer.log");
                return Err(Error::Program {
                    program: "pgbouncer".into(),
                    status: "it does not listen".into(),
                    output,
                });
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// Finds PgBouncer's program, which Debian installs outside the PATH of ordinary users.
fn program() -> Result<&'static str, Error> {
    let runs = |program: &&str| {
        Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    };
    ["pgbouncer", "/usr/sbin/pgbouncer"].into_iter().find(runs).ok_or(Error::NoPooler)
}

/// Parts of a server's URL.
struct Server<'a> {
    user: &'a str,
    password: &'a str,
    host: &'a str,
    port: &'a str,
}

impl<'a> Server<'a> {
    fn of(url: &'a str) -> Self {
        let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
        let authority = rest.split(['/', '?']).next().unwrap_or_default();
        let (login, address) = authority.rsplit_once('@').unwrap_or(("postgres", authority));
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "5432"));
        Self { user, password, host, port }
    }

    /// The server's parameters in the syntax of pgbouncer.ini.
    fn parameters(&self) -> String {
        let Self { user, password, host, port } = self;
        let password = if password.is_empty() { String::new() } else { format!(" password={password}") };
        format!("host={host} port={port} user={user}{password}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_leads_where_the_url_leads() {
        let parameters = |url| Server::of(url).parameters();
        assert_eq!(parameters("postgres://postgres@127.0.0.1:4711/postgres"), "host=127.0.0.1 port=4711 user=postgres");
        assert_eq!(parameters("postgres://u:p@h/x?sslmode=disable"), "host=h port=5432 user=u password=p");
    }
}
