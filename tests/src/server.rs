//! `jobqueue-server` as a process, on free ports and the test's own database.

use std::{
    net::{Ipv4Addr, SocketAddr},
    ops::{Deref, DerefMut},
    process::Command,
};

use serde_json::Value;

use crate::{
    api::Api,
    binaries,
    poll::{PATIENCE, within},
    process::Process,
    web,
};

/// A server that listens.
#[derive(Debug)]
pub struct Server {
    process: Process,
    url: String,
    args: Vec<String>,
    grpc_addr: SocketAddr,
    http_addr: SocketAddr,
}

impl Server {
    /// Starts a server on the database at `url`; returns when it listens.
    pub async fn start(url: &str) -> Self {
        Self::start_with(url, &[]).await
    }

    /// Starts a server with more arguments.
    pub async fn start_with(url: &str, args: &[&str]) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::start_at(url, args.iter().map(|&it| it.to_owned()).collect(), &[], any, any).await
    }

    /// Starts a server with variables in its environment; [`Server::start_again`] starts it without them.
    pub async fn start_in(url: &str, environment: &[(&str, &str)]) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Self::start_at(url, Vec::new(), environment, any, any).await
    }

    /// Starts a server with failpoints; [`Server::start_again`] starts it without them.
    pub async fn start_failing(url: &str, args: &[&str], failpoints: &str) -> Self {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let args = args.iter().map(|&it| it.to_owned()).collect();
        let server = Self::start_at(url, args, &[("FAILPOINTS", failpoints)], any, any).await;
        let set = server.stderr().contains("failpoint set");
        assert!(set, "this jobqueue-server was built without --features jobqueue-server/failpoints");
        server
    }

    async fn start_at(
        url: &str,
        args: Vec<String>,
        environment: &[(&str, &str)],
        grpc_addr: SocketAddr,
        http_addr: SocketAddr,
    ) -> Self {
        // The number of connections is low, because the tests share one PostgreSQL.
        let mut command = command(url);
        command.env("FAILPOINTS", "").envs(environment.iter().copied());
        if !args.iter().any(|it| it == "--database-max-connections") {
            command.args(["--database-max-connections", "8"]);
        }
        command.args(["--log", "info,sqlx=warn"]);
        command.args(["--grpc-addr", &grpc_addr.to_string(), "--http-addr", &http_addr.to_string()]).args(&args);
        let mut process = Process::start("jobqueue-server", &mut command);
        let (grpc_addr, http_addr) = within(2 * PATIENCE, "the server listens", async || {
            let announced = announced(&process.stdout());
            if announced.is_none()
                && let Some(status) = process.has_ended()
            {
                panic!("the server ended before it listened: {status}");
            }
            announced
        })
        .await;
        Self { process, url: url.to_owned(), args, grpc_addr, http_addr }
    }

    /// Starts the server again with the same arguments on the same database and ports. It must have ended.
    pub async fn start_again(&mut self) {
        assert!(self.has_ended().is_some(), "it still runs");
        *self = Self::start_at(&self.url, self.args.clone(), &[], self.grpc_addr, self.http_addr).await;
    }

    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc_addr
    }

    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// `http://host:port` of gRPC.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.grpc_addr)
    }

    /// Number of acquires that the server has made in its store.
    pub async fn acquire_count(&self) -> u64 {
        self.calls_to_store("acquire").await
    }

    /// Number of calls of a method that the server has made to its store.
    pub async fn calls_to_store(&self, method: &str) -> u64 {
        let metrics = web::get(self.http_addr, "/metrics").await.text();
        let series = format!("jobqueue_store_seconds_count{{method=\"{method}\"}}");
        let line = metrics.lines().find(|it| it.starts_with(&series));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }

    /// gRPC clients with a connection of their own.
    pub fn api(&self) -> Api {
        Api::at(self.grpc_addr)
    }

    /// Stops the server in order, and runs `jobqueue-server check` on its database.
    pub async fn stop_and_check(mut self) {
        if self.has_ended().is_none() {
            let status = self.terminate().await;
            assert!(status.success(), "the server ended with {status}");
        }
        let mut check = command(&self.url);
        // The check gets the server's arguments, which may describe the database.
        let mut check = Process::start("jobqueue-server check", check.args(&self.args).arg("check"));
        let status = check.ended().await;
        assert!(status.success(), "{}{}", check.stdout(), check.stderr());
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl DerefMut for Server {
    fn deref_mut(&mut self) -> &mut Process {
        &mut self.process
    }
}

/// `jobqueue-server` with the database at `url` and no other arguments.
pub fn command(url: &str) -> Command {
    let mut command = Command::new(binaries::server());
    command.args(["--database-url", url]);
    command
}

/// Addresses that the server has printed; `None` until it has.
fn announced(stdout: &str) -> Option<(SocketAddr, SocketAddr)> {
    let (line, _) = stdout.split_once('\n')?;
    let announced: Value = serde_json::from_str(line).unwrap();
    let addr = |name: &str| announced["listening"][name].as_str().unwrap().parse().unwrap();
    Some((addr("grpc_addr"), addr("http_addr")))
}
