//! The worker process under bad conditions: few files, logs that are not read, endpoints and commands that hang.

use std::{
    io::pipe,
    process::{Child, Command, Stdio},
    time::Duration,
};

use jobqueue_shared::proto::v1::{SubmitJobRequest, dead_letter::Reason, job::Status};
use jobqueue_tests::{api::job, binaries, database::Driver, poll::eventually, process::Signal, worker::Worker};
use rustix::process::{Pid, Resource, Rlimit, kill_process, prlimit};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::deployment::{Deployment, WORKER_ID, history};

fn task(name: &str) -> SubmitJobRequest {
    SubmitJobRequest { task: name.to_owned(), max_retries: Some(1), ..job(WORKER_ID, "{}") }
}

async fn all_done(deployment: &Deployment, jobs: usize, name: &str) {
    let mut ids = Vec::new();
    for _ in 0..jobs {
        ids.push(deployment.api.submit(task(name)).await);
    }
    for id in ids {
        let found = deployment.api.finished(&id).await;
        assert_eq!((found.job.as_ref().unwrap().status(), history(&found)), (Status::Done, vec![]), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn under_a_low_limit_of_open_files_fewer_jobs_run_at_once_and_none_fails() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let launcher = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"];
    let args = ["--concurrency", "100", "--exec", "t=sleep 0.1"];
    let mut worker = Worker::start_by(&launcher, &deployment.server, WORKER_ID, &args);
    all_done(&deployment, 40, "t").await;
    assert!(worker.terminate().await.success());
    assert!(worker.stderr().contains("the limit of open files is too low"), "{}", worker.stderr());
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_low_soft_limit_of_open_files_is_raised_for_the_worker_and_not_for_its_commands() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let launcher = ["sh", "-c", "ulimit -S -n 64; exec \"$@\"", "sh"];
    let mut worker =
        Worker::start_by(&launcher, &deployment.server, WORKER_ID, &["--concurrency", "100", "--exec", "t=ulimit -n"]);
    let id = deployment.api.submit(task("t")).await;
    assert_eq!(deployment.api.until(&id, Status::Done).await.job.unwrap().result_json, "64");
    assert!(worker.terminate().await.success());
    assert!(!worker.stderr().contains("too low"), "{}", worker.stderr());
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_that_cannot_be_started_for_want_of_files_uses_no_attempt() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let mut worker = deployment.worker(&["--exec", "t=true"]);
    all_done(&deployment, 1, "t").await;
    let process = Pid::from_raw(worker.id().try_into().unwrap());
    // The limit is below the number of open files.
    let before = prlimit(process, Resource::Nofile, Rlimit { current: Some(8), maximum: Some(4_096) }).unwrap();
    let id = deployment.api.submit(task("t")).await;
    eventually("it has gone back", async || (!deployment.api.get(&id).await.attempts.is_empty()).then_some(())).await;
    prlimit(process, Resource::Nofile, Rlimit { current: Some(4_096), maximum: Some(4_096) }).unwrap();
    let found = deployment.api.finished(&id).await;
    assert!(before.current.is_none_or(|limit| limit > 8));
    let job = found.job.as_ref().unwrap();
    assert_eq!((job.status(), job.attempt_count), (Status::Done, 1), "{found:?}");
    assert!(history(&found).iter().all(|it| *it == "snoozed"), "{found:?}");
    assert!(found.attempts[0].error.contains("Too many open files"), "{found:?}");
    assert!(worker.terminate().await.success());
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_or_an_endpoint_that_hangs_loses_its_slot_after_the_workers_limit() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http=http://{}/", listener.local_addr().unwrap());
    let args = ["--attempt-timeout", "1s", "--concurrency", "1", "--exec", "exec=sleep 1000", "--http", &url];
    let mut worker = deployment.worker(&args);
    for name in ["exec", "http"] {
        let id = deployment.api.submit(task(name)).await;
        let job = deployment.api.until(&id, Status::Failed).await.job.unwrap();
        assert_eq!((job.failure_reason(), job.attempt_count), (Reason::AttemptsExhausted, 1), "{job:?}");
        assert!(job.last_error.starts_with("timed out: an attempt may take 1s on this worker"), "{}", job.last_error);
    }
    assert!(worker.terminate().await.success());
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxy_does_not_stand_before_a_loopback_address() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("t=http://{}/", listener.local_addr().unwrap());
    let proxy = "http://127.0.0.1:1";
    let (upper, lower, all) =
        (format!("HTTP_PROXY={proxy}"), format!("http_proxy={proxy}"), format!("ALL_PROXY={proxy}"));
    // The connection to the server uses no proxy either.
    let _worker = Worker::start_by(&["env", &upper, &lower, &all], &deployment.server, WORKER_ID, &["--http", &url]);
    let id = deployment.api.submit(task("t")).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = vec![0; 4];
    stream.read_exact(&mut request).await.unwrap();
    assert_eq!(request, b"POST");
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n1").await.unwrap();
    let found = deployment.api.finished(&id).await;
    assert_eq!((found.job.as_ref().unwrap().status(), history(&found)), (Status::Done, vec![]), "{found:?}");
    deployment.stop_and_check().await;
}

/// A worker whose standard error this test holds; killed when it is dropped.
struct Raw(Child);

impl Raw {
    fn start(deployment: &Deployment, stderr: impl Into<Stdio>) -> Self {
        let mut command = Command::new(binaries::worker());
        command.args([
            "--server",
            &deployment.server.endpoint(),
            "--worker-id",
            WORKER_ID,
            "--simulate",
            "--log",
            "trace",
        ]);
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(stderr).spawn().unwrap())
    }

    async fn stops(&mut self) {
        let process = Pid::from_raw(self.0.id().try_into().unwrap()).unwrap();
        kill_process(process, Signal::TERM).unwrap();
        let status = eventually("it ends", async || self.0.try_wait().unwrap()).await;
        assert!(status.success(), "{status}");
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The process may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_that_cannot_be_written_neither_end_a_worker_nor_hold_it_up() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (reader, closed) = pipe().unwrap();
    drop(reader);
    // The pipe is not read, and takes 64 KiB.
    let (_asleep, unread) = pipe().unwrap();
    let payload = r#"{"sleep_ms": 0}"#;
    for stderr in [Stdio::from(full), Stdio::from(closed), Stdio::from(unread)] {
        let mut worker = Raw::start(&deployment, stderr);
        let mut ids = Vec::new();
        for _ in 0..300 {
            ids.push(deployment.api.submit(job(WORKER_ID, payload)).await);
        }
        for id in ids {
            deployment.api.until(&id, Status::Done).await;
        }
        worker.stops().await;
    }
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_ends_a_worker_whose_log_nobody_reads() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let (_asleep, unread) = pipe().unwrap();
    let mut worker = Raw::start(&deployment, unread);
    let id = deployment.api.submit(job(WORKER_ID, r#"{"sleep_ms": 3600000}"#)).await;
    deployment.api.until(&id, Status::Running).await;
    let process = Pid::from_raw(worker.0.id().try_into().unwrap()).unwrap();
    let status = eventually("it ends", async || {
        kill_process(process, Signal::TERM).unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        worker.0.try_wait().unwrap()
    })
    .await;
    assert_eq!(status.code(), Some(143));
    deployment.stop_and_check().await;
}
