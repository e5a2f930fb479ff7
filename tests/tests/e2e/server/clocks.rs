//! Servers whose wall clock is wrong, or is set while they run.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use jobqueue_shared::proto::v1::{
    SubmitJobRequest,
    job::Status,
    settlement::{Complete, Outcome},
};
use jobqueue_tests::{
    api::job,
    database::{Database, Driver},
    poll::eventually,
    process::Process,
    server::{Server, command},
    web::get,
};

use crate::deployment::{ManualWorker, WORKER_ID};

/// Both names of the setting, because libfaketime has renamed it.
const REAL_MONOTONIC: [(&str, &str); 2] = [("FAKETIME_DONT_FAKE_MONOTONIC", "1"), ("DONT_FAKE_MONOTONIC", "1")];
const PRELOAD: (&str, &str) = ("LD_PRELOAD", "/usr/$LIB/faketime/libfaketimeMT.so.1");
const DAY_S: f64 = 86_400.0;

async fn skew_s(server: &Server) -> f64 {
    let metrics = get(server.http_addr(), "/metrics").await.text();
    let line = metrics.lines().find(|line| line.starts_with("jobqueue_clock_skew_seconds "));
    line.expect("the metric is missing").rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_set_ahead_while_the_server_runs_is_followed_and_no_session_is_lost() {
    let database = Database::create(Driver::Sqlite).await;
    let clock = database.folder().join("clock");
    fs::write(&clock, "+0").unwrap();
    let clock_file = ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap());
    let environment = [PRELOAD, clock_file, ("FAKETIME_NO_CACHE", "1"), REAL_MONOTONIC[0], REAL_MONOTONIC[1]];
    let server = Server::start_in(database.url(), &environment).await;
    let api = server.api();
    let running = api.submit(job(WORKER_ID, "{}")).await;
    let mut worker = ManualWorker::register(&api).await;
    let lease = worker.acquire_one().await.lease_id;
    // The job is due a few seconds after the clock is set ahead by an hour.
    let due = SystemTime::now() + Duration::from_secs(3_600 + 3);
    let scheduled = api.submit(SubmitJobRequest { run_at: Some(due.into()), ..job(WORKER_ID, "{}") }).await;

    // A rename, so that a reader always finds a whole line.
    fs::write(clock.with_extension("new"), "+1h").unwrap();
    fs::rename(clock.with_extension("new"), &clock).unwrap();
    let handed = worker.acquire_one().await;
    assert_eq!(handed.job.unwrap().id, scheduled);
    worker.settle(&lease, Outcome::Complete(Complete::default())).await;
    assert_eq!(api.get(&running).await.job.unwrap().status(), Status::Done, "its session was taken for lost");
    assert!(server.stderr().contains("the wall clock went ahead"));
    worker.settle(&handed.lease_id, Outcome::Complete(Complete::default())).await;
    eventually("the clocks agree", async || (skew_s(&server).await.abs() < 60.0).then_some(())).await;
    server.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_once_started_with_a_clock_ahead_says_so_until_the_stored_times_are_set_back() {
    let database = Database::create(Driver::Sqlite).await;
    let environment = [PRELOAD, ("FAKETIME", "+40d"), REAL_MONOTONIC[0], REAL_MONOTONIC[1]];
    let mut server = Server::start_in(database.url(), &environment).await;
    server.api().submit(job(WORKER_ID, "{}")).await;
    assert!(server.terminate().await.success());

    server.start_again().await;
    let ahead = skew_s(&server).await;
    assert!((39.0 * DAY_S..41.0 * DAY_S).contains(&ahead), "{ahead}");
    assert!(server.stderr().contains("clock differ"), "the log says nothing");
    assert!(server.terminate().await.success());

    let mut set_back = Process::start("set-clock-back", command(database.url()).arg("set-clock-back"));
    assert!(set_back.ended().await.success(), "{}", set_back.stderr());
    server.start_again().await;
    assert!(skew_s(&server).await.abs() < 60.0 && !server.stderr().contains("clock differ"));
    // A job that was submitted meanwhile can run: its time is not in the future.
    let mut worker = ManualWorker::register(&server.api()).await;
    let lease = worker.acquire_one().await.lease_id;
    worker.settle(&lease, Outcome::Complete(Complete::default())).await;
    server.stop_and_check().await;
}
