//! Settings of the server: its command line and environment variables.

mod browser_names;
mod common;
mod database_url;
mod durations;
mod serve;
mod tls;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

pub use self::{
    browser_names::{HostName, Origin},
    common::Common,
    database_url::DatabaseUrl,
    serve::Serve,
    tls::{Tls, TlsFiles},
};

/// A durable job queue: programs submit jobs over gRPC, workers lease and run them, people watch in a browser.
///
/// Without a command it serves: gRPC and gRPC-web on both addresses; the dashboard, /metrics, /healthz and /readyz too.
/// Each option can be given as an environment variable instead.
#[derive(Debug, Parser)]
#[command(name = "jobqueue-server", version, max_term_width = 100)]
pub struct Cli {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub serve: Serve,
    #[command(subcommand)]
    pub command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Migrate the database's schema to this version and exit.
    Migrate,
    /// Write a consistent copy of an SQLite database into a new file and exit.
    Backup {
        /// The file to create; it must not exist.
        file: PathBuf,
    },
    /// Set back stored times after a server has run on an SQLite database with a clock that was ahead, and exit. Stop
    /// the server, set this machine's clock right and make a backup first.
    SetClockBack,
    /// Read the whole database, print all contradictions in it, and exit with 1 if there are any.
    Check,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(args: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(["jobqueue-server"].iter().chain(args))
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_variable_is_read_as_in_the_other_programs() {
        jobqueue_shared::settings::assert_variables_are_read_alike::<Cli>(&[], &[]);
    }

    #[test]
    fn it_serves_on_loopback_unless_told_otherwise() {
        let cli = parse(&[]).unwrap();
        assert!(cli.command.is_none());
        assert!(cli.serve.check_addresses().is_ok());
        let open = parse(&["--grpc-addr", "0.0.0.0:1"]).unwrap().serve;
        let message = open.check_addresses().unwrap_err();
        assert!(message.contains("--grpc-addr 0.0.0.0:1") && message.contains("--insecure-allow-remote"), "{message}");
        assert!(!message.contains('\n'));
        let open = Serve { insecure_allow_remote: true, ..open };
        assert!(open.check_addresses().is_ok());
        assert!(parse(&["--http-addr", "[::1]:0"]).unwrap().serve.check_addresses().is_ok());
    }

    #[test]
    fn the_database_may_stand_before_or_after_the_command() {
        for args in [["--database-url", "sqlite://x", "check"], ["check", "--database-url", "sqlite://x"]] {
            assert_eq!(parse(&args).unwrap().common.database_url.as_str(), "sqlite://x");
        }
    }

    #[test]
    fn origins_and_host_names_may_be_repeated_or_listed() {
        let cli = parse(&["--cors-origin", "http://a", "--cors-origin", "http://b,http://c"]).unwrap();
        assert_eq!(cli.serve.cors_origins.len(), 3);
        let cli = parse(&["--http-host", "a", "--http-host", "b,c"]).unwrap();
        assert_eq!(cli.serve.http_hosts.len(), 3);
    }

    #[test]
    fn both_addresses_have_places_for_connections() {
        for n in [2, 3, 4, 900] {
            let [grpc, http] = parse(&["--max-connections", &n.to_string()]).unwrap().serve.connections();
            assert!(grpc > 0 && http > 0 && grpc + http == n, "{n}");
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for args in [
            ["--max-payload-bytes", "1048577"],
            ["--max-payload-bytes", "0"],
            ["--rescue-interval", "0s"],
            ["--retention-done", "soon"],
        ] {
            assert!(parse(&args).is_err(), "{args:?}");
        }
    }
}
