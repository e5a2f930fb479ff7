//! `cargo xtask up`: builds everything and runs it until Ctrl-C.

mod children;
mod dev;
mod ports;

use std::cell::Cell;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::rc::Rc;
use std::thread::{self, ScopedJoinHandle};
use std::time::Duration;

use anyhow::{Context as _, Result};
use clap::Args;

use self::children::{Children, Outcome};
use crate::cargo::cargo;
use crate::progress::{Step, Task};
use crate::setup::{self, Need};
use crate::workspace::Workspace;
use crate::{dashboard, process};

const WORKER_ID: &str = "worker-1a";

/// Profile in Cargo.toml for a local start, which a release build would delay by minutes.
const QUICK: &str = "quick";

/// Time within which the server has to be ready: one that opens a large database recovers it first.
const READY_WITHIN: Duration = Duration::from_mins(1);

#[derive(Args)]
pub(crate) struct Options {
    /// Store jobs in this PostgreSQL database instead of a SQLite file
    #[arg(long, value_name = "URL", conflicts_with = "data")]
    postgres: Option<String>,
    /// Folder of the SQLite file [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Address of gRPC and gRPC-web; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:50051")]
    grpc_addr: SocketAddr,
    /// Address of the dashboard and /metrics; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    http_addr: SocketAddr,
    /// Rebuild and reload the dashboard when its source changes (trunk serve)
    #[arg(long)]
    dev: bool,
    /// Address of `trunk serve` with --dev
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8081")]
    dev_addr: SocketAddr,
    /// Further options for jobqueue-server
    #[arg(last = true, value_name = "SERVER OPTIONS")]
    server: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, options: &Options) -> Result<ExitCode> {
    let grpc = ports::choose(options.grpc_addr, "--grpc-addr")?;
    let http = ports::choose(options.http_addr, "--http-addr")?;
    let dev = options.dev.then(|| ports::choose(options.dev_addr, "--dev-addr")).transpose()?;
    let database = database_url(workspace, options)?;

    let profile = if options.dev { "debug" } else { QUICK };
    build(workspace, options.dev)?;

    let mut children = Children::new();
    let mut server = Command::new(workspace.binary(profile, "jobqueue-server"));
    server.current_dir(&workspace.root).args(["--grpc-addr", &grpc.to_string(), "--http-addr", &http.to_string()]);
    // Passed in the environment, because a PostgreSQL URL may hold a password, and every user can see arguments.
    server.env("JOBQUEUE_DATABASE_URL", &database);
    if !options.dev {
        // Read when the server starts, so that compiling it does not wait for the dashboard.
        server.env("JOBQUEUE_DASHBOARD_DIR", workspace.dist());
    }
    server.args(&options.server);
    children.start("jobqueue-server", &mut server)?;
    if let Some(outcome) = children.wait_ready(reachable(http), READY_WITHIN)? {
        return Ok(report(&outcome));
    }

    let mut worker = Command::new(workspace.binary(profile, "jobqueue-worker"));
    worker.current_dir(&workspace.root).args(["--worker-id", WORKER_ID, "--simulate"]);
    worker.arg("--server").arg(format!("http://{}", reachable(grpc)));
    children.start("jobqueue-worker", &mut worker)?;

    // Lives until the end, because dropping it removes trunk's configuration.
    let _config = match dev {
        Some(dev) => {
            let config = dev::Config::new(workspace, reachable(http))?;
            children.start("trunk serve", &mut config.serve(workspace, dev)?)?;
            Some(config)
        }
        None => None,
    };
    announce(grpc, http, dev);
    Ok(report(&children.wait()))
}

