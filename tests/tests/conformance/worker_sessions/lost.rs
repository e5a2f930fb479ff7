//! Jobs of a lost worker are pending again soon, and only those that it had started are charged.

use std::{collections::HashSet, sync::Arc};

use futures::future::join_all;
use jobqueue_shared::{
    limits,
    retry::RetryPolicy,
    state::{FailureReason, State},
};
use jobqueue_store::{AttemptOutcome, NewJob, NewSession, Rescued, SessionState, SettleAnswer};
use jobqueue_tests::poll::eventually;
use uuid::Uuid;

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, NO_DELAY, StoreFixture, job, jobs, keyed, session},
};

scenarios!(
    nothing_is_rescued_while_its_session_lives,
    a_lost_job_is_pending_again_within_a_second,
    only_what_was_started_is_charged,
    the_started_ones_are_the_first_in_the_order_they_were_taken,
    what_was_handed_out_first_counts_as_started_whatever_its_id,
    a_session_with_very_many_jobs_is_charged_for_its_first_ones_over_all_batches,
    thousands_of_sessions_are_rescued_in_few_turns,
    thousands_of_late_attempts_are_taken_back_in_batches,
    a_second_loss_waits_as_the_policy_says,
    a_poison_job_becomes_a_dead_letter,
    a_mass_loss_does_not_wake_in_lockstep,
    rescue_comes_in_batches_and_says_that_there_is_more,
    a_page_of_long_running_jobs_does_not_starve_the_rescue_of_others,
    one_odd_job_never_blocks_the_rescue_of_others,
    a_task_that_nobody_knows_is_never_thrown_away,
    what_a_lost_session_says_is_refused,
    a_restart_is_a_new_session_that_has_nothing_of_the_old_one,
    an_acquire_that_races_with_the_end_of_its_session_loses_no_job,
    rescue_on_many_servers_at_once_takes_each_job_once,
    rescue_of_nothing_does_nothing,
    an_outage_of_all_servers_extends_the_leases_that_were_live_when_it_began,
);

async fn an_outage_of_all_servers_extends_the_leases_that_were_live_when_it_began(fixture: &StoreFixture) {
    let [live, dead] = [fixture.session("w").await, fixture.session("w").await];
    // The outage lasted a minute. The first session had half a minute of its lease left when it began; the second one's
    // was over.
    let arrange = |now: &str, hex: &str| {
        let id = |session: &crate::session_client::Session| format!("{hex}'{}'", session.id.simple());
        format!(
            "UPDATE sessions SET expires_at = {now} - 30000 WHERE id = {};
             UPDATE sessions SET expires_at = {now} - 90000 WHERE id = {};
             UPDATE heard_until SET until = {now} - 60000;",
            id(&live),
            id(&dead),
        )
    };
    fixture.sql(&arrange(&fixture.now_ms().await.to_string(), "x"), &arrange("now_ms()", "")).await;
    // The acquire returns no job, and no error that would end the worker, since no server may have received its
    // heartbeats.
    assert!(live.acquire(1).await.is_empty());
    let outage = fixture.store.note_heard().await.unwrap();
    assert!((59_000..HOUR_MS).contains(&outage), "{outage}");
    let rescued = fixture.store.rescue(100).await.unwrap();
    assert_eq!(rescued.sessions, 1);
    assert_eq!(fixture.session_state(dead.id).await, SessionState::Lost);
    assert_eq!(fixture.session_state(live.id).await, SessionState::Live);
    let expires_at_ms = fixture.store.session(live.id).await.unwrap().unwrap().session.expires_at_ms;
    let left = expires_at_ms - fixture.now_ms().await;
    assert!((1_000..=31_000).contains(&left), "as much as before the outage, and not {left} ms");
    assert_eq!(fixture.store.note_heard().await.unwrap(), 0, "counted once");
}

fn slots(worker_id: &str, slots: u32) -> NewSession {
    NewSession { slots, ..session(worker_id) }
}

