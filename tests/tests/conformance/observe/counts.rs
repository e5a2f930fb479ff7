//! Counts are exact at every moment, before and after counter compaction.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use jobqueue_shared::{
    limits::LATELY_MINUTES,
    retry::RetryPolicy,
    state::{Ending, State},
};
use jobqueue_store::{NewJob, SlotCounts, Start, WorkerIdCounts};
use jobqueue_tests::poll::eventually;

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, KEEP_NOTHING, StoreFixture, job, jobs, keyed, tally},
};

scenarios!(
    counts_follow_every_step,
    an_empty_store_counts_nothing,
    what_waits_is_scheduled_at_first_and_retrying_later,
    a_scheduled_job_counts_as_runnable_once_its_time_has_come,
    the_oldest_runnable_job_is_the_one_that_waits_longest,
    deduplicated_and_refused_submits_are_not_counted,
    folding_changes_no_count,
    counts_add_up_at_every_moment_while_jobs_move,
    every_minute_tells_what_happened_in_it,
    dead_letters_of_the_last_minutes_are_counted_by_worker_id,
    each_worker_id_has_a_series_of_its_own,
);

async fn counts_follow_every_step(fixture: &StoreFixture) {
    let expect = async |step: &str, expected: [u64; 5]| {
        assert_eq!(fixture.tally("w").await, expected, "{step}");
        fixture.check().await;
    };
    let ids = fixture.submit_all(jobs("w", 10)).await;
    fixture.submit_all(jobs("other", 3)).await;
    expect("submitted", [10, 0, 0, 0, 0]).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(8).await;
    expect("acquired", [2, 8, 0, 0, 0]).await;
    session.complete(leased[0].lease).await;
    session.complete(leased[1].lease).await;
    expect("completed", [2, 6, 2, 0, 0]).await;
    session.fail(leased[2].lease, "no").await;
    expect("failed once", [3, 5, 2, 0, 0]).await;
    session.fail_for_good(leased[3].lease, "no").await;
    expect("failed for good", [3, 4, 2, 1, 0]).await;
    session.snooze(leased[4].lease, HOUR_MS).await;
    expect("snoozed", [4, 3, 2, 1, 0]).await;
    session.release(leased[5].lease).await;
    expect("released", [5, 2, 2, 1, 0]).await;
    fixture.store.cancel(&[ids[6], ids[9]], "").await.unwrap();
    expect("cancelled", [4, 1, 2, 1, 2]).await;
    fixture.store.retry(&[ids[3], ids[9]]).await.unwrap();
    expect("retried", [6, 1, 2, 0, 1]).await;
    fixture.store.delete(&[ids[0], ids[6]]).await.unwrap();
    expect("deleted", [6, 1, 1, 0, 0]).await;
    fixture.store.end_session(session.id).await.unwrap();
    expect("given back", [7, 0, 1, 0, 0]).await;
    assert_eq!(fixture.tally("other").await, [3, 0, 0, 0, 0]);
}

async fn an_empty_store_counts_nothing(fixture: &StoreFixture) {
    assert_eq!(fixture.store.counts().await.unwrap(), []);
    assert_eq!(fixture.store.throughput(None, 0).await.unwrap(), []);
    assert_eq!(fixture.store.compact_counters(100).await.unwrap(), 0);
}

