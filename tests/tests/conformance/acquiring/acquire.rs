//! Acquires: which jobs they return, in which order, and how many.

use std::collections::{HashMap, HashSet};

use futures::future::join_all;
use jobqueue_shared::{
    limits,
    retry::RetryPolicy,
    state::{Ending, State},
};
use jobqueue_store::{Acquired, NewJob, SettleAnswer, Start};
use jobqueue_tests::poll::eventually;
use uuid::Uuid;

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, StoreFixture, insert_on, job, jobs},
};

scenarios!(
    jobs_come_by_priority_then_time_then_id,
    a_leased_job_says_what_its_attempt_is,
    jobs_that_wait_for_their_time_never_run_early,
    a_job_runs_once_its_time_has_come,
    a_job_that_falls_due_while_it_is_looked_for_does_not_start_before_its_time,
    an_empty_answer_tells_when_to_ask_again,
    a_job_of_better_priority_that_comes_late_is_taken_first,
    a_session_gets_the_jobs_of_its_worker_id_only,
    worker_ids_are_runnable_while_a_job_of_theirs_can_run_and_they_are_not_paused,
    the_same_acquire_no_gives_what_is_still_open_of_the_first_answer,
    an_acquire_that_was_answered_empty_stays_repeatable,
    one_acquire_no_asked_by_many_at_once_gives_one_answer,
    a_session_that_is_unknown_or_has_ended_gets_nothing,
    racing_sessions_get_each_job_exactly_once,
    nobody_gets_more_than_was_asked_for,
    an_answer_ends_at_three_mebibytes_but_holds_at_least_one_job,
    a_session_holds_no_more_than_its_limit,
    a_session_holds_no_more_than_its_limit_however_many_calls_ask_at_once,
);

async fn jobs_come_by_priority_then_time_then_id(fixture: &StoreFixture) {
    let now = fixture.now_ms().await;
    let mut new = Vec::new();
    for priority in [9, 5, 0, 7, 5, 0] {
        for run_at_ms in [now - 1_000, now - HOUR_MS, now - 1_000, now - 5] {
            new.push(NewJob { priority, start: Start::At { run_at_ms }, ..job("w") });
        }
    }
    let ids = fixture.submit_all(new.clone()).await;
    let mut expected: Vec<_> = ids.iter().zip(&new).map(|(id, new)| (new.priority, new.start, *id)).collect();
    expected.sort_by_key(|&(priority, start, id)| {
        let Start::At { run_at_ms } = start else { unreachable!() };
        (priority, run_at_ms, id)
    });
    let expected: Vec<_> = expected.into_iter().map(|(_, _, id)| id).collect();
    let session = fixture.session("w").await;
    let mut taken = Vec::new();
    for max_jobs in [1, 4, 5, 100] {
        taken.extend(session.acquire(max_jobs).await.iter().map(|leased| leased.job.id));
    }
    assert_eq!(taken, expected);
}

async fn worker_ids_are_runnable_while_a_job_of_theirs_can_run_and_they_are_not_paused(fixture: &StoreFixture) {
    let asked = ["idle", "later", "paused", "taken", "two", "urgent"].map(str::to_owned);
    let runnable = async || {
        let mut found = fixture.store.runnable(&asked).await.unwrap();
        found.sort_unstable();
        found
    };
    assert_eq!(runnable().await, [""; 0]);
    fixture.submit(NewJob { start: Start::After { delay_ms: HOUR_MS }, ..job("later") }).await;
    fixture.submit(job("paused")).await;
    fixture.store.pause("paused", "").await.unwrap();
    fixture.submit(NewJob { priority: 9, ..job("two") }).await;
    fixture.submit(NewJob { priority: 0, ..job("urgent") }).await;
    fixture.submit(job("nobody waits for it")).await;
    fixture.submit(job("taken")).await;
    let session = fixture.session("taken").await;
    session.acquire_one().await;
    assert_eq!(runnable().await, ["two", "urgent"]);
    // Below what another server took, and above it: both are found.
    let other = fixture.second_store().await;
    for priority in [0, 5, 9] {
        insert_on(&*other, vec![NewJob { priority, ..job("taken") }]).await;
        assert_eq!(runnable().await, ["taken", "two", "urgent"], "{priority}");
        session.acquire_one().await;
        assert_eq!(runnable().await, ["two", "urgent"]);
    }
    fixture.store.resume("paused").await.unwrap();
    assert_eq!(runnable().await, ["paused", "two", "urgent"]);
}