async fn nothing_is_rescued_while_its_session_lives(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 10)).await;
    let session = fixture.session("w").await;
    session.acquire(5).await;
    for _ in 0..3 {
        assert_eq!(fixture.store.rescue(100).await.unwrap(), Rescued::default());
    }
    assert_eq!(fixture.tally("w").await, [5, 5, 0, 0, 0]);
    assert!(session.beat().await.is_some());
}

async fn a_lost_job_is_pending_again_within_a_second(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { retry: None, ..job("w") }).await;
    let (lost, leased) = fixture.expiring_session(session("w"), 1).await;
    assert_eq!(leased.len(), 1);
    let before = fixture.earliest_ms().await;
    let rescued = fixture.rescue_until(1, 0).await;
    let after = fixture.now_ms().await;
    assert_eq!(rescued.worker_ids, ["w"]);
    assert!(rescued.sessions >= 1);
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.run_no, job.attempts_used), (State::Pending, 1, 1));
    assert!((before..=after + 1_000).contains(&job.run_at_ms), "{} after {before}", job.run_at_ms - before);
    let [attempt] = &fixture.attempts(id).await[..] else { panic!() };
    assert_eq!((attempt.outcome, attempt.session_id), (AttemptOutcome::Lost, Some(lost.id)));
    assert_eq!((attempt.host.as_str(), attempt.started_at_ms), ("host-1", leased[0].job.started_at_ms));
    assert_ne!(attempt.error, "", "it says why");
    assert_eq!(job.last_error, attempt.error);
    let next = fixture.session("w").await.acquire_when_due().await;
    assert_eq!((next.job.id, next.job.run_no, next.job.attempts_used), (id, 2, 2));
}

async fn only_what_was_started_is_charged(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 10)).await;
    let (lost, leased) = fixture.expiring_session(slots("w", 3), 8).await;
    assert_eq!(leased.len(), 8);
    // A job that was settled before is not lost, and does not count as one of the started.
    let settled = lost.complete(leased[0].lease).await;
    let open = if settled == SettleAnswer::Accepted(State::Done) { 7 } else { 8 };
    fixture.rescue_until(open, 0).await;
    let mut charged = Vec::new();
    for id in &ids[8 - open as usize..8] {
        let job = fixture.get(*id).await;
        assert_eq!((job.state, job.run_no), (State::Pending, 1));
        charged.push(job.attempts_used);
        if job.attempts_used == 0 {
            assert!(job.run_at_ms <= fixture.now_ms().await, "it goes back at once");
            assert_eq!(job.last_error, "", "nothing went wrong with it");
        }
    }
    assert_eq!(charged[..3], [1, 1, 1]);
    assert!(charged[3..].iter().all(|used| *used == 0), "{charged:?}");
}

async fn the_started_ones_are_the_first_in_the_order_they_were_taken(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 200)).await;
    // The jobs are so many that they are in several claims, acquired by two calls.
    let (session, leased) = fixture.expiring_session(slots("w", 140), 90).await;
    let more = session.acquire_if_alive(90).await.unwrap_or_default();
    assert_eq!(leased.len(), 90);
    let held = leased.len() + more.len();
    fixture.rescue_until(held as u64, 0).await;
    let jobs = fixture.store.get(&ids[..held]).await.unwrap();
    let used: Vec<_> = jobs.into_iter().map(|job| job.unwrap().attempts_used).collect();
    let expected: Vec<_> = (0..held).map(|n| u32::from(n < 140)).collect();
    assert_eq!(used, expected);
}

async fn what_was_handed_out_first_counts_as_started_whatever_its_id(fixture: &StoreFixture) {
    let mut ids = Vec::new();
    for priority in [9, 7, 5, 3, 1] {
        ids.push(fixture.submit(NewJob { priority, ..job("w") }).await);
    }
    let (_, leased) = fixture.expiring_session(slots("w", 2), 5).await;
    assert_eq!(leased.iter().map(|leased| leased.job.id).collect::<Vec<_>>(), [ids[4], ids[3], ids[2], ids[1], ids[0]]);
    fixture.rescue_until(5, 0).await;
    let jobs = fixture.store.get(&ids).await.unwrap();
    let used: Vec<_> = jobs.into_iter().map(|job| job.unwrap().attempts_used).collect();
    assert_eq!(used, [0, 0, 0, 1, 1]);
}