async fn what_waits_is_scheduled_at_first_and_retrying_later(fixture: &StoreFixture) {
    let waits = async |scheduled: u64, retrying: u64, pending: u64| {
        for _ in 0..2 {
            let counts = fixture.counts("w").await;
            assert_eq!((counts.scheduled, counts.retrying, counts.pending), (scheduled, retrying, pending));
            fixture.store.compact_counters(1_000).await.unwrap();
        }
    };
    let slow = RetryPolicy { initial_ms: HOUR_MS, factor: 1.0, max_ms: HOUR_MS, jitter: 0.0 };
    let slow = |start| NewJob { retry: Some(slow), start, ..job("w") };
    fixture.submit(slow(Start::Now)).await;
    waits(0, 0, 1).await;
    let later = fixture.submit(slow(Start::After { delay_ms: HOUR_MS })).await;
    waits(1, 0, 2).await;
    let much_later = fixture.now_ms().await + 100 * HOUR_MS;
    fixture.submit(slow(Start::At { run_at_ms: much_later })).await;
    waits(2, 0, 3).await;
    let session = fixture.session("w").await;
    let leased = session.acquire_one().await;
    waits(2, 0, 2).await;
    session.fail(leased.lease, "no").await;
    waits(2, 1, 3).await;
    fixture.store.cancel(&[later, leased.job.id], "").await.unwrap();
    waits(1, 0, 1).await;
    fixture.store.retry(&[later, leased.job.id]).await.unwrap();
    waits(1, 0, 3).await;
    let leased = session.acquire(2).await;
    session.snooze(leased[0].lease, HOUR_MS).await;
    session.end(leased[1].lease, Ending::Fail { permanent: false, retry_after_ms: Some(HOUR_MS) }).await;
    waits(2, 1, 3).await;
}

async fn a_scheduled_job_counts_as_runnable_once_its_time_has_come(fixture: &StoreFixture) {
    fixture.submit(NewJob { start: Start::After { delay_ms: 300 }, ..job("w") }).await;
    let counts = eventually("its time comes", async || {
        let counts = fixture.counts("w").await;
        assert_eq!(counts.pending, 1);
        (counts.scheduled == 0).then_some(counts)
    })
    .await;
    assert_eq!(counts.retrying, 0);
    // The change needed no statement.
    fixture.check().await;
}

async fn the_oldest_runnable_job_is_the_one_that_waits_longest(fixture: &StoreFixture) {
    let oldest = async || fixture.counts("w").await.oldest_runnable_ms;
    fixture.submit(NewJob { start: Start::After { delay_ms: HOUR_MS }, ..job("w") }).await;
    assert_eq!(oldest().await, None, "a scheduled job does not wait");
    let now = fixture.now_ms().await;
    for (priority, run_at_ms) in [(0, now - 1_000), (9, now - 5_000), (5, now - 3_000)] {
        fixture.submit(NewJob { priority, start: Start::At { run_at_ms }, ..job("w") }).await;
    }
    assert_eq!(oldest().await, Some(now - 5_000));
    assert_eq!(fixture.session("w").await.acquire(3).await.len(), 3);
    assert_eq!(oldest().await, None);
}

async fn deduplicated_and_refused_submits_are_not_counted(fixture: &StoreFixture) {
    fixture.submit(keyed("w", "k", 1)).await;
    fixture.submit_or_known(keyed("w", "k", 1)).await;
    fixture.insert(vec![job("w"), keyed("w", "k", 2), job("new one")]).await;
    assert_eq!(fixture.tally("w").await, [1, 0, 0, 0, 0]);
    assert_eq!(fixture.tally("new one").await, [0; 5]);
    let submitted: u64 = fixture.store.throughput(None, 0).await.unwrap().iter().map(|minute| minute.submitted).sum();
    assert_eq!(submitted, 1);
}

async fn folding_changes_no_count(fixture: &StoreFixture) {
    for n in 0..30 {
        let worker_id = format!("w{}", n % 4);
        let start = if n % 3 == 0 { Start::After { delay_ms: HOUR_MS * (1 + n) } } else { Start::Now };
        fixture.submit_all(vec![NewJob { start, ..job(&worker_id) }; 3]).await;
        let session = fixture.session(&worker_id).await;
        for (n, leased) in session.acquire(2).await.into_iter().enumerate() {
            if n == 0 {
                session.complete(leased.lease).await;
            } else {
                session.fail(leased.lease, "no").await;
            }
        }
    }
    let before = fixture.store.counts().await.unwrap();
    let minutes = fixture.store.throughput(None, 0).await.unwrap();
    assert_eq!(minutes.iter().map(|minute| minute.submitted).sum::<u64>(), 90);
    loop {
        let folded = fixture.store.compact_counters(7).await.unwrap();
        assert_eq!(fixture.store.counts().await.unwrap(), before);
        assert_eq!(fixture.store.throughput(None, 0).await.unwrap(), minutes);
        if folded == 0 {
            break;
        }
    }
}