async fn a_leased_job_says_what_its_attempt_is(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { attempt_timeout_ms: Some(HOUR_MS), ..job("w") }).await;
    let session = fixture.session("w").await;
    let before = fixture.earliest_ms().await;
    let Acquired::Jobs { worker_id, jobs, .. } = session.acquire_any(5).await else { panic!() };
    let after = fixture.now_ms().await;
    let [leased] = &jobs[..] else { panic!("{jobs:?}") };
    assert_eq!((worker_id.as_str(), leased.lease.job_id), ("w", id));
    let started_at_ms = leased.job.started_at_ms.unwrap();
    assert!((before..=after).contains(&started_at_ms), "{before} {started_at_ms} {after}");
    assert_eq!(leased.deadline_ms, Some(started_at_ms + HOUR_MS));
    let read = fixture.get(id).await;
    for job in [&leased.job, &read] {
        assert_eq!((job.state, job.run_no, job.attempts_used), (State::Running, 1, 1));
        assert_eq!((job.session_id, job.started_at_ms), (Some(session.id), Some(started_at_ms)));
        assert_eq!(job.finished_at_ms, None);
    }
    assert_eq!(read, leased.job);
    assert_eq!(fixture.tally("w").await, [0, 1, 0, 0, 0]);
}

async fn jobs_that_wait_for_their_time_never_run_early(fixture: &StoreFixture) {
    let session = fixture.session("w").await;
    let slow = RetryPolicy { initial_ms: HOUR_MS, factor: 1.0, max_ms: HOUR_MS, jitter: 0.0 };
    // Each kind of waiting, with and without a task, at the best priority.
    let mut waiting = HashSet::new();
    for task in ["", "email", "report"] {
        let new = NewJob { task: task.to_owned(), priority: 0, retry: Some(slow), ..job("w") };
        let endings = [
            Ending::Fail { permanent: false, retry_after_ms: None },
            Ending::Fail { permanent: false, retry_after_ms: Some(HOUR_MS) },
            Ending::Snooze { delay_ms: HOUR_MS },
        ];
        for ending in endings {
            waiting.insert(fixture.submit(new.clone()).await);
            let leased = session.acquire_one().await;
            assert_eq!(session.end(leased.lease, ending).await, SettleAnswer::Accepted(State::Pending));
        }
        waiting.insert(fixture.submit(NewJob { start: Start::After { delay_ms: HOUR_MS }, ..new.clone() }).await);
        let run_at_ms = fixture.now_ms().await + HOUR_MS;
        waiting.insert(fixture.submit(NewJob { start: Start::At { run_at_ms }, ..new }).await);
    }
    let may_run = fixture.submit(NewJob { priority: 9, ..job("w") }).await;
    let taken: Vec<_> = session.acquire(1_000).await.iter().map(|leased| leased.job.id).collect();
    assert_eq!(taken, [may_run]);
    assert!(session.acquire(1_000).await.is_empty());
    for id in waiting {
        let job = fixture.get(id).await;
        assert_eq!(job.state, State::Pending);
        assert!(job.run_at_ms > fixture.now_ms().await + HOUR_MS / 2, "{job:?}");
    }
}

