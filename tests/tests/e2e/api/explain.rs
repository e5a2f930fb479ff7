//! Explanation why a job does not run, in one sentence with its numbers; and pauses, which hold jobs back.

use jobqueue_shared::proto::v1::{
    ExplainJobRequest, ExplainJobResponse, HeartbeatRequest, PauseWorkerIdRequest, RegisterSessionRequest,
    ResumeWorkerIdRequest, SubmitJobRequest,
    explain_job_response::Reason,
    job::Status,
    settlement::{Complete, Fail, Outcome},
};
use jobqueue_tests::{
    api::{Api, job},
    database::{Database, Driver},
    server::Server,
    web,
};
use prost_types::Duration;

use crate::{
    deployment::{Deployment, ManualWorker, WORKER_ID},
    scenarios,
};

scenarios!(
    every_reason_is_told_with_its_numbers,
    a_job_that_waits_for_its_time_says_when_it_starts,
    a_paused_worker_id_keeps_its_jobs_until_it_is_resumed,
);

async fn explain(api: &Api, job_id: &str) -> ExplainJobResponse {
    api.jobs().explain_job(ExplainJobRequest { job_id: job_id.to_owned() }).await.unwrap().into_inner()
}

async fn said(api: &Api, job_id: &str) -> (Reason, String) {
    let answer = explain(api, job_id).await;
    (answer.reason(), answer.sentence)
}

async fn pause(api: &Api, reason: &str) {
    let request = PauseWorkerIdRequest { worker_id: WORKER_ID.to_owned(), reason: reason.to_owned() };
    api.admin().pause_worker_id(request).await.unwrap();
}

async fn resume(api: &Api) {
    api.admin().resume_worker_id(ResumeWorkerIdRequest { worker_id: WORKER_ID.to_owned() }).await.unwrap();
}

async fn every_reason_is_told_with_its_numbers(deployment: &mut Deployment) {
    let api = deployment.api.clone();
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(api.submit(SubmitJobRequest { task: "email".to_owned(), ..job(WORKER_ID, &n.to_string()) }).await);
    }
    let (reason, sentence) = said(&api, &ids[0]).await;
    let none = format!("No worker for \"{WORKER_ID}\" is connected, and none was seen lately.");
    assert_eq!((reason, sentence), (Reason::NoSession, none));

    let handles = |task: &str| RegisterSessionRequest { tasks: vec![task.to_owned()], slots: 1, ..Default::default() };
    let other = ManualWorker::register_as(&api, handles("sms")).await;
    let answer = explain(&api, &ids[0]).await;
    assert_eq!(answer.reason(), Reason::NoHandler);
    assert_eq!((answer.sessions, answer.handling_sessions), (1, 0));
    assert_eq!(answer.sentence, format!("The live worker for \"{WORKER_ID}\" does not handle the task \"email\"."));

    let mut worker = ManualWorker::register_as(&api, handles("email")).await;
    let (reason, sentence) = said(&api, &ids[2]).await;
    let free = "Nothing is in its way: 1 of 1 slot is free, and 2 jobs are ahead of it.";
    assert_eq!((reason, sentence.as_str()), (Reason::Next, free));

    let leased = worker.acquire_one().await;
    let answer = explain(&api, &ids[3]).await;
    assert_eq!(answer.reason(), Reason::SlotsBusy);
    let numbers = (answer.sessions, answer.handling_sessions, answer.slots, answer.held, answer.ahead);
    assert_eq!(numbers, (2, 1, 1, 1, 2));
    let busy = format!(
        "The only slot of the live worker for \"{WORKER_ID}\" that handles \"email\" is busy; 2 jobs are ahead of it."
    );
    assert_eq!(answer.sentence, busy);

    let (reason, sentence) = said(&api, &ids[0]).await;
    assert!(reason == Reason::Running && sentence.ends_with(": attempt 1 of 3."), "{sentence}");
    worker.settle(&leased.lease_id, Outcome::Complete(Complete::default())).await;
    let (reason, sentence) = said(&api, &ids[0]).await;
    assert!(reason == Reason::Finished && sentence.starts_with("It was done"), "{sentence}");

    for worker in [&worker, &other] {
        let beat = HeartbeatRequest { session_id: worker.session_id.clone(), draining: true };
        api.workers().heartbeat(beat).await.unwrap();
    }
    let (reason, sentence) = said(&api, &ids[3]).await;
    let stopping = format!("No worker for \"{WORKER_ID}\" takes jobs: 2 workers are stopping.");
    assert_eq!((reason, sentence), (Reason::NoSession, stopping));
    for worker in [worker, other] {
        worker.end().await;
    }
    let (reason, sentence) = said(&api, &ids[3]).await;
    let gone = format!("No worker for \"{WORKER_ID}\" is connected; the last one was seen ");
    assert!(reason == Reason::NoSession && sentence.starts_with(&gone), "{sentence}");
}

