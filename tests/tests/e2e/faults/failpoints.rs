//! Failpoints between a commit and its answer: a committed change is neither lost nor made twice.

use jobqueue_shared::proto::v1::{
    CopyJobRequest, ListJobsRequest, SubmitJobRequest, SubmitJobResponse,
    job::Status,
    settlement::{Complete, Outcome},
};
use jobqueue_tests::{
    api::{Api, job},
    database::{Database, Driver},
    poll::{PATIENCE, eventually, within},
    server::Server,
    web::get,
    worker::Worker,
};
use tonic::Code;

use crate::deployment::{Deployment, ManualWorker, WORKER_ID, history, parts};

/// Defines a test for each database from every scenario that is named; each starts its server itself.
macro_rules! failing {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Driver::Sqlite).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(super::Driver::Postgres).await;
            })+
        }
    };
}

failing!(
    a_server_that_dies_between_commit_and_answer_keeps_what_it_stored,
    an_outcome_whose_answer_was_lost_counts_once,
    a_panic_beside_a_commit_costs_that_call_only,
    a_hand_over_whose_answer_was_lost_costs_no_attempt,
    a_job_that_was_handed_over_as_its_server_died_comes_under_the_same_number,
    a_server_whose_failpoints_are_not_set_acts_as_any,
    background_work_that_goes_on_failing_takes_the_server_out_of_service,
);

fn fired(server: &Server, place: &str) -> usize {
    server.stderr().lines().filter(|line| line.contains("failpoint fired") && line.contains(place)).count()
}