/// Number of attempts that each job has used.
async fn charged(fixture: &StoreFixture, ids: &[Uuid]) -> Vec<u32> {
    let mut used = Vec::new();
    for ids in ids.chunks(500) {
        used.extend(fixture.store.get(ids).await.unwrap().into_iter().map(|job| job.unwrap().attempts_used));
    }
    used
}

async fn a_session_with_very_many_jobs_is_charged_for_its_first_ones_over_all_batches(fixture: &StoreFixture) {
    const HELD: usize = 3_000;
    let ids = fixture.submit_all(jobs("w", HELD)).await;
    let holder = fixture.register(slots("w", 1_100)).await;
    for _ in 0..3 {
        assert_eq!(holder.acquire(1_000).await.len(), 1_000);
    }
    fixture.sql("UPDATE sessions SET expires_at = 1", "UPDATE sessions SET expires_at = 1").await;
    let first = fixture.store.rescue(200).await.unwrap();
    assert_eq!(first.sessions, 1);
    assert_eq!(holder.beat().await, None, "it is over at once");
    let mut batches = vec![first.lost];
    let mut more = first.more;
    while more {
        let rescued = fixture.store.rescue(200).await.unwrap();
        assert_eq!(rescued.sessions, 0, "it ends once");
        batches.push(rescued.lost);
        more = rescued.more;
    }
    assert_eq!(batches.iter().sum::<u64>(), HELD as u64);
    assert!(batches.iter().all(|lost| *lost < 300), "about 200 in a transaction: {batches:?}");
    let expected: Vec<_> = (0..HELD).map(|n| u32::from(n < 1_100)).collect();
    assert_eq!(charged(fixture, &ids).await, expected);
    assert_eq!(fixture.tally("w").await, [HELD as u64, 0, 0, 0, 0]);
}

async fn thousands_of_sessions_are_rescued_in_few_turns(fixture: &StoreFixture) {
    const SESSIONS: usize = 3_000;
    let ids = fixture.submit_all(jobs("w", 40)).await;
    for _ in 0..20 {
        assert_eq!(fixture.session("w").await.acquire(2).await.len(), 2);
    }
    // Further sessions, without jobs, up to [`SESSIONS`].
    let columns = "worker_id, host, pid, version, tasks, slots, lease, started_at, heartbeat_at, expires_at, draining, ended_at, lost";
    fixture
        .sql(
            &format!(
                "INSERT INTO sessions (id, {columns})
             WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {SESSIONS} - 20)
             SELECT randomblob(16), s.worker_id, host, pid, version, tasks, slots, lease, started_at, heartbeat_at,
                    expires_at, draining, ended_at, lost
             FROM (SELECT * FROM sessions LIMIT 1) AS s, n;
             UPDATE sessions SET expires_at = 1"
            ),
            &format!(
                "INSERT INTO sessions (id, {columns})
             SELECT gen_random_uuid(), {columns}
             FROM (SELECT * FROM sessions LIMIT 1) AS s, generate_series(1, {SESSIONS} - 20);
             UPDATE sessions SET expires_at = 1"
            ),
        )
        .await;
    let (mut turns, mut sessions, mut lost) = (0, 0, 0);
    loop {
        let rescued = fixture.store.rescue(1_000).await.unwrap();
        (turns, sessions, lost) = (turns + 1, sessions + rescued.sessions, lost + rescued.lost);
        if !rescued.more {
            break;
        }
    }
    assert_eq!((sessions, lost), (SESSIONS as u64, 40));
    assert!(turns <= 5, "{turns} turns");
    assert_eq!(charged(fixture, &ids).await, [1; 40]);
}