async fn a_job_that_waits_for_its_time_says_when_it_starts(deployment: &mut Deployment) {
    let api = deployment.api.clone();
    let mut worker = ManualWorker::register(&api).await;
    let hour = Duration { seconds: 3_600, nanos: 0 };
    let id = api.submit(SubmitJobRequest { delay: Some(hour), ..job(WORKER_ID, "{}") }).await;
    let answer = explain(&api, &id).await;
    let run_at = api.get(&id).await.job.unwrap().run_at.unwrap();
    assert_eq!((answer.reason(), answer.run_at, answer.ahead), (Reason::Scheduled, Some(run_at), 0));
    assert!(answer.sentence.starts_with(&format!("Scheduled: it starts at {run_at} (in ")), "{}", answer.sentence);

    let id = api.submit(job(WORKER_ID, "{}")).await;
    let fail = Fail { error: "no".to_owned(), retry_after: Some(hour), ..Fail::default() };
    let lease = worker.acquire_one().await.lease_id;
    worker.settle(&lease, Outcome::Fail(fail)).await;
    let answer = explain(&api, &id).await;
    let run_at = api.get(&id).await.job.unwrap().run_at.unwrap();
    assert_eq!((answer.reason(), answer.run_at), (Reason::Retrying, Some(run_at)));
    let sentence = format!("Retrying: attempt 2 of 3 starts at {run_at} (in ");
    assert!(answer.sentence.starts_with(&sentence), "{}", answer.sentence);
}

async fn a_paused_worker_id_keeps_its_jobs_until_it_is_resumed(deployment: &mut Deployment) {
    let api = deployment.api.clone();
    let mut busy = ManualWorker::register(&api).await;
    let running = api.submit(job(WORKER_ID, "{}")).await;
    let lease = busy.acquire_one().await.lease_id;
    pause(&api, "the mail server is down").await;
    let waiting = api.submit(job(WORKER_ID, "{}")).await;
    let (reason, sentence) = said(&api, &waiting).await;
    assert!(reason == Reason::Paused && sentence.ends_with(": the mail server is down."), "{sentence}");
    let metrics = api.metrics().await;
    let paused = &metrics.worker_ids[0];
    assert_eq!((paused.worker_id.as_str(), paused.pause_reason.as_str()), (WORKER_ID, "the mail server is down"));
    assert!(paused.paused_at.is_some());
    let scraped = web::get(deployment.server.http_addr(), "/metrics").await.text();
    assert!(scraped.contains(&format!("jobqueue_paused{{worker_id=\"{WORKER_ID}\"}} ")), "{scraped}");

    let request = busy.next_acquire(10, 0);
    assert!(api.workers().acquire_jobs(request).await.unwrap().into_inner().jobs.is_empty());
    // A running job ends as without a pause.
    assert_eq!(busy.settle(&lease, Outcome::Complete(Complete::default())).await.code, 0);
    assert_eq!(api.get(&running).await.job.unwrap().status(), Status::Done);
    assert_eq!(api.get(&waiting).await.job.unwrap().status(), Status::Pending);

    resume(&api).await;
    assert_eq!(busy.acquire_one().await.job.unwrap().id, waiting);
    assert_eq!(api.metrics().await.worker_ids[0].paused_at, None);
    resume(&api).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_keeps_a_pause_and_hears_of_its_end() {
    let database = Database::create(Driver::Postgres).await;
    let (one, other) = tokio::join!(Server::start(database.url()), Server::start(database.url()));
    let mut worker = ManualWorker::register(&one.api()).await;
    pause(&other.api(), "").await;
    let id = other.api().submit(job(WORKER_ID, "{}")).await;
    let request = worker.next_acquire(1, 60);
    let mut workers = one.api().workers();
    let mut poll = tokio::spawn(async move { workers.acquire_jobs(request).await.unwrap().into_inner().jobs });
    let early = tokio::time::timeout(std::time::Duration::from_secs(2), &mut poll).await;
    assert!(early.is_err(), "{early:?}");
    resume(&other.api()).await;
    let jobs = tokio::time::timeout(std::time::Duration::from_secs(20), poll).await.expect("it sleeps on").unwrap();
    assert_eq!(jobs[0].job.as_ref().unwrap().id, id);
    one.stop_and_check().await;
    other.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}
