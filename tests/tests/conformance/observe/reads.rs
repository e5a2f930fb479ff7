//! Reads show one snapshot: a job is always in exactly one state.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use jobqueue_shared::state::State;
use jobqueue_store::NewJob;
use uuid::Uuid;

use crate::{
    scenarios,
    store_fixture::{StoreFixture, job, jobs},
};

scenarios!(
    jobs_are_read_in_the_order_asked_for,
    a_job_is_never_nowhere_while_others_move_it,
    the_clock_does_not_run_backwards,
);

async fn jobs_are_read_in_the_order_asked_for(fixture: &StoreFixture) {
    let mut ids = fixture.submit_all(jobs("w", 20)).await;
    ids.extend(fixture.submit_all(jobs("other", 20)).await);
    ids.push(Uuid::now_v7());
    ids.push(ids[3]);
    ids.rotate_left(17);
    ids.swap(0, 9);
    let found = fixture.store.get(&ids).await.unwrap();
    assert_eq!(found.len(), ids.len());
    assert_eq!(found.iter().filter(|job| job.is_none()).count(), 1);
    assert!(found.iter().zip(&ids).all(|(job, id)| job.as_ref().is_none_or(|job| job.id == *id)));
}

async fn a_job_is_never_nowhere_while_others_move_it(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    let ids = fixture.submit_all(vec![NewJob { max_retries: 2, ..job("w") }; 24]).await;
    let stop = Arc::new(AtomicBool::new(false));
    let mut movers = Vec::new();
    for n in 0..3_usize {
        let session = fixture.session("w").await.on(if n == 0 { &fixture.store } else { &second });
        let stop = Arc::clone(&stop);
        movers.push(tokio::spawn(async move {
            let mut turn = n;
            while !stop.load(Ordering::Relaxed) {
                for leased in session.acquire(5).await {
                    turn += 1;
                    match turn % 4 {
                        0 => drop(session.release(leased.lease).await),
                        1 => drop(session.fail_for_good(leased.lease, "no").await),
                        2 => drop(session.fail(leased.lease, "again").await),
                        _ => drop(session.snooze(leased.lease, 0).await),
                    }
                }
            }
        }));
    }
    movers.push(tokio::spawn({
        let (store, stop, ids) = (Arc::clone(&second), Arc::clone(&stop), ids.clone());
        async move {
            while !stop.load(Ordering::Relaxed) {
                store.cancel(&ids[..3], "").await.unwrap();
                store.retry(&ids).await.unwrap();
            }
        }
    }));
    for _ in 0..150 {
        let found = fixture.store.get(&ids).await.unwrap();
        for (job, id) in found.into_iter().zip(&ids) {
            let job = job.unwrap_or_else(|| panic!("{id} is nowhere"));
            assert_eq!(job.state == State::Running, job.session_id.is_some() && job.finished_at_ms.is_none());
        }
    }
    stop.store(true, Ordering::Relaxed);
    for mover in movers {
        mover.await.unwrap();
    }
}

async fn the_clock_does_not_run_backwards(fixture: &StoreFixture) {
    let mut last = 0;
    for _ in 0..50 {
        let now = fixture.now_ms().await;
        assert!(now >= last, "{last} {now}");
        last = now;
    }
    let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
    assert!((wall - last).abs() < 60_000, "milliseconds since 1970: {last}, not {wall}");
}
