//! Takeover: a worker that starts again declares its dead predecessor gone, and no other session.

use jobqueue_shared::{limits, state::State};
use jobqueue_store::{Acquired, AttemptOutcome, HeldJob, NewJob, NewSession, Registration, SessionState, SettleAnswer};
use uuid::Uuid;

use crate::{
    scenarios,
    session_client::Session,
    store_fixture::{StoreFixture, job, jobs, session},
};

scenarios!(
    what_a_predecessor_held_may_run_again_at_once,
    a_predecessor_that_lives_after_all_is_fenced_off,
    only_a_session_of_the_same_worker_and_host_is_a_predecessor,
    a_predecessor_that_is_over_or_unknown_is_no_obstacle,
    a_predecessor_with_very_many_jobs_is_charged_for_what_it_had_started,
    successors_that_race_for_one_predecessor_charge_it_once,
    a_session_shows_what_it_holds_and_what_it_held_when_it_ended,
    a_lost_session_shows_what_it_held,
);

fn successor_of(predecessors: &[Uuid]) -> NewSession {
    NewSession { predecessors: predecessors.to_vec(), ..session("w") }
}

impl StoreFixture {
    async fn held(&self, session_id: Uuid) -> Vec<HeldJob> {
        self.store.session(session_id).await.unwrap().expect("a session").held
    }
}

async fn what_a_predecessor_held_may_run_again_at_once(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 4)).await;
    let old = fixture.register(NewSession { slots: 2, ..session("w") }).await;
    assert_eq!(old.acquire(3).await.len(), 3);
    let Registration::New { session_id, taken_back } = fixture.store.register(&successor_of(&[old.id])).await.unwrap()
    else {
        panic!()
    };
    assert_eq!(taken_back, 3);
    assert_eq!(fixture.session_state(old.id).await, SessionState::Lost);
    assert_eq!(fixture.session_state(session_id).await, SessionState::Live);
    let used: Vec<_> =
        fixture.store.get(&ids).await.unwrap().into_iter().map(|job| job.map(|job| job.attempts_used)).collect();
    assert_eq!(used, [Some(1), Some(1), Some(0), Some(0)], "it is charged for what it had started");
    let [attempt] = &fixture.attempts(ids[0]).await[..] else { panic!() };
    assert_eq!((attempt.outcome, attempt.session_id), (AttemptOutcome::Lost, Some(old.id)));
    let told = format!("worker lost: session {} of w on host-1 was declared gone by its successor", old.id);
    assert_eq!(attempt.error, told);
    assert_eq!(fixture.outcomes(ids[2]).await, [(1, AttemptOutcome::Released)]);
    assert_eq!(fixture.tally("w").await, [4, 0, 0, 0, 0]);
}

async fn a_predecessor_that_lives_after_all_is_fenced_off(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let zombie = fixture.session("w").await;
    let stale = zombie.acquire_one().await.lease;
    let successor = fixture.register(successor_of(&[zombie.id])).await;
    let current = successor.acquire_when_due().await;
    let before = fixture.get(id).await;
    assert_eq!(zombie.beat().await, None);
    assert!(matches!(zombie.acquire_any(1).await, Acquired::NoSession));
    assert_eq!(zombie.complete(stale).await, SettleAnswer::Stale);
    assert_eq!(zombie.fail(stale, "late").await, SettleAnswer::Stale);
    assert_eq!(zombie.release(stale).await, SettleAnswer::Stale);
    assert!(!zombie.progress(stale, "half").await);
    assert_eq!(fixture.store.end_session(zombie.id).await.unwrap(), None);
    assert_eq!(fixture.get(id).await, before);
    assert_eq!(fixture.refusals(id).await, 1);
    assert_eq!(successor.complete(current.lease).await, SettleAnswer::Accepted(State::Done));
}

async fn only_a_session_of_the_same_worker_and_host_is_a_predecessor(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 2)).await;
    fixture.submit(job("x")).await;
    let old = fixture.session("w").await;
    let elsewhere = fixture.register(NewSession { host: "host-2".to_owned(), ..session("w") }).await;
    let stranger = fixture.session("x").await;
    for holder in [&old, &elsewhere, &stranger] {
        assert_eq!(holder.acquire(1).await.len(), 1);
    }
    for (foreign, why) in
        [(&elsewhere, "is a session of another host"), (&stranger, "is a session of another worker_id")]
    {
        let answer = fixture.store.register(&successor_of(&[old.id, foreign.id])).await.unwrap();
        assert_eq!(answer, Registration::NoPredecessor { index: 1, why });
    }
    assert_eq!(fixture.sessions(None).await.len(), 3, "nobody has registered");
    for holder in [&old, &elsewhere, &stranger] {
        assert!(holder.beat().await.is_some());
        assert_eq!(fixture.held(holder.id).await.len(), 1);
    }
}

async fn a_predecessor_that_is_over_or_unknown_is_no_obstacle(fixture: &StoreFixture) {
    let ended = fixture.register(NewSession { host: "host-2".to_owned(), ..session("w") }).await;
    fixture.store.end_session(ended.id).await.unwrap();
    let lost = fixture.session("w").await;
    let first = fixture.register(successor_of(&[lost.id])).await;
    // The answer got lost, and the worker registers once more.
    let again = fixture.register(successor_of(&[lost.id, lost.id, ended.id, Uuid::from_u128(7)])).await;
    assert_ne!(first.id, again.id);
    assert!(first.beat().await.is_some() && again.beat().await.is_some());
    assert_eq!(fixture.session_state(ended.id).await, SessionState::Ended);
    assert_eq!(fixture.session_state(lost.id).await, SessionState::Lost);
}