async fn counts_add_up_at_every_moment_while_jobs_move(fixture: &StoreFixture) {
    const JOBS: usize = 60;
    let second = fixture.second_store().await;
    fixture.submit_all(vec![NewJob { max_retries: 1_000, ..job("w") }; JOBS]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut movers = Vec::new();
    for n in 0..4_usize {
        let session = fixture.session("w").await.on(if n % 2 == 0 { &fixture.store } else { &second });
        let stop = Arc::clone(&stop);
        movers.push(tokio::spawn(async move {
            while !stop.load(Ordering::Relaxed) {
                for leased in session.acquire(5).await {
                    session.fail(leased.lease, "again").await;
                }
            }
        }));
    }
    let folder = tokio::spawn({
        let (store, stop) = (Arc::clone(&second), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Relaxed) {
                store.compact_counters(10).await.unwrap();
                tokio::task::yield_now().await;
            }
        }
    });
    for _ in 0..100 {
        let counts: Vec<WorkerIdCounts> = fixture.store.counts().await.unwrap();
        let sum: u64 = counts.iter().flat_map(tally).sum();
        assert_eq!(sum, JOBS as u64, "{counts:?}");
    }
    stop.store(true, Ordering::Relaxed);
    for task in movers.into_iter().chain([folder]) {
        task.await.unwrap();
    }
}

