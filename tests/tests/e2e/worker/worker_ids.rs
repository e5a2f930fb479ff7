//! A worker process for several worker_ids.

use std::{collections::HashSet, fs, path::PathBuf};

use jobqueue_shared::proto::v1::{ListWorkersRequest, WorkerSession, job::Status, worker_session::State};
use jobqueue_tests::api::job;

use crate::{
    deployment::{Deployment, WORKER_ID},
    scenarios,
};

scenarios!(one_process_works_for_several_worker_ids_and_stops_for_all);

const OTHERS: [&str; 2] = ["other", "third"];

async fn sessions(deployment: &Deployment) -> Vec<WorkerSession> {
    deployment.api.admin().list_workers(ListWorkersRequest::default()).await.unwrap().into_inner().sessions
}

/// Number of connections that a process has to a port.
fn connections(pid: u32, port: u16) -> usize {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let own: HashSet<String> = fs::read_dir(process.join("fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok())
        .collect();
    let to_port = format!(":{port:04X}");
    let table = fs::read_to_string(process.join("net/tcp")).unwrap();
    let rows = table.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    rows.filter(|row| row[2].ends_with(&to_port) && own.contains(&format!("socket:[{}]", row[9]))).count()
}

async fn one_process_works_for_several_worker_ids_and_stops_for_all(deployment: &mut Deployment) {
    let mut worker = deployment.worker(&[
        "--worker-id",
        OTHERS[0],
        "--worker-id",
        OTHERS[1],
        "--concurrency",
        "1",
        "--lease-time",
        "1h",
        "--exec",
        "t=cat",
    ]);
    for worker_id in [WORKER_ID, OTHERS[0], OTHERS[1], OTHERS[0]] {
        let id = deployment.api.submit(job(worker_id, "{\"task\":\"t\"}")).await;
        assert_eq!(deployment.api.until(&id, Status::Done).await.job.unwrap().worker_id, worker_id);
    }
    // With this lease, the heartbeats' own connections are made much later.
    assert_eq!(connections(worker.id(), deployment.server.grpc_addr().port()), 1);
    let mut found: Vec<_> =
        sessions(deployment).await.into_iter().map(|it| (it.worker_id, it.pid as u32, it.slots)).collect();
    found.sort();
    let expected = [OTHERS[0], OTHERS[1], WORKER_ID].map(|id| (id.to_owned(), worker.id(), 1));
    assert_eq!(found, expected);
    assert!(worker.terminate().await.success());
    assert!(sessions(deployment).await.iter().all(|it| it.state() == State::Ended));
}
