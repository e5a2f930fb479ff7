//! Sessions: they are listed, kept alive, and end once.

use std::collections::HashSet;

use jobqueue_shared::{limits, state::State};
use jobqueue_store::{
    Acquired, AttemptOutcome, Heartbeat, NewJob, NewSession, SessionCursor, SessionQuery, SessionRecord, SessionState,
    SettleAnswer, StopReason, Stopped,
};
use jobqueue_tests::poll::eventually;
use uuid::Uuid;

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs, session},
};

scenarios!(
    a_session_is_shown_with_all_that_it_said,
    a_heartbeat_extends_by_the_lease_time,
    heartbeats_keep_a_session_alive_beyond_its_lease,
    many_heartbeats_are_answered_in_order,
    a_session_that_ended_never_revives,
    ending_a_session_gives_back_all_it_holds_uncharged,
    a_draining_session_is_shown_as_draining,
    each_session_learns_only_of_its_own_leases,
    the_heartbeat_goes_on_naming_a_lease_until_the_session_ends,
    counts_tell_how_many_sessions_live,
    pages_of_sessions_leave_out_none_and_stay_small_however_many_tasks_they_have,
);

async fn pages_of_sessions_leave_out_none_and_stay_small_however_many_tasks_they_have(fixture: &StoreFixture) {
    // A session has a hundred kilobytes of tasks, and the sessions do not fit into one answer.
    let tasks: Vec<String> = (0..1_000).map(|n| format!("{n:0>100}")).collect();
    let mut expected = HashSet::new();
    for n in 0..40 {
        let tasks = if n % 8 == 7 { Vec::new() } else { tasks.clone() };
        let session = fixture.register(NewSession { tasks, ..session("w") }).await;
        expected.insert(session.id);
        if n % 4 == 3 {
            fixture.store.end_session(session.id).await.unwrap();
        }
    }
    fixture.session("somebody else").await;
    let list = async |page_size| {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let query = SessionQuery { worker_id: Some("w".to_owned()), after, page_size };
            let page = fixture.store.sessions(&query).await.unwrap();
            let Some(last) = page.last() else { return found };
            let bytes: usize = page.iter().flat_map(|it| &it.tasks).map(String::len).sum();
            assert!(page.len() <= page_size as usize && bytes <= limits::REPLY_BYTES, "{} {bytes}", page.len());
            after = Some(SessionCursor {
                ended: last.ended_at_ms.is_some(),
                started_at_ms: last.started_at_ms,
                session_id: last.session_id,
            });
            found.extend(page);
        }
    };
    for page_size in [1, 7, 1_000] {
        let found = list(page_size).await;
        assert_eq!(found.len(), expected.len(), "none twice");
        assert_eq!(found.iter().map(|it| it.session_id).collect::<HashSet<_>>(), expected);
        let order = |it: &SessionRecord| (it.ended_at_ms.is_some(), -it.started_at_ms);
        assert!(found.is_sorted_by_key(order), "live ones first, each newest first");
    }
}

async fn a_session_is_shown_with_all_that_it_said(fixture: &StoreFixture) {
    let new = NewSession {
        worker_id: "wörker 😀".to_owned(),
        host: "höst-1.example.org".to_owned(),
        pid: i32::MAX,
        version: "1.2.3-rc.4+é".to_owned(),
        tasks: vec!["email".to_owned(), "a \"b\", c".to_owned(), "задача".to_owned()],
        slots: 10_000,
        lease_ms: 12 * HOUR_MS,
        predecessors: Vec::new(),
    };
    fixture.submit_all(jobs(&new.worker_id, 5)).await;
    let before = fixture.earliest_ms().await;
    let session = fixture.register(new.clone()).await;
    let after = fixture.now_ms().await;
    let leased = session.acquire(3).await;
    session.complete(leased[1].lease).await;
    fixture.session("somebody else").await;

    let found = fixture.sessions(Some(&new.worker_id)).await;
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!((found.session_id, &found.worker_id, &found.host), (session.id, &new.worker_id, &new.host));
    assert_eq!((found.pid, &found.version, &found.tasks), (new.pid, &new.version, &new.tasks));
    assert_eq!((found.slots, found.lease_ms, found.running), (10_000, 12 * HOUR_MS, 2));
    assert!((before..=after).contains(&found.started_at_ms));
    assert_eq!(found.expires_at_ms, found.last_heartbeat_at_ms + 12 * HOUR_MS);
    assert_eq!((found.state, found.ended_at_ms), (SessionState::Live, None));
    assert_eq!(fixture.sessions(None).await.len(), 2);
    assert_eq!(fixture.sessions(Some("nobody")).await, []);
}