async fn thousands_of_late_attempts_are_taken_back_in_batches(fixture: &StoreFixture) {
    fixture.submit_all(vec![NewJob { attempt_timeout_ms: Some(1), ..job("w") }; 2_000]).await;
    // Attempts that are in time lie between them, and no batch may stop at one.
    fixture.submit_all(vec![NewJob { attempt_timeout_ms: Some(HOUR_MS), ..job("x") }; 100]).await;
    let (late, in_time) = (fixture.session("w").await, fixture.session("x").await);
    for _ in 0..2 {
        assert_eq!(late.acquire(1_000).await.len(), 1_000);
        assert_eq!(in_time.acquire(50).await.len(), 50);
    }
    fixture.pass(fixture.now_ms().await + 1).await;
    let mut batches = Vec::new();
    loop {
        let rescued = fixture.store.rescue(300).await.unwrap();
        batches.push(rescued.timed_out);
        if !rescued.more {
            break;
        }
    }
    assert_eq!(batches.iter().sum::<u64>(), 2_000, "{batches:?}");
    assert!(batches.iter().all(|late| *late < 400), "about 300 in a transaction: {batches:?}");
    assert_eq!(fixture.tally("x").await, [0, 100, 0, 0, 0]);
}

async fn a_second_loss_waits_as_the_policy_says(fixture: &StoreFixture) {
    let policy = RetryPolicy { initial_ms: HOUR_MS, factor: 2.0, max_ms: 10 * HOUR_MS, jitter: 0.0 };
    let id = fixture.submit(NewJob { retry: Some(policy), max_retries: 3, ..job("w") }).await;
    fixture.expiring_session(session("w"), 1).await;
    fixture.rescue_until(1, 0).await;
    eventually("it is taken again", async || {
        let (_, leased) = fixture.expiring_session(session("w"), 1).await;
        (!leased.is_empty()).then_some(())
    })
    .await;
    let before = fixture.earliest_ms().await;
    fixture.rescue_until(1, 0).await;
    let after = fixture.now_ms().await;
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.attempts_used), (State::Pending, 2));
    assert!((before + 2 * HOUR_MS..=after + 2 * HOUR_MS).contains(&job.run_at_ms));
}

async fn a_poison_job_becomes_a_dead_letter(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 2, ..job("w") }).await;
    for n in 1..=2 {
        assert_eq!(fixture.state(id).await, State::Pending, "before loss {n}");
        eventually("it is taken", async || {
            let (_, leased) = fixture.expiring_session(session("w"), 1).await;
            (!leased.is_empty()).then_some(())
        })
        .await;
        fixture.rescue_until(1, 0).await;
    }
    let job = fixture.get(id).await;
    assert_eq!((job.state, job.failure), (State::Failed, Some(FailureReason::WorkerLost)));
    assert_eq!((job.attempts_used, job.run_no), (2, 2));
    assert_ne!(job.last_error, "");
    assert_eq!(fixture.outcomes(id).await, [(2, AttemptOutcome::Lost), (1, AttemptOutcome::Lost)]);
    assert_eq!(fixture.tally("w").await, [0, 0, 0, 1, 0]);
    assert!(fixture.session("w").await.acquire(1).await.is_empty(), "it kills no further worker");
}

async fn a_mass_loss_does_not_wake_in_lockstep(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 50)).await;
    let (_, leased) = fixture.expiring_session(slots("w", 50), 50).await;
    assert_eq!(leased.len(), 50);
    let before = fixture.earliest_ms().await;
    fixture.rescue_until(50, 0).await;
    let after = fixture.now_ms().await;
    let mut moments = HashSet::new();
    for job in fixture.store.get(&ids).await.unwrap() {
        let run_at_ms = job.unwrap().run_at_ms;
        assert!((before..=after + 1_000).contains(&run_at_ms), "{} after {before}", run_at_ms - before);
        moments.insert(run_at_ms / 50);
    }
    assert!(moments.len() >= 5, "50 jobs start again within {} moments of 50 ms", moments.len());
}