async fn every_minute_tells_what_happened_in_it(fixture: &StoreFixture) {
    let minute = fixture.earliest_ms().await / 60_000;
    fixture.submit_all(vec![NewJob { max_retries: 2, ..job("w") }; 6]).await;
    fixture.submit_all(jobs("other", 2)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(6).await;
    session.complete(leased[0].lease).await;
    session.complete(leased[1].lease).await;
    session.fail_for_good(leased[2].lease, "no").await;
    session.fail(leased[3].lease, "no").await;
    session.snooze(leased[4].lease, 0).await;
    session.release(leased[5].lease).await;
    let other = fixture.session("other").await;
    other.complete(other.acquire(1).await[0].lease).await;
    let last = fixture.now_ms().await / 60_000;

    let sums = async |worker_id: Option<&str>, from_minute: i64| {
        let minutes = fixture.store.throughput(worker_id, from_minute).await.unwrap();
        assert!(minutes.is_sorted_by(|a, b| a.minute < b.minute), "oldest first, each once: {minutes:?}");
        assert!(minutes.iter().all(|it| (minute.max(from_minute)..=last).contains(&it.minute)), "{minutes:?}");
        minutes
            .iter()
            .fold([0; 4], |sum, it| [sum[0] + it.submitted, sum[1] + it.done, sum[2] + it.failed, sum[3] + it.retried])
    };
    for _ in 0..2 {
        assert_eq!(sums(Some("w"), 0).await, [6, 2, 1, 1]);
        assert_eq!(sums(Some("other"), minute).await, [2, 1, 0, 0]);
        assert_eq!(sums(None, minute).await, [8, 3, 1, 1]);
        assert_eq!(sums(Some("nobody"), 0).await, [0; 4]);
        assert_eq!(sums(None, last + 1).await, [0; 4]);
        while fixture.store.compact_counters(100).await.unwrap() > 0 {}
    }
    // Removal of a job later does not change the throughput.
    eventually("all that is finished is pruned", async || {
        fixture.store.prune(&KEEP_NOTHING, 100).await.unwrap();
        (fixture.tally("w").await[State::Done as usize] == 0).then_some(())
    })
    .await;
    assert_eq!(sums(Some("w"), 0).await, [6, 2, 1, 1]);
}

async fn dead_letters_of_the_last_minutes_are_counted_by_worker_id(fixture: &StoreFixture) {
    let lately = async |worker_id: &str| fixture.counts(worker_id).await.failed_lately;
    let fail = async |worker_id: &str, count: usize| {
        fixture.submit_all(jobs(worker_id, count)).await;
        let session = fixture.session(worker_id).await;
        let leased = session.acquire(count as u32).await;
        for it in &leased {
            session.fail_for_good(it.lease, "no").await;
        }
        leased[0].job.id
    };
    let gone = fail("w", 3).await;
    fail("other", 1).await;
    fixture.submit_all(vec![NewJob { max_retries: 2, ..job("w") }; 2]).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(2).await;
    session.fail(leased[0].lease, "it has another attempt").await;
    session.complete(leased[1].lease).await;
    for _ in 0..2 {
        assert_eq!((lately("w").await, lately("other").await, lately("nobody").await), (3, 1, 0));
        while fixture.store.compact_counters(100).await.unwrap() > 0 {}
    }
    fixture.store.retry(&[gone]).await.unwrap();
    let counts = fixture.counts("w").await;
    assert_eq!((counts.failed, counts.failed_lately), (2, 3), "it is told what happened, and not what is left of it");
    age_series(fixture, LATELY_MINUTES - 1).await;
    assert_eq!(lately("w").await, 3);
    age_series(fixture, 1).await;
    assert_eq!(lately("w").await, 0, "ten minutes ago");
    assert_eq!(fixture.counts("w").await.failed, 2);
}

async fn each_worker_id_has_a_series_of_its_own(fixture: &StoreFixture) {
    let minute = fixture.earliest_ms().await / 60_000;
    fixture.submit_all(jobs("a", 2)).await;
    fixture.submit_all(jobs("b", 5)).await;
    fixture.submit_all(jobs("c", 1)).await;
    let session = fixture.session("b").await;
    session.complete(session.acquire(1).await[0].lease).await;
    let read = async |worker_ids: &[&str], from_minute: i64, step: u32| {
        let worker_ids: Vec<String> = worker_ids.iter().map(|&it| it.to_owned()).collect();
        fixture.store.throughputs(&worker_ids, from_minute, step).await.unwrap()
    };
    let sums = async |worker_ids: &[&str], from_minute: i64, step: u32| {
        let slots = read(worker_ids, from_minute, step).await;
        assert!(slots.iter().all(|slot| slot.counts.minute % i64::from(step) == 0), "{slots:?}");
        let place = |slot: &SlotCounts| (slot.worker_id.clone(), slot.counts.minute);
        assert!(slots.is_sorted_by(|a, b| place(a) < place(b)), "by worker_id and time, each slot once: {slots:?}");
        let mut sums: Vec<(String, u64, u64)> = Vec::new();
        for SlotCounts { worker_id, counts } in slots {
            match sums.last_mut().filter(|last| last.0 == worker_id) {
                Some(last) => (last.1, last.2) = (last.1 + counts.submitted, last.2 + counts.done),
                None => sums.push((worker_id, counts.submitted, counts.done)),
            }
        }
        sums
    };
    let of = |worker_id: &str, submitted, done| (worker_id.to_owned(), submitted, done);
    for _ in 0..2 {
        for step in [1, 15, 60] {
            assert_eq!(sums(&["b", "a", "nobody"], 0, step).await, [of("a", 2, 0), of("b", 5, 1)], "{step}");
        }
        assert_eq!(sums(&["c"], minute, 1).await, [of("c", 1, 0)]);
        assert_eq!(sums(&[], 0, 1).await, []);
        let last = fixture.now_ms().await / 60_000;
        assert_eq!(sums(&["a", "b", "c"], last + 1, 1).await, []);
        while fixture.store.compact_counters(100).await.unwrap() > 0 {}
    }
    // Earlier counts are more than an hour old.
    age_series(fixture, minute % 60 + 60).await;
    fixture.submit_all(jobs("a", 1)).await;
    let slots = read(&["a"], 0, 60).await;
    assert_eq!(slots.iter().map(|slot| slot.counts.submitted).collect::<Vec<_>>(), [2, 1]);
}

/// Moves what the series has counted into the past.
async fn age_series(fixture: &StoreFixture, minutes: i64) {
    // By way of negative numbers, so that no minute takes the place of another meanwhile.
    fixture.sql("UPDATE series SET minute = -minute", "UPDATE series SET minute = -minute").await;
    let back = format!("UPDATE series SET minute = -minute - {minutes}");
    fixture.sql(&back, &back).await;
}