async fn a_predecessor_with_very_many_jobs_is_charged_for_what_it_had_started(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 2_300)).await;
    let old = fixture.register(NewSession { slots: 1_200, ..session("w") }).await;
    for _ in 0..3 {
        old.acquire(1_000).await;
    }
    assert_eq!(fixture.tally("w").await, [0, 2_300, 0, 0, 0]);
    let new = fixture.register(successor_of(&[old.id])).await;
    let [pending, running, ..] = fixture.tally("w").await;
    assert!(pending >= 1_000 && pending + running == 2_300, "the call takes a part of them: {pending}");
    // Rescue takes back the rest.
    let rescued = fixture.rescue_until(running, 0).await;
    assert_eq!(rescued.sessions, 0, "it had ended");
    let mut jobs = Vec::new();
    for ids in ids.chunks(500) {
        jobs.extend(fixture.store.get(ids).await.unwrap());
    }
    let used: Vec<_> = jobs.into_iter().map(|job| job.unwrap().attempts_used).collect();
    assert!(used[..1_200].iter().all(|used| *used == 1) && used[1_200..].iter().all(|used| *used == 0));
    let told = format!("worker lost: session {} of w on host-1 was declared gone by its successor", old.id);
    for id in [ids[0], ids[1_199]] {
        assert_eq!(fixture.attempts(id).await[0].error, told);
    }
    assert!(new.beat().await.is_some());
}

async fn successors_that_race_for_one_predecessor_charge_it_once(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    for round in 0..10 {
        let ids = fixture.submit_all(jobs("w", 10)).await;
        let old = fixture.session("w").await;
        assert_eq!(old.acquire(10).await.len(), 10);
        let (a, b) = (successor_of(&[old.id]), successor_of(&[old.id]));
        let (a, b) = tokio::join!(fixture.store.register(&a), second.register(&b));
        let taken = [a, b].map(|answer| match answer.unwrap() {
            Registration::New { taken_back, .. } => taken_back,
            other @ Registration::NoPredecessor { .. } => panic!("{other:?}"),
        });
        assert_eq!(taken.iter().sum::<u64>(), 10, "round {round}");
        for id in &ids {
            assert_eq!(fixture.get(*id).await.attempts_used, 1);
        }
        fixture.store.cancel(&ids, "").await.unwrap();
    }
}

fn shown(held: &[HeldJob]) -> Vec<(Uuid, bool, Option<State>)> {
    held.iter().map(|it| (it.job_id, it.started, it.state)).collect()
}

async fn a_session_shows_what_it_holds_and_what_it_held_when_it_ended(fixture: &StoreFixture) {
    use State::{Done, Pending, Running};
    // The jobs are acquired in the order of their priorities, not of their ids.
    let mut ids = Vec::new();
    for priority in [5, 0, 3] {
        ids.push(fixture.submit(NewJob { priority, task: format!("task {priority}"), ..job("w") }).await);
    }
    let holder = fixture.register(NewSession { slots: 2, ..session("w") }).await;
    let leased = holder.acquire(3).await;
    let held = fixture.held(holder.id).await;
    let running = Some(Running);
    assert_eq!(shown(&held), [(ids[1], true, running), (ids[2], true, running), (ids[0], false, running)]);
    assert_eq!(held[0].task, "task 0");
    holder.complete(leased[0].lease).await;
    assert_eq!(shown(&fixture.held(holder.id).await), [(ids[2], true, running), (ids[0], true, running)]);

    fixture.store.end_session(holder.id).await.unwrap();
    assert_eq!(shown(&fixture.held(holder.id).await), [(ids[2], true, Some(Pending)), (ids[0], true, Some(Pending))]);
    let next = fixture.session("w").await;
    next.complete(next.acquire(1).await[0].lease).await;
    fixture.store.cancel(&[ids[0]], "").await.unwrap();
    fixture.store.delete(&[ids[0]]).await.unwrap();
    let held = fixture.held(holder.id).await;
    assert_eq!(shown(&held), [(ids[2], true, Some(Done)), (ids[0], true, None)]);
    assert_eq!((held[0].task.as_str(), held[1].task.as_str()), ("task 3", ""));
    assert_eq!(fixture.store.session(Uuid::from_u128(1)).await.unwrap(), None);
}

async fn a_lost_session_shows_what_it_held(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 700)).await;
    let (lost, leased): (Session, _) = fixture.expiring_session(NewSession { slots: 3, ..session("w") }, 700).await;
    assert_eq!(leased.len(), 700);
    fixture.rescue_until(700, 0).await;
    let details = fixture.store.session(lost.id).await.unwrap().unwrap();
    assert_eq!((details.session.state, details.session.running), (SessionState::Lost, 0));
    assert_eq!(details.held.len(), limits::HELD_SHOWN);
    assert!(details.held.iter().zip(&ids).all(|(held, id)| held.job_id == *id));
    assert_eq!(details.held.iter().filter(|held| held.started).count(), 3);
    assert!(details.held.iter().all(|held| held.state == Some(State::Pending)));
}