async fn a_heartbeat_extends_by_the_lease_time(fixture: &StoreFixture) {
    let session = fixture.session("w").await;
    let first = fixture.sessions(None).await[0].clone();
    fixture.pass(first.last_heartbeat_at_ms + 5).await;
    let before = fixture.earliest_ms().await;
    let alive = session.beat().await.unwrap();
    let after = fixture.now_ms().await;
    assert!((before + HOUR_MS..=after + HOUR_MS).contains(&alive.expires_at_ms));
    assert_eq!(alive.stop, []);
    let found = fixture.sessions(None).await[0].clone();
    assert_eq!(found.expires_at_ms, alive.expires_at_ms);
    assert_eq!(found.expires_at_ms, found.last_heartbeat_at_ms + HOUR_MS);
    assert_eq!(found.started_at_ms, first.started_at_ms);
    assert!(found.last_heartbeat_at_ms > first.last_heartbeat_at_ms);
}

async fn heartbeats_keep_a_session_alive_beyond_its_lease(fixture: &StoreFixture) {
    fixture.submit(NewJob { max_retries: 100, ..job("w") }).await;
    // A machine that stalls for a whole lease between two heartbeats proves nothing; the test then repeats with twice
    // the time.
    for lease_ms in [200, 400, 800, 1_600, 3_200, 6_400] {
        let session = fixture.register(NewSession { lease_ms, ..session("w") }).await;
        let Some([leased]) = session.acquire_if_alive(1).await.and_then(|jobs| <[_; 1]>::try_from(jobs).ok()) else {
            fixture.rescue_until(0, 0).await;
            continue;
        };
        let until = fixture.now_ms().await + 2 * lease_ms;
        let lived = eventually("two lease times pass", async || {
            if session.beat().await.is_none() {
                return Some(false);
            }
            fixture.store.rescue(100).await.unwrap();
            (fixture.now_ms().await > until).then_some(true)
        })
        .await;
        if lived {
            assert_eq!(session.complete(leased.lease).await, SettleAnswer::Accepted(State::Done));
            return;
        }
        eventually("the job may run again", async || {
            fixture.store.rescue(100).await.unwrap();
            let job = fixture.get(leased.job.id).await;
            (job.state == State::Pending && job.run_at_ms <= fixture.now_ms().await).then_some(())
        })
        .await;
    }
    panic!("no session outlived its lease time");
}

async fn many_heartbeats_are_answered_in_order(fixture: &StoreFixture) {
    let (a, b) = (fixture.session("a").await, fixture.session("b").await);
    let ended = fixture.session("c").await;
    fixture.store.end_session(ended.id).await.unwrap();
    let ids = [b.id, Uuid::from_u128(9), ended.id, a.id, b.id];
    let beats = ids.map(|session_id| Heartbeat { session_id, draining: false });
    let answers = fixture.store.heartbeat(&beats).await.unwrap();
    let alive: Vec<_> = answers.iter().map(Option::is_some).collect();
    assert_eq!(alive, [true, false, false, true, true]);
    assert_eq!(fixture.store.heartbeat(&[]).await.unwrap(), []);
}