async fn rescue_comes_in_batches_and_says_that_there_is_more(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 600)).await;
    let mut held = 0;
    for _ in 0..6 {
        held += fixture.expiring_session(slots("w", 100), 100).await.1.len();
    }
    assert_eq!(held, 600);
    eventually("every lease has run out", async || {
        let sessions = fixture.sessions(None).await;
        sessions.iter().all(|session| session.state == SessionState::Expired).then_some(())
    })
    .await;
    let mut batches = Vec::new();
    loop {
        let rescued = fixture.store.rescue(20).await.unwrap();
        batches.push(rescued.lost);
        if !rescued.more {
            break;
        }
    }
    assert_eq!(batches.iter().sum::<u64>(), 600, "{batches:?}");
    assert!(batches.len() >= 3, "about 20 at once: {batches:?}");
    assert_eq!(fixture.tally("w").await, [600, 0, 0, 0, 0]);
}

async fn a_page_of_long_running_jobs_does_not_starve_the_rescue_of_others(fixture: &StoreFixture) {
    fixture.submit_all(jobs("long", 300)).await;
    for _ in 0..10 {
        assert_eq!(fixture.session("long").await.acquire(30).await.len(), 30);
    }
    let id = fixture.submit(job("w")).await;
    fixture.expiring_session(session("w"), 1).await;
    eventually("it is rescued", async || (fixture.store.rescue(1).await.unwrap().lost == 1).then_some(())).await;
    assert_eq!(fixture.state(id).await, State::Pending);
    assert_eq!(fixture.tally("long").await, [0, 300, 0, 0, 0]);
}

async fn one_odd_job_never_blocks_the_rescue_of_others(fixture: &StoreFixture) {
    let extreme = RetryPolicy { initial_ms: limits::DELAY_MS, factor: 100.0, max_ms: limits::DELAY_MS, jitter: 1.0 };
    let odd = vec![
        job("w"),
        NewJob { retry: Some(extreme), max_retries: limits::MAX_RETRIES, ..job("w") },
        NewJob { max_retries: 0, ..job("w") },
        NewJob { task: "\u{1f980}".repeat(25), payload: format!("\"{}\"", "\u{10ffff}".repeat(100_000)), ..job("w") },
        NewJob { attempt_timeout_ms: Some(1), ..job("w") },
        NewJob { attempt_timeout_ms: Some(limits::DELAY_MS), ..keyed("w", &"k".repeat(255), 1) },
        job("w"),
        job("w"),
    ];
    let ids = fixture.submit_all(odd).await;
    let (_, leased) = fixture.expiring_session(session("w"), 10).await;
    assert_eq!(leased.len(), ids.len());
    fixture.store.cancel(&[ids[6]], "").await.unwrap();
    fixture.store.delete(&[ids[6]]).await.unwrap();
    eventually("all the others are rescued", async || {
        fixture.store.rescue(1_000).await.unwrap();
        (fixture.tally("w").await[1] == 0).then_some(())
    })
    .await;
    for (n, id) in ids.iter().enumerate() {
        let state = fixture.find(*id).await.map(|job| job.state);
        let expected = match n {
            2 => Some(State::Failed),
            6 => None,
            _ => Some(State::Pending),
        };
        assert_eq!(state, expected, "job {n}");
    }
}

async fn a_task_that_nobody_knows_is_never_thrown_away(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { task: "nobody knows it".to_owned(), ..job("w") }).await;
    fixture.expiring_session(session("w"), 1).await;
    fixture.rescue_until(1, 0).await;
    assert_eq!(fixture.state(id).await, State::Pending);
    let leased = fixture.session("w").await.acquire_when_due().await;
    assert_eq!(leased.job.task, "nobody knows it");
}

async fn what_a_lost_session_says_is_refused(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 2)).await;
    let (lost, leased) = fixture.expiring_session(slots("w", 1), 2).await;
    fixture.rescue_until(2, 0).await;
    assert_eq!(lost.beat().await, None);
    let before = [fixture.get(ids[0]).await, fixture.get(ids[1]).await];
    for leased in &leased {
        assert_eq!(lost.complete(leased.lease).await, SettleAnswer::Stale);
        assert_eq!(lost.fail(leased.lease, "late").await, SettleAnswer::Stale);
        assert_eq!(lost.complete(leased.lease).await, SettleAnswer::Stale);
    }
    assert_eq!([fixture.get(ids[0]).await, fixture.get(ids[1]).await], before);
    assert_eq!((fixture.refusals(ids[0]).await, fixture.refusals(ids[1]).await), (1, 1));
    assert_eq!(fixture.store.end_session(lost.id).await.unwrap(), None);
}

