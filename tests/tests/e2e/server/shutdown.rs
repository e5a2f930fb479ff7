//! Shutdown of a server: it waits for calls and not for connections, and ends no session meanwhile.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Instant,
};

use jobqueue_server::database;
use jobqueue_shared::{
    proto::v1::{RegisterSessionRequest, job::Status},
    state::State,
};
use jobqueue_store::ConnectOptions;
use jobqueue_tests::{
    api::{Api, job},
    database::{Database, Driver},
    process::{Process, Signal},
    proxy::Proxy,
    server::{Server, command},
};
use prost_types::Duration;
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
};

use crate::deployment::{ManualWorker, WORKER_ID};

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_are_gone_do_not_hold_up_a_server_that_stops() {
    let database = Database::create(Driver::Sqlite).await;
    // The grace is much longer than any wait of this test.
    let mut server = Server::start_with(database.url(), &["--shutdown-grace", "10m"]).await;
    let proxy = Proxy::start(server.grpc_addr()).await.unwrap();
    let gone = Api::at(proxy.addr());
    gone.submit(job(WORKER_ID, "{}")).await;
    assert!(proxy.half_open() > 0);
    assert!(server.terminate().await.success());
    assert!(server.stderr().contains("clients do not answer"), "{}", server.stderr());
    server.stop_and_check().await;
}

/// A call whose body does not end: it is under way as long as this connection lives.
async fn unfinished_call(addr: SocketAddr) -> TcpStream {
    let mut connection = TcpStream::connect(addr).await.unwrap();
    let head = format!(
        "POST /jobqueue.v1.JobService/GetMetrics HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/grpc-web+proto\r\n\
         x-grpc-web: 1\r\ncontent-length: 5\r\n\r\n\0"
    );
    connection.write_all(head.as_bytes()).await.unwrap();
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_does_not_take_jobs_from_workers_that_cannot_reach_it() {
    let database = Database::create(Driver::Sqlite).await;
    // The grace is longer than the lease; calls may use four fifths of it.
    let mut server = Server::start_with(database.url(), &["--shutdown-grace", "10s"]).await;
    let api = server.api();
    let lease_time = Some(Duration { seconds: 5, nanos: 0 });
    let mut worker =
        ManualWorker::register_as(&api, RegisterSessionRequest { lease_time, ..RegisterSessionRequest::default() })
            .await;
    let id = api.submit(job(WORKER_ID, "{}")).await;
    worker.acquire_one().await;
    api.until(&id, Status::Running).await;
    let _unfinished = unfinished_call(server.grpc_addr()).await;
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    assert!(server.stderr().contains("calls were still under way"), "{}", server.stderr());
    let store = database::connect(&ConnectOptions::new(database.url())).await.unwrap();
    let found = store.get(&[id.parse().unwrap()]).await.unwrap().remove(0).unwrap();
    assert_eq!(found.state, State::Running, "its lease has run out, but nobody could extend it");
    store.close().await;
    server.stop_and_check().await;
}

#[tokio::test]
async fn a_server_stops_although_its_database_does_not_answer() {
    let silent = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let url = format!("postgres://nobody@{}/none", silent.local_addr().unwrap());
    let mut command = command(&url);
    command.args(["--grpc-addr", "127.0.0.1:0", "--http-addr", "127.0.0.1:0"]);
    let mut server = Process::start("jobqueue-server", &mut command);
    let _unanswered = silent.accept().await.unwrap();
    let asked = Instant::now();
    server.signal(Signal::TERM);
    assert!(server.ended().await.success());
    assert!(server.stderr().contains("before the database was open"), "{}", server.stderr());
    // The time limit of connecting, 30 s, did not end it.
    assert!(asked.elapsed() < std::time::Duration::from_secs(15), "{:?}", asked.elapsed());
}
