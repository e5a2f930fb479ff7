//! Dead workers: their successor takes over their jobs, and their jobs and sessions are shown.

use jobqueue_shared::proto::v1::{
    GetWorkerRequest, GetWorkerResponse, HeldJob, ListWorkersRequest, SubmitJobRequest, WorkerSession,
    dead_letter::Reason, job::Status, worker_session::State,
};
use jobqueue_tests::{
    api::{Api, job},
    poll::eventually,
    worker::Worker,
};
use tonic::Code;

use crate::{
    deployment::{Deployment, WORKER_ID, history, parts},
    scenarios,
};

scenarios!(
    a_worker_that_starts_again_takes_over_at_once,
    without_takeover_the_lease_has_to_run_out,
    a_worker_that_lives_is_not_taken_over,
    a_job_that_kills_its_worker_ends_as_a_dead_letter,
    a_session_that_never_was_cannot_be_looked_at,
);

/// Command that kills the worker, which is the parent of the command's guardian.
const POISON: &str = "poison=kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)";

/// A lease that does not run out during a test.
const LONG: [&str; 2] = ["--lease-time", "12h"];

async fn sessions(api: &Api) -> Vec<WorkerSession> {
    let request = ListWorkersRequest { worker_id: WORKER_ID.to_owned(), ..ListWorkersRequest::default() };
    api.admin().list_workers(request).await.unwrap().into_inner().sessions
}

async fn worker(api: &Api, session_id: &str) -> GetWorkerResponse {
    let request = GetWorkerRequest { session_id: session_id.to_owned() };
    api.admin().get_worker(request).await.unwrap().into_inner()
}

impl Deployment {
    /// Runs a worker that dies with this job started; returns the job's and the session's id. The file exists when the
    /// first attempt has begun, and makes the next one end at once.
    async fn killed_at_work(&self) -> (String, String) {
        let started = self.file("started");
        let command = self.stuck_at_first();
        let mut first = self.worker(&[&LONG[..], &["--exec", &command]].concat());
        let id = self.api.submit(SubmitJobRequest { task: "stuck".to_owned(), ..job(WORKER_ID, "{}") }).await;
        eventually("the job has started", async || started.exists().then_some(())).await;
        let session_id = self.api.get(&id).await.job.unwrap().session_id;
        first.kill9();
        (id, session_id)
    }

    /// Handler that waits as long as its worker lives, unless it has run before.
    fn stuck_at_first(&self) -> String {
        let file = self.file("started");
        let file = file.display();
        format!("stuck=[ -e '{file}' ] && exit 0; touch '{file}'; while kill -0 $PPID; do sleep 0.05; done")
    }

    fn next_run(&self, more: &[&str]) -> Worker {
        self.worker(&[&LONG[..], &["--simulate", "--exec", &self.stuck_at_first()], more].concat())
    }
}

async fn a_worker_that_starts_again_takes_over_at_once(deployment: &mut Deployment) {
    let (id, session_id) = deployment.killed_at_work().await;
    let _second = deployment.next_run(&["--takeover"]);
    let found = deployment.api.until(&id, Status::Done).await;
    assert_eq!(history(&found), ["lost"], "the crash counts as an attempt");
    assert!(found.attempts[0].error.ends_with("was declared gone by its successor"), "{:?}", found.attempts[0]);
    assert_eq!(found.attempts[0].session_id, session_id);
    assert_eq!(found.job.unwrap().attempt_count, 2);
    let GetWorkerResponse { session, jobs } = worker(&deployment.api, &session_id).await;
    let session = session.unwrap();
    assert_eq!((session.state(), session.worker_id.as_str(), session.running), (State::Lost, WORKER_ID, 0));
    let held = HeldJob { job_id: id, started: true, status: Status::Done.into(), task: "stuck".to_owned() };
    assert_eq!(jobs, [held]);
}

async fn without_takeover_the_lease_has_to_run_out(deployment: &mut Deployment) {
    let (id, session_id) = deployment.killed_at_work().await;
    let _second = deployment.next_run(&[]);
    // The new worker works, and still does not get this job.
    let other = deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.api.until(&other, Status::Done).await;
    let (held, attempts) = parts(deployment.api.get(&id).await);
    assert_eq!((held.status(), held.session_id.as_str(), attempts.len()), (Status::Running, session_id.as_str(), 0));
    let GetWorkerResponse { session, jobs } = worker(&deployment.api, &session_id).await;
    assert_eq!(session.unwrap().state(), State::Live);
    assert_eq!((jobs.len(), jobs[0].started, jobs[0].status()), (1, true, Status::Running));
}

async fn a_worker_that_lives_is_not_taken_over(deployment: &mut Deployment) {
    let started = deployment.file("started");
    let command = deployment.stuck_at_first();
    let mut first =
        deployment.worker(&[&LONG[..], &["--exec", &command, "--concurrency", "1", "--grace", "0s"]].concat());
    let id = deployment.api.submit(SubmitJobRequest { task: "stuck".to_owned(), ..job(WORKER_ID, "{}") }).await;
    eventually("the job has started", async || started.exists().then_some(())).await;
    let _second = deployment.next_run(&["--takeover"]);
    // The first worker has no slot for this job.
    let other = deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.api.until(&other, Status::Done).await;
    let states: Vec<_> = sessions(&deployment.api).await.iter().map(WorkerSession::state).collect();
    assert_eq!(states, [State::Live, State::Live]);
    let found = deployment.api.get(&id).await;
    assert_eq!(history(&found), [""; 0]);
    assert_eq!(found.job.unwrap().status(), Status::Running);
    assert!(first.terminate().await.success());
}

async fn a_job_that_kills_its_worker_ends_as_a_dead_letter(deployment: &mut Deployment) {
    let poison = SubmitJobRequest { task: "poison".to_owned(), max_retries: Some(2), ..job(WORKER_ID, "{}") };
    let id = deployment.api.submit(poison).await;
    let args = [&LONG[..], &["--simulate", "--exec", POISON, "--takeover"]].concat();
    for _ in 0..2 {
        let status = deployment.worker(&args).ended().await;
        assert!(!status.success(), "{status}");
    }
    let _third = deployment.worker(&args);
    let found = deployment.api.until(&id, Status::Failed).await;
    assert_eq!(history(&found), ["lost", "lost"]);
    let dead = found.job.unwrap();
    assert_eq!((dead.failure_reason(), dead.attempt_count), (Reason::WorkerLost, 2));
    assert!(dead.last_error.starts_with("worker lost: session "), "{}", dead.last_error);
    let other = deployment.api.submit(job(WORKER_ID, "{}")).await;
    deployment.api.until(&other, Status::Done).await;
    let lost: Vec<_> = sessions(&deployment.api).await.into_iter().filter(|it| it.state() == State::Lost).collect();
    assert_eq!(lost.len(), 2, "it kills no third");
    for session in lost {
        let held =
            HeldJob { job_id: id.clone(), started: true, status: Status::Failed.into(), task: "poison".to_owned() };
        assert_eq!(worker(&deployment.api, &session.session_id).await.jobs, [held], "it shows what killed it");
    }
}

async fn a_session_that_never_was_cannot_be_looked_at(deployment: &mut Deployment) {
    let look = async |session_id: &str| {
        let request = GetWorkerRequest { session_id: session_id.to_owned() };
        deployment.api.admin().get_worker(request).await.unwrap_err()
    };
    let unknown = look(&uuid::Uuid::new_v4().to_string()).await;
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(look("x").await.code(), Code::InvalidArgument);
}