fn build(workspace: &Workspace, dev: bool) -> Result<()> {
    let programs = || {
        let mut build = cargo();
        build.current_dir(&workspace.root).env("CARGO_TERM_COLOR", "never");
        build.args(["build", "--package", "jobqueue-server", "--package", "jobqueue-worker", "--bins"]);
        if !dev {
            build.args(["--profile", QUICK]);
        }
        build
    };
    thread::scope(|scope| {
        // wasm-opt is left to releases: a browser on the same machine gains nothing from a smaller file.
        let needs = [Need::WasmTarget, Need::Trunk, Need::WasmBindgen];
        let mut plan = setup::plan(workspace, &needs)?;
        // The programs are compiled while the dashboard is built, whose own crate keeps one core busy for a minute. If
        // that fails, so does the build that follows.
        let early = Rc::new(Cell::new(None));
        if !dev {
            let early = Rc::clone(&early);
            plan.extend(dashboard::task(workspace, dashboard::BuildKind::Quick).map(|task| {
                task.starting_with(move || {
                    let mut programs = programs();
                    let build = move || process::logged(&mut programs, &workspace.log("build"), &Step::silent());
                    early.set(Some(scope.spawn(build)));
                })
            }));
        }
        let why = if dev { "debug build" } else { "quick build" };
        plan.push(Task::new("server and worker", why, move |step| {
            let _ = early.take().map(ScopedJoinHandle::join);
            process::logged(&mut programs(), &workspace.log("build"), step)
        }));
        plan.run()
    })
}

fn database_url(workspace: &Workspace, options: &Options) -> Result<String> {
    if let Some(url) = &options.postgres {
        return Ok(url.clone());
    }
    let folder = match &options.data {
        Some(folder) => std::path::absolute(folder).with_context(|| format!("no such path: {}", folder.display()))?,
        None => workspace.root.join("data"),
    };
    Ok(format!("sqlite://{}", folder.join("jobqueue.db").display()))
}

/// Address at which a program on this machine reaches a listener that may be bound to all addresses.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(IpAddr::V4(Ipv4Addr::LOCALHOST));
    }
    address
}

fn announce(grpc: SocketAddr, http: SocketAddr, dev: Option<SocketAddr>) {
    println!();
    match dev {
        Some(dev) => println!("  dashboard  http://{}  (reloads when frontend/ changes)", reachable(dev)),
        None => println!("  dashboard  http://{}", reachable(http)),
    }
    println!("  gRPC       {}", reachable(grpc));
    println!("  worker     {WORKER_ID}");
    println!("\n  Ctrl-C stops all of it.\n");
}

/// Prints how the run ended; success only when somebody asked for the end and every program followed.
fn report(outcome: &Outcome) -> ExitCode {
    match outcome {
        Outcome::Stopped => {
            eprintln!("everything has stopped");
            ExitCode::SUCCESS
        }
        Outcome::Died { name, status } => {
            eprintln!("error: {name} ended by itself ({status}); the rest was stopped");
            ExitCode::FAILURE
        }
        Outcome::Killed { name } => {
            eprintln!("error: {name} did not stop and was killed");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn parse(line: &[&str]) -> Options {
        Line::try_parse_from(std::iter::once("up").chain(line.iter().copied())).unwrap().options
    }

    #[test]
    fn the_database_is_a_file_in_data_unless_told_otherwise() {
        let workspace = Workspace { root: "/repo".into(), target: "/repo/target".into() };
        let url = |line: &[&str]| database_url(&workspace, &parse(line)).unwrap();
        assert_eq!(url(&[]), "sqlite:///repo/data/jobqueue.db");
        assert_eq!(url(&["--data", "/elsewhere"]), "sqlite:///elsewhere/jobqueue.db");
        assert_eq!(url(&["--postgres", "postgres://u:p@h/d"]), "postgres://u:p@h/d");
        assert!(Line::try_parse_from(["up", "--postgres", "postgres://h/d", "--data", "x"]).is_err());
    }

    #[test]
    fn options_after_two_dashes_are_the_servers() {
        assert_eq!(parse(&["--dev", "--", "--insecure-allow-remote"]).server, ["--insecure-allow-remote"]);
    }

    #[test]
    fn a_listener_on_all_addresses_is_reached_by_loopback() {
        assert_eq!(reachable("0.0.0.0:8080".parse().unwrap()).to_string(), "127.0.0.1:8080");
        assert_eq!(reachable("[::1]:8080".parse().unwrap()).to_string(), "[::1]:8080");
    }
}