async fn a_job_runs_once_its_time_has_come(fixture: &StoreFixture) {
    let delays = [150, 50, 250, 100, 200, 1];
    let new = delays.map(|delay_ms| NewJob { start: Start::After { delay_ms }, ..job("w") });
    let mut waiting: HashSet<_> = fixture.submit_all(new.to_vec()).await.into_iter().collect();
    let session = fixture.session("w").await;
    eventually("every job runs", async || {
        for leased in session.acquire(10).await {
            let now = fixture.now_ms().await;
            assert!(leased.job.run_at_ms <= now, "at {now}: {leased:?}");
            assert!(leased.job.started_at_ms.unwrap() >= leased.job.run_at_ms, "{leased:?}");
            assert!(waiting.remove(&leased.job.id));
        }
        waiting.is_empty().then_some(())
    })
    .await;
}

/// Acquires after so many jobs that a short answer is followed by a second scan, below the cursor.
async fn a_job_that_falls_due_while_it_is_looked_for_does_not_start_before_its_time(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 1_500)).await;
    let session = fixture.session("w").await;
    while !session.acquire(1_000).await.is_empty() {}
    let new = (0..400).map(|n| NewJob { start: Start::After { delay_ms: 50 + n }, ..job("w") });
    let mut waiting: HashSet<_> = fixture.submit_all(new.collect()).await.into_iter().collect();
    while !waiting.is_empty() {
        for leased in session.acquire(1_000).await {
            assert!(leased.job.started_at_ms.unwrap() >= leased.job.run_at_ms, "{leased:?}");
            assert!(waiting.remove(&leased.job.id));
        }
    }
}

async fn an_empty_answer_tells_when_to_ask_again(fixture: &StoreFixture) {
    let session = fixture.session("w").await;
    let hint = async || match session.acquire_any(1).await {
        Acquired::Jobs { jobs, next_run_at_ms, .. } if jobs.is_empty() => next_run_at_ms,
        other => panic!("{other:?}"),
    };
    assert_eq!(hint().await, None);
    let other = NewJob { start: Start::After { delay_ms: 60_000 }, ..job("somebody else") };
    fixture.submit(other).await;
    assert_eq!(hint().await, None);
    // The earliest time counts, whatever the priority.
    for (priority, delay_ms) in [(0, 3 * HOUR_MS), (5, 2 * HOUR_MS), (9, HOUR_MS), (5, 4 * HOUR_MS)] {
        let start = Start::After { delay_ms };
        let id = fixture.submit(NewJob { priority, start, ..job("w") }).await;
        let next = hint().await.unwrap();
        if delay_ms != 4 * HOUR_MS {
            assert_eq!(next, fixture.get(id).await.run_at_ms);
        }
    }
}

async fn a_job_of_better_priority_that_comes_late_is_taken_first(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 20)).await;
    let session = fixture.session("w").await;
    session.acquire(5).await;
    let urgent = fixture.submit(NewJob { priority: 1, ..job("w") }).await;
    assert_eq!(session.acquire(1).await[0].job.id, urgent);
    // A job whose time is before that of the jobs taken already is found, too.
    let run_at_ms = fixture.now_ms().await - HOUR_MS;
    let older = fixture.submit(NewJob { start: Start::At { run_at_ms }, ..job("w") }).await;
    assert_eq!(session.acquire(1).await[0].job.id, older);
    assert_eq!(session.acquire(100).await.len(), 15);
}

async fn a_session_gets_the_jobs_of_its_worker_id_only(fixture: &StoreFixture) {
    let worker_ids = ["w", "W", "w ", "w%", "w_", "w1", "ww", "\u{e9}", "e\u{301}"];
    let mut ids = HashMap::new();
    for worker_id in worker_ids {
        ids.insert(worker_id, fixture.submit(job(worker_id)).await);
    }
    for worker_id in worker_ids {
        let session = fixture.session(worker_id).await;
        let leased = session.acquire_one().await;
        assert_eq!((leased.job.id, leased.job.worker_id.as_str()), (ids[worker_id], worker_id));
    }
}