async fn a_restart_is_a_new_session_that_has_nothing_of_the_old_one(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 3)).await;
    let (old, leased) = fixture.expiring_session(session("w"), 2).await;
    // The new session has the old one's name, host and pid, as in a container that was started again.
    let new = fixture.session("w").await;
    assert_ne!(old.id, new.id);
    assert_eq!(new.complete(leased[0].lease).await, SettleAnswer::Stale);
    assert_eq!(new.acquire_one().await.job.id, ids[2], "what the old run holds is not handed out again");
    assert_eq!(new.beat().await.unwrap().stop, [], "nor is it the new one's to stop");
    // The new session's heartbeats do not keep the old one's orphans alive.
    let mut lost = 0;
    eventually("the old run's jobs are rescued", async || {
        new.beat().await.unwrap();
        lost += fixture.store.rescue(100).await.unwrap().lost;
        (lost == 2).then_some(())
    })
    .await;
    assert_eq!(old.complete(leased[0].lease).await, SettleAnswer::Stale);
    assert_eq!(fixture.states(&ids).await, [State::Pending, State::Pending, State::Running]);
    assert_eq!(new.acquire_when_due().await.job.run_no, 2);
}

async fn an_acquire_that_races_with_the_end_of_its_session_loses_no_job(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    fixture.submit_all(jobs("w", 100)).await;
    for round in 0..20_u32 {
        let session = fixture.session("w").await;
        let (racer, ender) = (session.on(&second), Arc::clone(&fixture.store));
        let acquire = tokio::spawn(async move { racer.acquire_if_alive(5).await });
        let end = tokio::spawn(async move { ender.end_session(session.id).await.unwrap() });
        acquire.await.unwrap();
        end.await.unwrap();
        // Whichever was first, an ended session holds no job after one rescue.
        fixture.store.rescue(1_000).await.unwrap();
        assert_eq!(fixture.tally("w").await, [100, 0, 0, 0, 0], "round {round}");
    }
}

async fn rescue_on_many_servers_at_once_takes_each_job_once(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    let ids = fixture.submit_all(vec![NewJob { retry: Some(NO_DELAY), max_retries: 5, ..job("w") }; 120]).await;
    for _ in 0..4 {
        assert_eq!(fixture.expiring_session(slots("w", 30), 30).await.1.len(), 30);
    }
    let mut lost = 0;
    eventually("all is rescued", async || {
        let rescuers = (0..4).map(|n| {
            let store = Arc::clone(if n % 2 == 0 { &fixture.store } else { &second });
            tokio::spawn(async move { store.rescue(50).await.unwrap().lost })
        });
        lost += join_all(rescuers).await.into_iter().map(Result::unwrap).sum::<u64>();
        (fixture.tally("w").await[1] == 0).then_some(())
    })
    .await;
    assert_eq!(lost, 120);
    for job in fixture.store.get(&ids).await.unwrap() {
        let job = job.unwrap();
        assert_eq!((job.state, job.attempts_used, job.run_no), (State::Pending, 1, 1));
    }
}

async fn rescue_of_nothing_does_nothing(fixture: &StoreFixture) {
    assert_eq!(fixture.store.rescue(100).await.unwrap(), Rescued::default());
    let (_, leased) = fixture.expiring_session(session("w"), 5).await;
    assert!(leased.is_empty());
    fixture.rescue_until(0, 0).await;
    eventually("the session is seen to be lost", async || {
        fixture.store.rescue(100).await.unwrap();
        let sessions = fixture.sessions(Some("w")).await;
        sessions.iter().all(|session| session.state == SessionState::Lost).then_some(())
    })
    .await;
}
