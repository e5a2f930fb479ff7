//! Jobs that a session releases because it has no handler: they go to sessions that handle their task.

use std::collections::BTreeSet;

use jobqueue_shared::{
    limits,
    state::{Ending, State},
};
use jobqueue_store::{Leased, NewJob, NewSession, SettleAnswer};
use jobqueue_tests::poll::eventually;
use uuid::Uuid;

use crate::{
    scenarios,
    session_client::Session,
    store_fixture::{StoreFixture, job, session},
};

scenarios!(
    a_job_that_is_given_back_goes_only_to_a_session_that_handles_its_task,
    a_session_that_lists_no_tasks_or_a_star_handles_all,
    jobs_given_back_come_in_their_order_and_as_many_as_asked_for,
    jobs_given_back_fit_into_an_answer,
    a_repeated_acquire_gives_the_same_jobs_given_back,
    after_its_delay_a_job_given_back_goes_to_anyone,
    a_session_that_gives_back_what_it_lists_waits_as_everybody,
    a_job_given_back_can_be_cancelled_retried_and_paused,
    other_jobs_are_found_beside_jobs_given_back,
);

const NO_HANDLER: Ending = Ending::Release { no_handler: true };

fn of_task(task: &str) -> NewJob {
    NewJob { task: task.to_owned(), ..job("w") }
}

async fn handling(fixture: &StoreFixture, tasks: &[&str]) -> Session {
    let tasks = tasks.iter().map(|task| (*task).to_owned()).collect();
    fixture.register(NewSession { tasks, ..session("w") }).await
}

/// Stores the jobs with the run number of a job that was given back twenty times: the next time it waits for a minute.
async fn given_back_often(fixture: &StoreFixture, jobs: Vec<NewJob>) -> Vec<Uuid> {
    let ids = fixture.submit_all(jobs).await;
    fixture.sql("UPDATE ready SET run_no = 20", "UPDATE ready SET run_no = 20").await;
    ids
}

/// Acquires every job that is due, and releases it for lack of a handler. Returns the number of jobs.
async fn gives_back(session: &Session) -> usize {
    let mut jobs = 0;
    loop {
        let leased = session.acquire(limits::JOBS_PER_ACQUIRE).await;
        if leased.is_empty() {
            return jobs;
        }
        for Leased { lease, .. } in leased {
            assert_eq!(session.end(lease, NO_HANDLER).await, SettleAnswer::Accepted(State::Pending));
            jobs += 1;
        }
    }
}

fn ids(leased: &[Leased]) -> Vec<Uuid> {
    leased.iter().map(|leased| leased.lease.job_id).collect()
}

async fn a_job_that_is_given_back_goes_only_to_a_session_that_handles_its_task(fixture: &StoreFixture) {
    let [one, two] = given_back_often(fixture, vec![of_task("t2"); 2]).await[..] else { panic!() };
    let (first, also_first) = (handling(fixture, &["t1"]).await, handling(fixture, &["t1", "t3"]).await);
    assert_eq!(gives_back(&first).await, 2);
    let waiting = fixture.get(one).await;
    assert_eq!((waiting.state, waiting.waits_for_handler, waiting.attempts_used), (State::Pending, true, 0));
    assert!(waiting.kept_for_task && waiting.run_at_ms > fixture.now_ms().await + 30_000);
    assert!(first.acquire(10).await.is_empty());
    assert!(also_first.acquire(10).await.is_empty());
    let other = fixture.register(NewSession { tasks: vec!["t2".into()], ..session("v") }).await;
    assert!(other.acquire(10).await.is_empty(), "of another worker_id");
    // A session that lists the task gets the jobs, whether it is there already or comes later.
    let second = handling(fixture, &["t0", "t2"]).await;
    let leased = second.acquire_next().await;
    assert_eq!((leased.job.run_no, leased.job.attempts_used), (22, 1));
    assert!(!fixture.get(leased.job.id).await.waits_for_handler);
    let last = second.acquire_one().await;
    assert_eq!(BTreeSet::from([leased.job.id, last.job.id]), BTreeSet::from([one, two]));
    assert_eq!(fixture.tally("w").await, [0, 2, 0, 0, 0]);
    second.complete(leased.lease).await;
    second.complete(last.lease).await;
    assert_eq!(fixture.tally("w").await, [0, 0, 2, 0, 0]);
}

async fn a_session_that_lists_no_tasks_or_a_star_handles_all(fixture: &StoreFixture) {
    for tasks in [&["t1", "*"] as &[&str], &[]] {
        let jobs = vec![of_task("a"), NewJob { priority: 0, ..of_task("b") }, of_task("c")];
        let given = given_back_often(fixture, jobs).await;
        assert_eq!(gives_back(&handling(fixture, &["t1"]).await).await, 3);
        let all = handling(fixture, tasks).await;
        let first = all.acquire(2).await;
        assert_eq!(first.len(), 2);
        let urgent = given[1];
        assert_eq!(first[0].lease.job_id, urgent, "by priority, not by task");
        let leased = [first, all.acquire(10).await].concat();
        assert_eq!(BTreeSet::from_iter(ids(&leased)), BTreeSet::from_iter(given.clone()));
        for Leased { lease, .. } in leased {
            // The session lists these tasks and still releases the jobs, so it does not get them back at once.
            all.end(lease, NO_HANDLER).await;
        }
        assert!(all.acquire(10).await.is_empty());
        let again = handling(fixture, &["a", "b", "c"]).await;
        assert!(again.acquire(10).await.is_empty());
        fixture.store.cancel(&given, "").await.unwrap();
    }
}