async fn the_same_acquire_no_gives_what_is_still_open_of_the_first_answer(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 200)).await;
    let session = fixture.session("w").await;
    let again = async |acquire_no| match session.acquire_numbered(acquire_no, 1).await {
        Acquired::Jobs { jobs, .. } => jobs.iter().map(|leased| (leased.lease, leased.job.clone())).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let Acquired::Jobs { jobs: first, .. } = session.acquire_numbered(7, 100).await else { panic!() };
    assert_eq!(first.len(), 100);
    let mut open: Vec<_> = first.iter().map(|leased| (leased.lease, leased.job.clone())).collect();
    assert_eq!(again(7).await, open);

    session.complete(open.remove(99).0).await;
    session.fail(open.remove(70).0, "no").await;
    session.release(open.remove(0).0).await;
    fixture.store.cancel(&[open.remove(10).1.id], "").await.unwrap();
    assert_eq!(again(7).await, open);

    let next = again(8).await;
    assert_eq!(next.len(), 1);
    assert!(open.iter().all(|(_, job)| job.id != next[0].1.id));
    assert_eq!(again(7).await, open);
}

async fn an_acquire_that_was_answered_empty_stays_repeatable(fixture: &StoreFixture) {
    let session = fixture.session("w").await;
    assert!(matches!(session.acquire_numbered(1, 5).await, Acquired::Jobs { jobs, .. } if jobs.is_empty()));
    let id = fixture.submit(job("w")).await;
    let Acquired::Jobs { jobs, .. } = session.acquire_numbered(1, 5).await else { panic!() };
    assert_eq!(jobs.iter().map(|leased| leased.job.id).collect::<Vec<_>>(), [id]);
}

async fn one_acquire_no_asked_by_many_at_once_gives_one_answer(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    fixture.submit_all(jobs("w", 100)).await;
    for acquire_no in 1..=5 {
        let session = fixture.session("w").await;
        let askers = (0..8).map(|n| {
            let session = session.on(if n % 2 == 0 { &fixture.store } else { &second });
            tokio::spawn(async move { session.acquire_numbered(acquire_no, 10).await })
        });
        let mut answers = HashSet::new();
        for answer in join_all(askers).await {
            let Acquired::Jobs { jobs, .. } = answer.unwrap() else { panic!() };
            assert_eq!(jobs.len(), 10);
            answers.insert(jobs.iter().map(|leased| leased.lease).collect::<Vec<_>>());
        }
        assert_eq!(answers.len(), 1);
    }
    assert_eq!(fixture.tally("w").await, [50, 50, 0, 0, 0]);
}

async fn a_session_that_is_unknown_or_has_ended_gets_nothing(fixture: &StoreFixture) {
    fixture.submit(job("w")).await;
    let session = fixture.session("w").await;
    fixture.store.end_session(session.id).await.unwrap();
    assert!(matches!(session.acquire_any(1).await, Acquired::NoSession));
    let unknown = session.posing_as(Uuid::from_u128(7));
    assert!(matches!(unknown.acquire_any(1).await, Acquired::NoSession));
    assert_eq!(fixture.tally("w").await, [1, 0, 0, 0, 0]);
}

async fn racing_sessions_get_each_job_exactly_once(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    let ids: HashSet<_> = fixture.submit_all(jobs("w", 1_000)).await.into_iter().collect();
    let mut workers = Vec::new();
    for n in 0..8 {
        let session = fixture.session("w").await.on(if n % 2 == 0 { &fixture.store } else { &second });
        workers.push(tokio::spawn(async move {
            let mut taken = Vec::new();
            loop {
                let jobs = session.acquire(7).await;
                if jobs.is_empty() {
                    return taken;
                }
                taken.extend(jobs.iter().map(|leased| leased.job.id));
            }
        }));
    }
    let mut taken = Vec::new();
    for worker in workers {
        taken.extend(worker.await.unwrap());
    }
    // Jobs that another session's acquire had locked could not be seen meanwhile; they are not lost.
    let last = fixture.session("w").await;
    taken.extend(last.acquire(1_000).await.iter().map(|leased| leased.job.id));
    assert_eq!(taken.len(), 1_000);
    assert_eq!(taken.into_iter().collect::<HashSet<_>>(), ids);
    assert_eq!(fixture.tally("w").await, [0, 1_000, 0, 0, 0]);
}

