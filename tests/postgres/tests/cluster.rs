//! A cluster starts, keeps committed data through a crash, and leaves nothing behind, however it is ended.

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use jobqueue_test_postgres::{Cluster, Error, Setup};

/// Runs a statement with the psql on PATH and returns the rows, unaligned.
#[expect(clippy::unwrap_used, reason = "a test's helper, outside of #[test]")]
fn query(url: &str, sql: &str) -> Result<String, String> {
    let output = Command::new("psql").args(["-X", "-q", "-A", "-t", "-d", url, "-c", sql]).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim().to_owned();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !done() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn commits_survive_kill_9_and_an_immediate_stop_on_the_same_port() {
    let cluster = Cluster::start().unwrap();
    let port = cluster.port().unwrap();
    let url = cluster.create_database("crash").unwrap();
    query(&url, "CREATE TABLE kept AS SELECT 1 AS n").unwrap();

    cluster.kill9().unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody still listens");
    cluster.restart().unwrap();
    query(&url, "INSERT INTO kept VALUES (2)").unwrap();

    cluster.stop_immediate().unwrap();
    assert!(matches!(cluster.stop_immediate(), Err(Error::NotRunning)));
    cluster.restart().unwrap();
    query(&url, "INSERT INTO kept VALUES (3)").unwrap();

    cluster.restart().unwrap();
    assert_eq!(cluster.port().unwrap(), port);
    assert_eq!(query(&url, "SELECT sum(n) FROM kept").unwrap(), "6");
}

#[test]
fn the_settings_that_durability_tests_rely_on_are_in_force() {
    let cluster = Cluster::start().unwrap();
    let folder = cluster.folder().unwrap().display().to_string();
    for (setting, value) in [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("max_connections", "300"),
        ("server_encoding", "UTF8"),
        ("listen_addresses", "127.0.0.1"),
        ("unix_socket_directories", &folder),
    ] {
        assert_eq!(query(&cluster.url("postgres"), &format!("SHOW {setting}")).unwrap(), value, "{setting}");
    }
}

#[test]
fn databases_are_made_once_and_fresh_ones_differ() {
    let cluster = Cluster::start().unwrap();
    cluster.create_database("twice").unwrap();
    let error = cluster.create_database("twice").unwrap_err().to_string();
    assert!(error.contains("already exists"), "{error}");
    cluster.drop_database("twice").unwrap();
    cluster.create_database("twice").unwrap();
    assert_ne!(cluster.fresh_database("fresh").unwrap(), cluster.fresh_database("fresh").unwrap());
}

#[test]
fn dropping_a_cluster_removes_server_and_folder_even_after_a_crash() {
    for crash in [false, true] {
        let cluster = Cluster::start().unwrap();
        let (folder, port) = (cluster.folder().unwrap().to_owned(), cluster.port().unwrap());
        if crash {
            cluster.kill9().unwrap();
        }
        drop(cluster);
        assert!(!folder.exists(), "{} is still there", folder.display());
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody still listens");
    }
}

#[test]
fn nothing_is_left_when_the_process_that_holds_a_cluster_is_killed() {
    let mut holder = Command::new(env!("CARGO_BIN_EXE_jobqueue-test-postgres")).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(holder.stdout.take().unwrap()).lines();
    let url = lines.next().unwrap().unwrap();
    let folder = PathBuf::from(lines.next().unwrap().unwrap());
    assert_eq!(query(&url, "SELECT 1").unwrap(), "1");
    assert!(folder.join("data").exists());

    holder.kill().unwrap();
    holder.wait().unwrap();
    wait_until("the folder is gone", || !folder.exists());
    wait_until("nobody listens", || query(&url, "SELECT 1").is_err());
}

#[test]
fn a_cluster_takes_settings_and_a_folder_of_the_callers() {
    let parent = tempfile::Builder::new().permissions(PermissionsExt::from_mode(0o755)).tempdir().unwrap();
    let settings =
        vec![("max_connections".to_owned(), "20".to_owned()), ("cluster_name".to_owned(), "it's".to_owned())];
    let cluster = Cluster::start_with(&Setup { settings, parent: Some(parent.path().to_owned()) }).unwrap();
    assert_eq!(cluster.query("SHOW max_connections").unwrap(), "20");
    assert_eq!(cluster.query("SHOW cluster_name").unwrap(), "it's");
    assert_eq!(cluster.folder().unwrap().parent().unwrap(), parent.path().canonicalize().unwrap());
    assert!(cluster.processes().unwrap().len() > 3);
}

#[test]
fn what_was_committed_is_on_the_standby_when_the_primary_is_lost() {
    let primary = Cluster::start().unwrap();
    let standby = primary.start_standby(&Setup::default()).unwrap();
    let url = primary.create_database("pair").unwrap();
    query(&url, "CREATE TABLE kept AS SELECT 1 AS n").unwrap();
    // The standby has the commit on disk, and shows it once it is applied.
    wait_until("the standby shows it", || query(&standby.url("pair"), "SELECT 1 FROM kept").is_ok());
    let read_only = query(&standby.url("pair"), "INSERT INTO kept VALUES (2)").unwrap_err();
    assert!(read_only.contains("read-only"), "{read_only}");

    primary.kill9().unwrap();
    assert!(!primary.is_running().unwrap());
    standby.promote().unwrap();
    let url = standby.url("pair");
    query(&url, "INSERT INTO kept VALUES (2)").unwrap();
    assert_eq!(query(&url, "SELECT sum(n) FROM kept").unwrap(), "3");

    // The roles are swapped once more, with a new copy in the old primary's place.
    let back = standby.start_standby(&Setup::default()).unwrap();
    query(&url, "INSERT INTO kept VALUES (3)").unwrap();
    standby.kill9().unwrap();
    back.promote().unwrap();
    assert_eq!(query(&back.url("pair"), "SELECT sum(n) FROM kept").unwrap(), "6");
}