fn keyed(key: &str) -> SubmitJobRequest {
    SubmitJobRequest { idempotency_key: key.to_owned(), ..job(WORKER_ID, r#"{"sleep_ms": 0}"#) }
}

async fn submit(api: &Api, key: &str) -> Result<SubmitJobResponse, tonic::Status> {
    Ok(api.jobs().submit_job(keyed(key)).await?.into_inner())
}

async fn stored(api: &Api) -> Vec<String> {
    let request = ListJobsRequest { worker_id: WORKER_ID.to_owned(), ..ListJobsRequest::default() };
    let jobs = api.jobs().list_jobs(request).await.unwrap().into_inner().jobs;
    jobs.into_iter().map(|job| job.id).collect()
}

async fn over(server: Server, database: Database) {
    server.stop_and_check().await;
    tokio::task::spawn_blocking(move || drop(database)).await.unwrap();
}

async fn a_server_that_dies_between_commit_and_answer_keeps_what_it_stored(driver: Driver) {
    let database = Database::create(driver).await;
    let mut server = Server::start_failing(database.url(), &[], "after_insert=return(exit)").await;
    submit(&server.api(), "k").await.unwrap_err();
    assert_eq!(server.ended().await.code(), Some(86));
    server.start_again().await;
    let again = submit(&server.api(), "k").await.unwrap();
    assert!(again.deduplicated);
    assert_eq!(stored(&server.api()).await, [again.job_id]);
    over(server, database).await;
}

async fn an_outcome_whose_answer_was_lost_counts_once(driver: Driver) {
    let database = Database::create(driver).await;
    let server = Server::start_failing(database.url(), &[], "after_settle=2*return(lost)").await;
    let _worker = Worker::start(&server, WORKER_ID, &["--simulate"]);
    let id = server.api().submit(job(WORKER_ID, r#"{"sleep_ms": 0}"#)).await;
    let found = server.api().until(&id, Status::Done).await;
    eventually("the outcome was sent until it was acknowledged", async || {
        (fired(&server, "after_settle") == 2).then_some(())
    })
    .await;
    assert!(history(&found).is_empty());
    assert_eq!(parts(server.api().get(&id).await).0.run_no, 1);
    over(server, database).await;
}

async fn a_panic_beside_a_commit_costs_that_call_only(driver: Driver) {
    let database = Database::create(driver).await;
    let failpoints = "before_insert=1*return(panic);after_insert=1*return(panic)";
    let server = Server::start_failing(database.url(), &[], failpoints).await;
    let api = server.api();
    for place in ["before_insert", "after_insert"] {
        assert_eq!(submit(&api, "k").await.unwrap_err().code(), Code::Internal, "{place}");
        assert_eq!(fired(&server, place), 1);
    }
    assert!(submit(&api, "k").await.unwrap().deduplicated, "the second was committed");
    over(server, database).await;
}

async fn a_hand_over_whose_answer_was_lost_costs_no_attempt(driver: Driver) {
    let database = Database::create(driver).await;
    let server = Server::start_failing(database.url(), &[], "after_acquire=3*return(lost)").await;
    let id = server.api().submit(job(WORKER_ID, r#"{"sleep_ms": 0}"#)).await;
    let _worker = Worker::start(&server, WORKER_ID, &["--simulate"]);
    let found = server.api().until(&id, Status::Done).await;
    assert_eq!(fired(&server, "after_acquire"), 3);
    assert!(history(&found).is_empty(), "the same acquire again got the same job");
    let (job, _) = parts(found);
    assert_eq!((job.attempt_count, job.run_no), (1, 1));
    over(server, database).await;
}

/// Repeated, because a job that is stored between the call's last acquire and its wait is not handed off.
async fn a_job_that_was_handed_over_as_its_server_died_comes_under_the_same_number(driver: Driver) {
    eventually("a server dies as it hands over", async || dies_as_it_stores(driver).await.then_some(())).await;
}

/// Runs the scenario with one parked poll. Returns whether the job was handed off to it.
async fn dies_as_it_stores(driver: Driver) -> bool {
    let database = Database::create(driver).await;
    let mut server = Server::start_failing(database.url(), &[], "after_insert=return(exit)").await;
    let mut worker = ManualWorker::register(&server.api()).await;
    let request = worker.next_acquire(1, 20);
    let mut workers = server.api().workers();
    let call = tokio::spawn({
        let request = request.clone();
        async move { workers.acquire_jobs(request).await }
    });
    eventually("it has looked", async || (server.acquire_count().await >= 1).then_some(())).await;
    let submitted = server.api().jobs().submit_job(job(WORKER_ID, r#"{"sleep_ms": 0}"#)).await;
    assert_eq!(server.ended().await.code(), Some(86), "{submitted:?}");
    call.await.unwrap().unwrap_err();
    server.start_again().await;
    let api = server.api();
    let ids = stored(&api).await;
    let [id] = &ids[..] else { panic!("{ids:?}") };
    let handed = parts(api.get(id).await).0.status() == Status::Running;
    let jobs = api.workers().acquire_jobs(request).await.unwrap().into_inner().jobs;
    assert_eq!(jobs.iter().map(|leased| &leased.job.as_ref().unwrap().id).collect::<Vec<_>>(), [id]);
    worker.settle(&jobs[0].lease_id, Outcome::Complete(Complete::default())).await;
    let (done, attempts) = parts(api.until(id, Status::Done).await);
    assert_eq!((done.run_no, done.attempt_count, attempts.len()), (1, 1, 0));
    over(server, database).await;
    handed
}

async fn a_server_whose_failpoints_are_not_set_acts_as_any(driver: Driver) {
    let mut deployment = Deployment::new(driver).await;
    let _worker = deployment.simulating();
    let id = deployment.api.submit(job(WORKER_ID, r#"{"sleep_ms": 0}"#)).await;
    deployment.api.until(&id, Status::Done).await;
    assert!(!deployment.server.stderr().contains("failpoint"));
    assert!(deployment.server.terminate().await.success());
    deployment.stop_and_check().await;
}

async fn background_work_that_goes_on_failing_takes_the_server_out_of_service(driver: Driver) {
    let database = Database::create(driver).await;
    // Rescue fails for about half a minute; the storage itself answers.
    let server = Server::start_failing(database.url(), &[], "before_rescue=30*return(lost)").await;
    let text = within(2 * PATIENCE, "/readyz names it", async || {
        let answer = get(server.http_addr(), "/readyz").await;
        (answer.status == 503).then(|| answer.text())
    })
    .await;
    assert!(text.contains("rescue"), "{text}");
    submit(&server.api(), "k").await.unwrap();
    within(2 * PATIENCE, "it is ready again", async || {
        (get(server.http_addr(), "/readyz").await.status == 200).then_some(())
    })
    .await;
    over(server, database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submit_whose_commit_was_cut_off_is_stored_once_under_its_id() {
    let database = Database::create(Driver::Postgres).await;
    let server = Server::start_failing(database.url(), &[], "insert_commit=2*return(lost)").await;
    let api = server.api();
    // The job can run before its submitter has the answer.
    let _worker = Worker::start(&server, WORKER_ID, &["--simulate"]);
    let answer = submit(&api, "k").await.unwrap();
    assert!(!answer.deduplicated);
    assert_eq!(fired(&server, "insert_commit"), 2);
    let (job, attempts) = parts(api.until(&answer.job_id, Status::Done).await);
    assert_eq!((job.run_no, attempts.len()), (1, 0));
    assert_eq!(stored(&api).await, [answer.job_id.as_str()]);
    assert_eq!(api.metrics().await.total, 1, "counted once");
    let again = submit(&api, "k").await.unwrap();
    assert_eq!((again.job_id, again.deduplicated), (answer.job_id, true));
    over(server, database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_whose_commit_was_cut_off_keeps_its_origin() {
    let database = Database::create(Driver::Postgres).await;
    let server = Server::start_failing(database.url(), &[], "insert_commit=1*off->2*return(lost)").await;
    let api = server.api();
    let origin = submit(&api, "k").await.unwrap().job_id;
    let request = CopyJobRequest { job_id: origin.clone(), ..CopyJobRequest::default() };
    let copy = api.jobs().copy_job(request).await.unwrap().into_inner();
    assert_eq!(fired(&server, "insert_commit"), 2);
    let (job, _) = parts(api.get(&copy.job_id).await);
    assert_eq!(job.origin, origin);
    let copies = api.get(&origin).await.copies;
    assert_eq!(copies.into_iter().map(|it| it.job_id).collect::<Vec<_>>(), [copy.job_id]);
    over(server, database).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_submit_that_stays_unknown_is_unavailable_and_found_by_its_key() {
    let database = Database::create(Driver::Postgres).await;
    let server = Server::start_failing(database.url(), &[], "insert_commit=3*return(lost)").await;
    let status = submit(&server.api(), "k").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let again = submit(&server.api(), "k").await.unwrap();
    assert!(again.deduplicated);
    assert_eq!(stored(&server.api()).await, [again.job_id]);
    over(server, database).await;
}