async fn nobody_gets_more_than_was_asked_for(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    fixture.submit_all(jobs("w", 300)).await;
    let mut workers = Vec::new();
    for n in 0_u32..10 {
        let session = fixture.session("w").await.on(if n % 2 == 0 { &fixture.store } else { &second });
        // Session::acquire checks the number of jobs of each answer.
        workers.push(tokio::spawn(async move {
            for max_jobs in [1, 2, 3, 5, 8] {
                session.acquire(max_jobs).await;
            }
        }));
    }
    for worker in workers {
        worker.await.unwrap();
    }
    assert!(fixture.tally("w").await[1] <= 190);
}

async fn an_answer_ends_at_three_mebibytes_but_holds_at_least_one_job(fixture: &StoreFixture) {
    let sized =
        |mebibytes: usize| NewJob { payload: format!("\"{}\"", "x".repeat(mebibytes * 1024 * 1024 - 2)), ..job("w") };
    let ids = fixture.submit_all([1, 1, 1, 1, 1, 1, 1, 4, 1].map(sized).to_vec()).await;
    let session = fixture.session("w").await;
    let mut taken = Vec::new();
    while taken.len() < ids.len() {
        let jobs = session.acquire(100).await;
        let bytes: usize = jobs.iter().map(|leased| leased.job.payload.len()).sum();
        assert!(!jobs.is_empty(), "{} of {} came", taken.len(), ids.len());
        assert!(bytes <= limits::REPLY_BYTES || jobs.len() == 1, "{} jobs with {bytes} bytes", jobs.len());
        taken.extend(jobs.iter().map(|leased| leased.job.id));
        assert_eq!(fixture.tally("w").await[1], taken.len() as u64, "what is leased was handed over");
    }
    assert_eq!(taken, ids);
}

async fn a_session_holds_no_more_than_its_limit(fixture: &StoreFixture) {
    let limit = limits::JOBS_PER_SESSION as usize;
    fixture.submit_all(jobs("w", limit + 100)).await;
    let holder = fixture.session("w").await;
    let mut held = Vec::new();
    loop {
        match holder.acquire_any(900).await {
            Acquired::Jobs { jobs, .. } if !jobs.is_empty() => held.extend(jobs),
            Acquired::SessionFull => break,
            other => panic!("{other:?} with {} held", held.len()),
        }
    }
    assert_eq!(held.len(), limit);
    let other = fixture.session("w").await;
    assert_eq!(other.acquire(1_000).await.len(), 100);
    fixture.submit(job("w")).await;
    holder.complete(held[500].lease).await;
    assert_eq!(holder.acquire(10).await.len(), 1);
    assert!(matches!(holder.acquire_any(1).await, Acquired::SessionFull));
}

async fn a_session_holds_no_more_than_its_limit_however_many_calls_ask_at_once(fixture: &StoreFixture) {
    let limit = limits::JOBS_PER_SESSION as usize;
    fixture.submit_all(jobs("w", limit + 2_000)).await;
    let holder = fixture.session("w").await;
    let mut held = 0;
    while held < limit - 500 {
        held += holder.acquire(500).await.len();
    }
    // The quota has room for one of these calls, and for a part of the next.
    let calls = (0..6).map(|_| {
        let holder = holder.clone();
        tokio::spawn(async move { holder.acquire_any(300).await })
    });
    for answer in join_all(calls).await {
        match answer.unwrap() {
            Acquired::Jobs { jobs, .. } => held += jobs.len(),
            Acquired::SessionFull => {}
            Acquired::NoSession => panic!("it has ended"),
        }
    }
    assert!((limit - 200..=limit).contains(&held), "{held}");
    held += if held < limit { holder.acquire(300).await.len() } else { 0 };
    assert_eq!(held, limit);
    assert!(matches!(holder.acquire_any(1).await, Acquired::SessionFull));
}