async fn jobs_given_back_come_in_their_order_and_as_many_as_asked_for(fixture: &StoreFixture) {
    let with = |task: &str, priority| NewJob { priority, ..of_task(task) };
    let jobs = vec![with("a", 5), with("b", 3), with("a", 1), with("c", 0), with("b", 9), with("b", 1)];
    let given = given_back_often(fixture, jobs).await;
    assert_eq!(gives_back(&handling(fixture, &["t1"]).await).await, 6);
    let session = handling(fixture, &["b", "a", "b"]).await;
    assert_eq!(ids(&session.acquire(3).await)[2..], [given[1]]);
    assert_eq!(ids(&session.acquire(1).await), [given[0]]);
    assert_eq!(ids(&session.acquire(9).await), [given[4]]);
    assert!(session.acquire(9).await.is_empty());
    assert_eq!(fixture.tally("w").await, [1, 5, 0, 0, 0]);
}

async fn jobs_given_back_fit_into_an_answer(fixture: &StoreFixture) {
    let large = NewJob { payload: format!("\"{}\"", "x".repeat(limits::REPLY_BYTES / 2)), ..of_task("t2") };
    given_back_often(fixture, vec![large; 3]).await;
    let first = handling(fixture, &["t1"]).await;
    assert_eq!(gives_back(&first).await, 3);
    for tasks in [&["t2"], &["*"], &["t2"]] {
        let session = handling(fixture, tasks).await;
        let leased = session.acquire(10).await;
        assert_eq!(leased.len(), 1);
        session.complete(leased[0].lease).await;
    }
}

async fn a_repeated_acquire_gives_the_same_jobs_given_back(fixture: &StoreFixture) {
    let given = given_back_often(fixture, vec![of_task("t2"); 3]).await;
    assert_eq!(gives_back(&handling(fixture, &["t1"]).await).await, 3);
    let second = handling(fixture, &["t2"]).await;
    let leased = ids(&second.jobs_numbered(7, 2).await);
    assert_eq!(leased.len(), 2);
    assert_eq!(ids(&second.jobs_numbered(7, 2).await), leased);
    let last = ids(&second.jobs_numbered(8, 2).await);
    assert_eq!(BTreeSet::from_iter([leased, last].concat()), BTreeSet::from_iter(given));
}

async fn after_its_delay_a_job_given_back_goes_to_anyone(fixture: &StoreFixture) {
    let id = fixture.submit(of_task("t2")).await;
    let first = handling(fixture, &["t1"]).await;
    assert_eq!(gives_back(&first).await, 1);
    let third = handling(fixture, &["t3"]).await;
    let leased = third.acquire_when_due().await;
    assert_eq!((leased.job.id, leased.job.run_no), (id, 2));
    third.complete(leased.lease).await;
}

async fn a_session_that_gives_back_what_it_lists_waits_as_everybody(fixture: &StoreFixture) {
    let given = given_back_often(fixture, vec![of_task("t2"); 2]).await;
    let second = handling(fixture, &["t2"]).await;
    assert_eq!(gives_back(&second).await, 2);
    let job = fixture.get(given[0]).await;
    assert!(job.waits_for_handler && !job.kept_for_task);
    assert!(job.run_at_ms > fixture.now_ms().await + 30_000);
    assert!(handling(fixture, &["t2"]).await.acquire(10).await.is_empty());
}

async fn a_job_given_back_can_be_cancelled_retried_and_paused(fixture: &StoreFixture) {
    let given = given_back_often(fixture, vec![of_task("t2"); 2]).await;
    let first = handling(fixture, &["t1"]).await;
    assert_eq!(gives_back(&first).await, 2);
    fixture.store.cancel(&given[..1], "not now").await.unwrap();
    assert_eq!(fixture.tally("w").await, [1, 0, 0, 0, 1]);
    fixture.store.retry(&given[..1]).await.unwrap();
    // After a retry by a person, any session may take the job.
    assert_eq!(ids(&first.acquire(10).await), given[..1]);
    let second = handling(fixture, &["t2"]).await;
    fixture.store.pause("w", "").await.unwrap();
    assert!(second.acquire(10).await.is_empty());
    fixture.store.resume("w").await.unwrap();
    let leased = eventually("what was resumed is handed out", async || second.acquire(10).await.pop()).await;
    assert_eq!(leased.job.id, given[1]);
}

async fn other_jobs_are_found_beside_jobs_given_back(fixture: &StoreFixture) {
    given_back_often(fixture, vec![of_task("t2"); 3]).await;
    let first = handling(fixture, &["t1"]).await;
    assert_eq!(gives_back(&first).await, 3);
    let second = handling(fixture, &["t2"]).await;
    assert_eq!(second.acquire(1).await.len(), 1);
    let due = fixture.submit_all(vec![of_task("t1"); 2]).await;
    assert_eq!(ids(&first.acquire(10).await), due);
    assert_eq!(second.acquire(10).await.len(), 2);
}
