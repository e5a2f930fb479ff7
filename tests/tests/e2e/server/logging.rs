//! Logs that are not read, cannot be written, or are filled by clients.

use std::{
    fs::OpenOptions,
    io::{BufRead as _, BufReader, PipeReader, Read as _, Write as _, pipe},
    net::SocketAddr,
    os::fd::AsFd as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use jobqueue_shared::proto::v1::{
    Settlement,
    settlement::{Complete, Outcome},
};
use jobqueue_tests::{
    api::{Api, job},
    database::{Database, Driver},
    poll::eventually,
    process::Signal,
    server, web,
};
use rustix::{
    fs::{OFlags, fcntl_getfl, fcntl_setfl},
    process::{Pid, kill_process},
};
use serde_json::Value;

use crate::deployment::{Deployment, ManualWorker, WORKER_ID};

/// A server whose stderr this test holds; killed when it is dropped.
struct Muted {
    child: Child,
    grpc: SocketAddr,
    http: SocketAddr,
}

impl Muted {
    fn start(url: &str, stderr: impl Into<Stdio>, args: &[&str]) -> Self {
        let mut command: Command = server::command(url);
        command.args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]).args(args);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let announced: Value = serde_json::from_str(&line).unwrap();
        let addr = |name: &str| announced["listening"][name].as_str().unwrap().parse().unwrap();
        Self { child, grpc: addr("grpc_addr"), http: addr("http_addr") }
    }

    fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    async fn ended(&mut self) -> ExitStatus {
        eventually("the server ends", async || self.child.try_wait().unwrap()).await
    }

    async fn dropped(&self) -> u64 {
        let metrics = web::get(self.http, "/metrics").await.text();
        let line = metrics.lines().find(|it| it.starts_with("jobqueue_log_lines_dropped_total "));
        line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Full pipe, as the stderr of a process that does not wait to write.
fn full_pipe() -> (PipeReader, Stdio) {
    let (reader, mut writer) = pipe().unwrap();
    let flags = fcntl_getfl(writer.as_fd()).unwrap();
    fcntl_setfl(writer.as_fd(), flags | OFlags::NONBLOCK).unwrap();
    while writer.write(&[b'\n'; 512]).is_ok() {}
    fcntl_setfl(writer.as_fd(), flags).unwrap();
    (reader, writer.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_log_nobody_reads_serves_and_stops_and_counts_what_it_dropped() {
    let database = Database::create(Driver::Sqlite).await;
    let (mut reader, stderr) = full_pipe();
    // At this level each call logs many lines.
    let mut server = Muted::start(database.url(), stderr, &["--log", "trace"]);
    let api = Api::at(server.grpc);
    eventually("lines are dropped", async || {
        api.submit(job(WORKER_ID, "{}")).await;
        (server.dropped().await > 0).then_some(())
    })
    .await;
    assert_eq!(web::get(server.http, "/healthz").await.status, 200);
    // The pipe is read again.
    let log = Arc::new(Mutex::new(String::new()));
    let written = Arc::clone(&log);
    let reading = thread::spawn(move || {
        let mut bytes = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = reader.read(&mut bytes) {
            written.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..n]));
        }
    });
    eventually("the log tells of lines that were dropped", async || {
        log.lock().unwrap().contains("lines of the log were dropped").then_some(())
    })
    .await;
    server.terminate();
    assert!(server.ended().await.success());
    reading.join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_log_nobody_reads_ends_at_its_first_and_at_its_second_signal() {
    let database = Database::create(Driver::Sqlite).await;
    let (_reader, stderr) = full_pipe();
    let mut server = Muted::start(database.url(), stderr, &[]);
    Api::at(server.grpc).submit(job(WORKER_ID, "{}")).await;
    server.terminate();
    assert!(server.ended().await.success());

    let (_reader, stderr) = full_pipe();
    let mut server = Muted::start(database.url(), stderr, &["--shutdown-grace", "10m"]);
    // A call that stays under way: its body does not end.
    let mut call = std::net::TcpStream::connect(server.http).unwrap();
    let head = format!(
        "POST /jobqueue.v1.JobService/GetMetrics HTTP/1.1\r\nhost: {}\r\n\
         content-type: application/grpc-web+proto\r\ncontent-length: 5\r\n\r\n\0",
        server.http
    );
    call.write_all(head.as_bytes()).unwrap();
    eventually("the server ends", async || {
        server.terminate();
        server.child.try_wait().unwrap()
    })
    .await;
    assert_eq!(server.ended().await.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_written_ends_nothing() {
    let database = Database::create(Driver::Sqlite).await;
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, closed) = pipe().unwrap();
    drop(reader);
    for stderr in [Stdio::from(full()), closed.into()] {
        let mut server = Muted::start(database.url(), stderr, &[]);
        Api::at(server.grpc).submit(job(WORKER_ID, "{}")).await;
        eventually("failed writes are counted", async || (server.dropped().await > 0).then_some(())).await;
        server.terminate();
        assert!(server.ended().await.success());
    }
    for command in ["check", "migrate"] {
        let status = server::command(database.url()).arg(command).stdout(full()).stderr(full()).status().unwrap();
        assert!(status.success(), "{command}: {status}");
    }
    let status = server::command("postgres://127.0.0.1:1/none").arg("check").stderr(full()).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_for_leases_that_do_not_exist_are_a_line_a_second_and_not_a_line_each() {
    const CALLS: usize = 10;
    const EACH: usize = 200;
    let deployment = Deployment::new(Driver::Sqlite).await;
    let worker = ManualWorker::register(&deployment.api).await;
    let uuid = |n: usize| format!("00000000-0000-4000-8000-{n:012}");
    let begun = std::time::Instant::now();
    for call in 0..CALLS {
        let settlements = (0..EACH).map(|n| Settlement {
            lease_id: jobqueue_shared::lease::LeaseId {
                claim_id: uuid(call).parse().unwrap(),
                job_id: uuid(n).parse().unwrap(),
            }
            .to_string(),
            outcome: Some(Outcome::Complete(Complete::default())),
        });
        worker.settle_all(settlements.collect()).await;
    }
    let seconds = begun.elapsed().as_secs() as usize + 2;
    eventually("the log tells how many lines were left out", async || {
        deployment.server.stderr().contains("lines of one kind were left out").then_some(())
    })
    .await;
    let log = deployment.server.stderr();
    let lines = log.lines().filter(|it| it.contains("an outcome for a lease that is no longer valid")).count();
    // In each second at most one line, and one with the number of the others.
    assert!((1..=2 * seconds).contains(&lines), "{lines} lines in {seconds} s");
    worker.end().await;
    deployment.stop_and_check().await;
}
