//! Inputs of a job's timeline and of the explanation why it waits: its history, and the state around it.

use jobqueue_shared::{limits, state::State};
use jobqueue_store::{Heartbeat, NewJob, NewSession, ProgressReport, Start};
use uuid::Uuid;

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs, session},
};

scenarios!(
    a_history_is_what_is_known_of_the_job,
    a_plain_success_leaves_no_row_for_its_history,
    what_does_not_exist_has_no_history,
    sessions_are_counted_by_what_they_handle,
    what_handling_sessions_hold_is_counted_with_their_slots,
    what_comes_before_a_job_is_counted,
    no_more_is_counted_than_is_told,
    a_worker_that_left_was_seen,
);

async fn a_history_is_what_is_known_of_the_job(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let session = fixture.session("w").await;
    session.fail(session.acquire_one().await.lease, "no").await;
    let leased = session.acquire_when_due().await;
    let report =
        ProgressReport { session_id: session.id, lease: leased.lease, fraction: 0.25, message: "a quarter".to_owned() };
    assert!(fixture.store.report_progress(&report).await.unwrap());
    for state in [State::Running, State::Done] {
        let history = fixture.store.history(id).await.unwrap().unwrap();
        let job = fixture.get(id).await;
        assert_eq!((history.job.id, history.job.state, history.job.run_no), (id, state, 2));
        assert_eq!(history.job.started_at_ms, job.started_at_ms);
        assert_eq!(history.job.finished_at_ms, job.finished_at_ms);
        assert_eq!((history.job.payload.as_str(), history.host.as_str()), ("", "host-1"));
        assert_eq!(history.attempts, fixture.attempts(id).await);
        assert_eq!(history.attempts[0].host, "host-1");
        let (run_no, progress) = history.progress.unwrap();
        assert_eq!((run_no, progress.fraction, progress.message.as_str()), (2, 0.25, "a quarter"));
        session.complete(leased.lease).await;
    }
}

async fn a_plain_success_leaves_no_row_for_its_history(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let session = fixture.session("w").await;
    session.complete(session.acquire_one().await.lease).await;
    let history = fixture.store.history(id).await.unwrap().unwrap();
    assert_eq!((history.attempts, history.progress), (vec![], None));
    assert_eq!((history.job.session_id, history.host.as_str()), (Some(session.id), "host-1"));
    assert!(history.job.started_at_ms.is_some() && history.job.finished_at_ms.is_some());
}

async fn what_does_not_exist_has_no_history(fixture: &StoreFixture) {
    assert_eq!(fixture.store.history(Uuid::now_v7()).await.unwrap(), None);
    let id = fixture.job_in(State::Cancelled, job("w")).await;
    fixture.store.delete(&[id]).await.unwrap();
    assert_eq!(fixture.store.history(id).await.unwrap(), None);
}

fn handling(worker_id: &str, tasks: &[&str]) -> NewSession {
    NewSession { tasks: tasks.iter().map(|&it| it.to_owned()).collect(), slots: 3, ..session(worker_id) }
}

async fn sessions_are_counted_by_what_they_handle(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let untold = fixture.submit(NewJob { task: String::new(), ..job("w") }).await;
    let around = async |id| fixture.store.explain_inputs(&fixture.get(id).await).await.unwrap();
    let counted = async |id| {
        let it = around(id).await;
        (it.sessions, it.draining, it.handling, it.slots)
    };
    assert_eq!(counted(id).await, (0, 0, 0, 0));
    fixture.register(handling("another", &["email"])).await;
    assert_eq!(counted(id).await, (0, 0, 0, 0));
    fixture.register(handling("w", &["e-mail", "EMAIL", "email "])).await;
    assert_eq!(counted(id).await, (1, 0, 0, 0));
    fixture.register(handling("w", &["sms", "email"])).await;
    assert_eq!(counted(id).await, (2, 0, 1, 3));
    // A session that lists no task, or "*", handles every task.
    fixture.register(handling("w", &[])).await;
    fixture.register(handling("w", &["sms", "*"])).await;
    assert_eq!(counted(id).await, (4, 0, 3, 9));
    assert_eq!(counted(untold).await, (4, 0, 2, 6));
    let leaving = fixture.register(handling("w", &["email"])).await;
    fixture.store.heartbeat(&[Heartbeat { session_id: leaving.id, draining: true }]).await.unwrap();
    assert_eq!(counted(id).await, (4, 1, 3, 9));
    fixture.store.end_session(leaving.id).await.unwrap();
    assert_eq!(counted(id).await, (4, 0, 3, 9));
    // A session whose lease has run out does not count, rescued or not.
    let silent = fixture.register(NewSession { lease_ms: 1, ..handling("w", &["email"]) }).await;
    fixture.pass(fixture.now_ms().await).await;
    assert_eq!(counted(id).await, (4, 0, 3, 9));
    assert!(silent.acquire(1).await.is_empty());
}

