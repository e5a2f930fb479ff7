//! Workers that die, and what their next run and the people who watch learn of it.

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
    scenarios,
    world::{W, World, history, parts},
};

scenarios!(
    a_worker_that_starts_again_takes_over_at_once,
    without_takeover_the_lease_has_to_run_out,
    a_worker_that_lives_is_not_taken_over,
    a_job_that_kills_its_worker_ends_as_a_dead_letter,
    a_session_that_never_was_cannot_be_looked_at,
);

/// Kills the worker: the parent of the process that guards the command.
const POISON: &str = "poison=kill -9 $(cut -d' ' -f4 /proc/$PPID/stat)";

/// So long that no test waits for it.
const LONG: [&str; 2] = ["--lease-time", "12h"];

async fn sessions(api: &Api) -> Vec<WorkerSession> {
    let request = ListWorkersRequest { worker_id: W.to_owned(), ..ListWorkersRequest::default() };
    api.admin().list_workers(request).await.unwrap().into_inner().sessions
}

async fn worker(api: &Api, session_id: &str) -> GetWorkerResponse {
    let request = GetWorkerRequest { session_id: session_id.to_owned() };
    api.admin().get_worker(request).await.unwrap().into_inner()
}

impl World {
    /// A worker that dies with this job started; the file is there when the first attempt has begun, and the next one
    /// ends at once.
    async fn killed_at_work(&self) -> (String, String) {
        let started = self.file("started");
        let command = self.stuck_at_first();
        let mut first = self.worker(&[&LONG[..], &["--exec", &command]].concat());
        let id = self.api.submit(SubmitJobRequest { task: "stuck".to_owned(), ..job(W, "{}") }).await;
        eventually("the job has started", async || started.exists().then_some(())).await;
        let session_id = self.api.get(&id).await.job.unwrap().session_id;
        first.kill9();
        (id, session_id)
    }

    /// Waits as long as its worker lives, unless it has been run before.
    fn stuck_at_first(&self) -> String {
        let file = self.file("started");
        let file = file.display();
        format!("stuck=[ -e '{file}' ] && exit 0; touch '{file}'; while kill -0 $PPID; do sleep 0.05; done")
    }

    fn next_run(&self, more: &[&str]) -> Worker {
        self.worker(&[&LONG[..], &["--simulate", "--exec", &self.stuck_at_first()], more].concat())
    }
}

async fn a_worker_that_starts_again_takes_over_at_once(world: &mut World) {
    let (id, session_id) = world.killed_at_work().await;
    let _second = world.next_run(&["--takeover"]);
    let found = world.api.until(&id, Status::Done).await;
    assert_eq!(history(&found), ["lost"], "the crash counts as an attempt");
    assert!(found.attempts[0].error.ends_with("was declared gone by its successor"), "{:?}", found.attempts[0]);
    assert_eq!(found.attempts[0].session_id, session_id);
    assert_eq!(found.job.unwrap().attempt_count, 2);
    let GetWorkerResponse { session, jobs } = worker(&world.api, &session_id).await;
    let session = session.unwrap();
    assert_eq!((session.state(), session.worker_id.as_str(), session.running), (State::Lost, W, 0));
    let held = HeldJob { job_id: id, started: true, status: Status::Done.into(), task: "stuck".to_owned() };
    assert_eq!(jobs, [held]);
}

async fn without_takeover_the_lease_has_to_run_out(world: &mut World) {
    let (id, session_id) = world.killed_at_work().await;
    let _second = world.next_run(&[]);
    // It works, and yet it does not get this one.
    let other = world.api.submit(job(W, "{}")).await;
    world.api.until(&other, Status::Done).await;
    let (held, attempts) = parts(world.api.get(&id).await);
    assert_eq!((held.status(), held.session_id.as_str(), attempts.len()), (Status::Running, session_id.as_str(), 0));
    let GetWorkerResponse { session, jobs } = worker(&world.api, &session_id).await;
    assert_eq!(session.unwrap().state(), State::Live);
    assert_eq!((jobs.len(), jobs[0].started, jobs[0].status()), (1, true, Status::Running));
}

async fn a_worker_that_lives_is_not_taken_over(world: &mut World) {
    let started = world.file("started");
    let command = world.stuck_at_first();
    let mut first = world.worker(&[&LONG[..], &["--exec", &command, "--concurrency", "1", "--grace", "0s"]].concat());
    let id = world.api.submit(SubmitJobRequest { task: "stuck".to_owned(), ..job(W, "{}") }).await;
    eventually("the job has started", async || started.exists().then_some(())).await;
    let _second = world.next_run(&["--takeover"]);
    // The first has no slot for it.
    let other = world.api.submit(job(W, "{}")).await;
    world.api.until(&other, Status::Done).await;
    let states: Vec<_> = sessions(&world.api).await.iter().map(WorkerSession::state).collect();
    assert_eq!(states, [State::Live, State::Live]);
    let found = world.api.get(&id).await;
    assert_eq!(history(&found), [""; 0]);
    assert_eq!(found.job.unwrap().status(), Status::Running);
    assert!(first.terminate().await.success());
}

async fn a_job_that_kills_its_worker_ends_as_a_dead_letter(world: &mut World) {
    let poison = SubmitJobRequest { task: "poison".to_owned(), max_retries: Some(2), ..job(W, "{}") };
    let id = world.api.submit(poison).await;
    let args = [&LONG[..], &["--simulate", "--exec", POISON, "--takeover"]].concat();
    for _ in 0..2 {
        let status = world.worker(&args).ended().await;
        assert!(!status.success(), "{status}");
    }
    let _third = world.worker(&args);
    let found = world.api.until(&id, Status::Failed).await;
    assert_eq!(history(&found), ["lost", "lost"]);
    let dead = found.job.unwrap();
    assert_eq!((dead.failure_reason(), dead.attempt_count), (Reason::WorkerLost, 2));
    assert!(dead.last_error.starts_with("worker lost: session "), "{}", dead.last_error);
    let other = world.api.submit(job(W, "{}")).await;
    world.api.until(&other, Status::Done).await;
    let lost: Vec<_> = sessions(&world.api).await.into_iter().filter(|it| it.state() == State::Lost).collect();
    assert_eq!(lost.len(), 2, "it kills no third");
    for session in lost {
        let held =
            HeldJob { job_id: id.clone(), started: true, status: Status::Failed.into(), task: "poison".to_owned() };
        assert_eq!(worker(&world.api, &session.session_id).await.jobs, [held], "it shows what killed it");
    }
}

async fn a_session_that_never_was_cannot_be_looked_at(world: &mut World) {
    let look = async |session_id: &str| {
        let request = GetWorkerRequest { session_id: session_id.to_owned() };
        world.api.admin().get_worker(request).await.unwrap_err()
    };
    let unknown = look(&uuid::Uuid::new_v4().to_string()).await;
    assert_eq!(unknown.code(), Code::NotFound);
    assert_eq!(look("x").await.code(), Code::InvalidArgument);
}