async fn a_session_that_ended_never_revives(fixture: &StoreFixture) {
    fixture.submit(job("w")).await;
    let session = fixture.session("w").await;
    assert_eq!(fixture.store.end_session(session.id).await.unwrap().as_deref(), Some("w"));
    for _ in 0..2 {
        assert_eq!(session.beat().await, None);
        assert!(matches!(session.acquire_any(1).await, Acquired::NoSession));
        assert_eq!(fixture.store.end_session(session.id).await.unwrap(), None);
    }
    assert_eq!(fixture.store.end_session(Uuid::from_u128(3)).await.unwrap(), None);
    let found = fixture.sessions(None).await;
    assert_eq!(found[0].state, SessionState::Ended);
    assert!(found[0].ended_at_ms.is_some());
}

async fn ending_a_session_gives_back_all_it_holds_uncharged(fixture: &StoreFixture) {
    let ids = fixture.submit_all(vec![NewJob { max_retries: 1, ..job("w") }; 150]).await;
    let session = fixture.session("w").await;
    let leased = [session.acquire(80).await, session.acquire(60).await].concat();
    assert_eq!(leased.len(), 140);
    session.complete(leased[7].lease).await;
    fixture.store.end_session(session.id).await.unwrap();
    assert_eq!(fixture.tally("w").await, [149, 0, 1, 0, 0]);
    let jobs = fixture.store.get(&ids).await.unwrap();
    for (n, job) in jobs.into_iter().enumerate() {
        let job = job.unwrap();
        if n != 7 {
            assert_eq!((job.state, job.attempts_used, job.run_no), (State::Pending, 0, u32::from(n < 140)));
        }
    }
    assert_eq!(session.complete(leased[0].lease).await, SettleAnswer::Stale);
    let again: Vec<_> = fixture.session("w").await.acquire(1_000).await.iter().map(|leased| leased.job.id).collect();
    assert_eq!(again.len(), 149);
    assert!(fixture.outcomes(ids[0]).await.iter().all(|(_, outcome)| *outcome != AttemptOutcome::Lost));
}

async fn a_draining_session_is_shown_as_draining(fixture: &StoreFixture) {
    let session = fixture.session("w").await;
    let beats = [Heartbeat { session_id: session.id, draining: true }];
    assert!(fixture.store.heartbeat(&beats).await.unwrap()[0].is_some());
    assert_eq!(fixture.sessions(None).await[0].state, SessionState::Draining);
}

async fn each_session_learns_only_of_its_own_leases(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 4)).await;
    let (a, b) = (fixture.session("w").await, fixture.session("w").await);
    let (of_a, of_b) = (a.acquire(2).await, b.acquire(2).await);
    fixture.store.cancel(&[ids[0], ids[3]], "").await.unwrap();
    let stopped = |lease| vec![Stopped { lease, reason: StopReason::Cancelled }];
    let beats = [a.id, b.id].map(|session_id| Heartbeat { session_id, draining: false });
    let answers = fixture.store.heartbeat(&beats).await.unwrap();
    let stops: Vec<_> = answers.into_iter().map(|alive| alive.unwrap().stop).collect();
    assert_eq!(stops, [stopped(of_a[0].lease), stopped(of_b[1].lease)]);
}

async fn the_heartbeat_goes_on_naming_a_lease_until_the_session_ends(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let session = fixture.session("w").await;
    let lease = session.acquire_one().await.lease;
    fixture.store.cancel(&[id], "").await.unwrap();
    // The answer to a heartbeat can be lost.
    for _ in 0..2 {
        assert_eq!(session.beat().await.unwrap().stop, [Stopped { lease, reason: StopReason::Cancelled }]);
    }
}

async fn counts_tell_how_many_sessions_live(fixture: &StoreFixture) {
    assert_eq!(fixture.counts("w").await.sessions, 0);
    let a = fixture.session("w").await;
    fixture.session("w").await;
    fixture.session("other").await;
    assert_eq!(fixture.counts("w").await.sessions, 2);
    fixture.store.end_session(a.id).await.unwrap();
    assert_eq!(fixture.counts("w").await.sessions, 1);
    assert_eq!(fixture.counts("other").await.sessions, 1);
}