async fn what_handling_sessions_hold_is_counted_with_their_slots(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 100)).await;
    let last = fixture.submit(job("w")).await;
    let handler = fixture.register(handling("w", &["email"])).await;
    let other = fixture.register(handling("w", &["sms"])).await;
    assert_eq!(other.acquire(20).await.len(), 20);
    // The session holds more than one claim, and one of them has lost an entry.
    let leased = handler.acquire(70).await;
    handler.complete(leased[0].lease).await;
    let around = fixture.store.explain_inputs(&fixture.get(last).await).await.unwrap();
    assert_eq!((around.sessions, around.handling, around.slots, around.held), (2, 1, 3, 69));
    assert_eq!(around.ahead, 10);
}

async fn what_comes_before_a_job_is_counted(fixture: &StoreFixture) {
    let now = fixture.now_ms().await;
    let new = (0..60).map(|n| NewJob {
        priority: [5, 0, 9, 5, 3][n % 5],
        start: Start::At { run_at_ms: now - [1_000, 5_000, 1_000, 2_000][n % 4] },
        ..job("w")
    });
    let ids = fixture.submit_all(new.collect()).await;
    // Jobs that are not before any other: they wait for their time, or have another worker_id.
    fixture.submit_all(vec![NewJob { start: Start::After { delay_ms: HOUR_MS }, priority: 0, ..job("w") }; 5]).await;
    fixture.submit_all(vec![NewJob { priority: 0, ..job("another") }; 5]).await;
    let mut counted = Vec::new();
    for id in &ids {
        counted.push((fixture.store.explain_inputs(&fixture.get(*id).await).await.unwrap().ahead, *id));
    }
    counted.sort();
    let session = fixture.session("w").await;
    let taken = session.acquire(100).await;
    let expected: Vec<_> = taken.iter().enumerate().map(|(n, leased)| (n as u64, leased.job.id)).collect();
    assert_eq!(counted, expected);
}

async fn no_more_is_counted_than_is_told(fixture: &StoreFixture) {
    let ahead = async |id| fixture.store.explain_inputs(&fixture.get(id).await).await.unwrap().ahead;
    let ids = fixture.submit_all(jobs("w", limits::AHEAD as usize + 200)).await;
    assert_eq!(ahead(ids[999]).await, 999);
    assert_eq!(ahead(*ids.last().unwrap()).await, 1_000);
    // The limit holds over several priorities, too.
    fixture.submit_all(vec![NewJob { priority: 2, ..job("w") }; 200]).await;
    assert_eq!(ahead(ids[0]).await, 200);
    assert_eq!(ahead(ids[900]).await, 1_000);
    // A job that waits for its time does not wait for jobs before it.
    let later = fixture.submit(NewJob { start: Start::After { delay_ms: HOUR_MS }, ..job("w") }).await;
    assert_eq!(ahead(later).await, 0);
}

async fn a_worker_that_left_was_seen(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let seen = async || fixture.store.explain_inputs(&fixture.get(id).await).await.unwrap().last_seen_ms;
    fixture.session("another").await;
    assert_eq!(seen().await, None);
    let before = fixture.now_ms().await;
    let first = fixture.session("w").await;
    let last = fixture.session("w").await;
    fixture.pass(fixture.now_ms().await).await;
    last.beat().await.unwrap();
    let beat = fixture.now_ms().await;
    let at = seen().await.unwrap();
    assert!((before + 1..=beat).contains(&at));
    fixture.store.end_session(last.id).await.unwrap();
    assert_eq!(seen().await, Some(at));
    fixture.store.end_session(first.id).await.unwrap();
    let gone = seen().await.unwrap();
    assert!((before..=at).contains(&gone), "when it was heard of, not when it ended: {gone}");
}
