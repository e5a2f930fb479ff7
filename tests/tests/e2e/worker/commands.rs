//! Commands and their child processes: no process of a job outlives the job or its worker.

use std::{fs, path::Path};

use jobqueue_shared::proto::v1::{SubmitJobRequest, dead_letter::Reason, job::Status};
use jobqueue_tests::{api::job, database::Driver, poll::eventually, process::Signal, worker::Worker};

use crate::deployment::{Deployment, WORKER_ID, history};

fn task(name: &str) -> SubmitJobRequest {
    SubmitJobRequest { task: name.to_owned(), max_retries: Some(1), ..job(WORKER_ID, "{}") }
}

/// Shell command that writes its process id into `file`, in one step, and sleeps.
fn sleeper(file: &Path) -> String {
    let file = file.display();
    format!("sh -c 'echo $$ > {file}.new; mv {file}.new {file}; exec sleep 1000'")
}

async fn process_in(file: &Path) -> i32 {
    eventually("a process says its id", async || fs::read_to_string(file).ok()?.trim().parse().ok()).await
}

/// Parent and state of a process; `None` when it is gone.
fn stat(process: &str) -> Option<(i32, String)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?.to_owned();
    Some((fields.next()?.parse().ok()?, state))
}

fn runs(process: i32) -> bool {
    stat(&process.to_string()).is_some_and(|(_, state)| state != "Z")
}

fn children(parent: i32) -> Vec<(i32, String)> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(|it| it.unwrap().file_name().into_string().ok());
    let children = entries.filter_map(|id| {
        let (of, state) = stat(&id)?;
        (of == parent).then_some((id.parse().ok()?, state))
    });
    children.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ignores_sigterm_is_killed_although_its_shell_has_ended() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let file = deployment.file("id");
    let command = format!("t=(trap \"\" TERM; {}) >/dev/null 2>&1; true", sleeper(&file));
    let mut worker = deployment.worker(&["--exec", &command]);
    let attempt_timeout = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    let id = deployment.api.submit(SubmitJobRequest { attempt_timeout, ..task("t") }).await;
    let process = process_in(&file).await;
    let found = deployment.api.until(&id, Status::Failed).await;
    assert_eq!(found.job.unwrap().failure_reason(), Reason::TimedOut);
    assert!(worker.terminate().await.success());
    assert!(!runs(process));
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kill_9_of_a_worker_ends_its_command_and_what_has_left_its_session() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let (first, second) = (deployment.file("first"), deployment.file("second"));
    let command = format!("t=setsid {} & trap '' TERM; {}", sleeper(&first), sleeper(&second));
    let mut worker = deployment.worker(&["--exec", &command]);
    deployment.api.submit(task("t")).await;
    let processes = [process_in(&first).await, process_in(&second).await];
    assert!(processes.into_iter().all(runs));
    worker.kill9();
    eventually("both are gone", async || (!processes.into_iter().any(runs)).then_some(())).await;
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_does_not_run_beside_itself_after_a_takeover() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let (lock, file) = (deployment.file("lock"), deployment.file("id"));
    let command = format!(
        "t=[ -e {file} ] && exec flock --nonblock --conflict-exit-code 65 {lock} true; exec flock {lock} {sleeper}",
        lock = lock.display(),
        file = file.display(),
        sleeper = sleeper(&file),
    );
    let args = ["--lease-time", "12h", "--takeover", "--exec", &command];
    let mut first = deployment.worker(&args);
    let id = deployment.api.submit(SubmitJobRequest { max_retries: Some(2), ..task("t") }).await;
    process_in(&file).await;
    first.kill9();
    let _second = deployment.worker(&args);
    let found = deployment.api.finished(&id).await;
    assert_eq!((found.job.as_ref().unwrap().status(), history(&found)), (Status::Done, vec!["lost"]), "{found:?}");
    deployment.stop_and_check().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sighup_and_sigquit_stop_a_worker_in_order() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    for signal in [Signal::HUP, Signal::QUIT] {
        let file = deployment.file(&format!("signal-{}", signal.as_raw()));
        // These tests may themselves run under nohup, which the worker would respect.
        let launcher = ["env", "--default-signal=HUP,QUIT"];
        let exec = format!("t={}", sleeper(&file));
        let mut worker =
            Worker::start_by(&launcher, &deployment.server, WORKER_ID, &["--grace", "0s", "--exec", &exec]);
        let id = deployment.api.submit(task("t")).await;
        let process = process_in(&file).await;
        worker.signal(signal);
        assert!(worker.ended().await.success(), "{signal:?}");
        assert!(!runs(process), "{signal:?}");
        let found = deployment.api.get(&id).await;
        assert_eq!((found.job.as_ref().unwrap().status(), history(&found)), (Status::Pending, vec!["released"]));
        deployment.api.jobs().cancel_job(cancel(id)).await.unwrap();
    }
    deployment.stop_and_check().await;
}

fn cancel(job_id: String) -> jobqueue_shared::proto::v1::CancelJobRequest {
    jobqueue_shared::proto::v1::CancelJobRequest { job_id, reason: String::new() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_nohup_has_started_outlives_sighup() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    let mut worker = Worker::start_by(&["nohup"], &deployment.server, WORKER_ID, &["--simulate"]);
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.api.until(&id, Status::Done).await;
    worker.signal(Signal::HUP);
    let id = deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.api.until(&id, Status::Done).await;
    assert!(worker.terminate().await.success());
    deployment.stop_and_check().await;
}

/// Needs root, as other tests here do.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_the_first_process_of_a_container_leaves_no_zombies() {
    let deployment = Deployment::new(Driver::Sqlite).await;
    // One command leaves a child in the background; the other kills its guardian, so that its children become the
    // worker's.
    let left = "left=sleep 1000 >/dev/null 2>&1 & true";
    let orphan = "orphan=sleep 0.1; (sleep 0.05; sleep 0.05) >/dev/null 2>&1 & sleep 0.01 & kill -9 $PPID; sleep 1000";
    let launcher = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];
    let unshare = Worker::start_by(&launcher, &deployment.server, WORKER_ID, &["--exec", left, "--exec", orphan]);
    for name in ["left", "orphan"] {
        let mut ids = Vec::new();
        for _ in 0..15 {
            ids.push(deployment.api.submit(task(name)).await);
        }
        for id in ids {
            let found = deployment.api.finished(&id).await;
            assert_eq!(found.job.unwrap().status() == Status::Done, name == "left");
        }
    }
    let unshare = i32::try_from(unshare.id()).unwrap();
    let worker = children(unshare).first().expect("it runs").0;
    eventually("no child is left", async || children(worker).is_empty().then_some(())).await;
    deployment.stop_and_check().await;
}
