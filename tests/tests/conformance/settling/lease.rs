//! Only one outcome of an attempt is ever accepted, and only from the session that holds the lease.

use std::sync::Arc;

use futures::future::join_all;
use jobqueue_shared::{
    lease::LeaseId,
    state::{Ending, State},
};
use jobqueue_store::{AttemptOutcome, NewJob, ProgressReport, SettleAnswer};
use uuid::Uuid;

use crate::{
    scenarios,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs},
};

scenarios!(
    the_same_outcome_again_is_accepted_and_changes_nothing,
    the_same_outcome_again_tells_where_the_job_went,
    another_outcome_is_refused_and_recorded_once,
    a_stale_worker_cannot_end_the_next_attempt,
    a_repeated_outcome_does_not_touch_the_next_attempt,
    a_foreign_lease_is_refused_and_changes_nothing,
    a_lease_that_never_was_is_refused,
    of_many_outcomes_that_race_for_one_lease_one_is_accepted,
    of_a_completion_and_a_cancellation_that_race_one_wins,
    progress_is_shown_while_the_attempt_runs,
    progress_of_a_lease_that_is_not_valid_is_refused,
    refused_progress_is_recorded_once_a_lease,
    a_refusal_tells_whose_lease_it_was_and_how_it_ended,
    of_a_job_that_is_gone_nothing_is_recorded,
    every_attempt_has_a_lease_of_its_own,
);

const FAIL: Ending = Ending::Fail { permanent: false, retry_after_ms: None };
const RELEASE: Ending = Ending::Release { no_handler: false };

/// Every outcome that a worker can send.
const ENDINGS: [Ending; 6] = [
    Ending::Complete,
    FAIL,
    Ending::Fail { permanent: true, retry_after_ms: None },
    Ending::Snooze { delay_ms: HOUR_MS },
    RELEASE,
    Ending::Release { no_handler: true },
];

async fn the_same_outcome_again_is_accepted_and_changes_nothing(fixture: &StoreFixture) {
    for (n, ending) in ENDINGS.into_iter().enumerate() {
        let worker_id = format!("w{n}");
        let id = fixture.submit(job(&worker_id)).await;
        let session = fixture.session(&worker_id).await;
        let lease = session.acquire_one().await.lease;
        assert!(matches!(session.end(lease, ending).await, SettleAnswer::Accepted(_)));
        let (before, history, tally) =
            (fixture.get(id).await, fixture.attempts(id).await, fixture.tally(&worker_id).await);
        for _ in 0..2 {
            let again = session.end(lease, ending).await;
            assert!(matches!(again, SettleAnswer::Accepted(_)), "{ending:?}: {again:?}");
        }
        assert_eq!(fixture.get(id).await, before, "{ending:?}");
        assert_eq!(fixture.attempts(id).await, history, "{ending:?}");
        assert_eq!(fixture.tally(&worker_id).await, tally, "{ending:?}");
    }
}

async fn the_same_outcome_again_tells_where_the_job_went(fixture: &StoreFixture) {
    for (n, ending) in ENDINGS.into_iter().enumerate() {
        for max_retries in [1, 2] {
            let worker_id = format!("w{n}/{max_retries}");
            fixture.submit(NewJob { max_retries, ..job(&worker_id) }).await;
            let session = fixture.session(&worker_id).await;
            let lease = session.acquire_one().await.lease;
            let first = session.end(lease, ending).await;
            assert_eq!(session.end(lease, ending).await, first, "{ending:?}, {max_retries} attempts");
        }
    }
}

async fn another_outcome_is_refused_and_recorded_once(fixture: &StoreFixture) {
    for (n, first) in [Ending::Complete, FAIL, Ending::Snooze { delay_ms: HOUR_MS }, RELEASE].into_iter().enumerate() {
        let worker_id = format!("w{n}");
        let id = fixture.submit(job(&worker_id)).await;
        let session = fixture.session(&worker_id).await;
        let lease = session.acquire_one().await.lease;
        session.end(lease, first).await;
        let (before, tally) = (fixture.get(id).await, fixture.tally(&worker_id).await);
        for other in [Ending::Complete, FAIL, Ending::Snooze { delay_ms: 0 }, RELEASE] {
            if std::mem::discriminant(&other) != std::mem::discriminant(&first) {
                assert_eq!(session.end(lease, other).await, SettleAnswer::Stale, "{other:?} after {first:?}");
            }
        }
        assert_eq!(fixture.get(id).await, before, "after {first:?}");
        assert_eq!(fixture.tally(&worker_id).await, tally);
        assert_eq!(fixture.refusals(id).await, 1, "after {first:?}");
        let refused = fixture.attempts(id).await.into_iter().find(|it| it.outcome == AttemptOutcome::Refused).unwrap();
        assert_eq!((refused.run_no, refused.session_id), (1, Some(session.id)));
        assert_ne!(refused.error, "");
    }
}

async fn a_stale_worker_cannot_end_the_next_attempt(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 9, ..job("w") }).await;
    let (zombie, successor) = (fixture.session("w").await, fixture.session("w").await);
    let stale = zombie.acquire_one().await.lease;
    zombie.fail(stale, "slow").await;
    let current = successor.acquire_when_due().await;
    let before = fixture.get(id).await;
    for ending in [Ending::Complete, Ending::Snooze { delay_ms: 0 }, RELEASE] {
        assert_eq!(zombie.end(stale, ending).await, SettleAnswer::Stale, "{ending:?}");
        assert_eq!(successor.end(stale, ending).await, SettleAnswer::Stale, "{ending:?}");
    }
    assert_eq!(fixture.get(id).await, before);
    assert_eq!(successor.complete(current.lease).await, SettleAnswer::Accepted(State::Done));
    assert_eq!(zombie.complete(stale).await, SettleAnswer::Stale);
    assert_eq!(fixture.get(id).await.session_id, Some(successor.id));
    assert_eq!(fixture.refusals(id).await, 1, "once a lease");
}

async fn a_repeated_outcome_does_not_touch_the_next_attempt(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let (first, second) = (fixture.session("w").await, fixture.session("w").await);
    let lease = first.acquire_one().await.lease;
    first.fail(lease, "no").await;
    let next = second.acquire_when_due().await;
    let before = fixture.get(id).await;
    assert!(matches!(first.fail(lease, "no").await, SettleAnswer::Accepted(_)), "its reply was lost");
    assert_eq!(fixture.get(id).await, before);
    assert_eq!(fixture.refusals(id).await, 0);
    second.complete(next.lease).await;
}

async fn a_foreign_lease_is_refused_and_changes_nothing(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let holder = fixture.session("w").await;
    let lease = holder.acquire_one().await.lease;
    let (neighbour, stranger) = (fixture.session("w").await, fixture.session("x").await);
    let before = fixture.get(id).await;
    for session in [&neighbour, &stranger, &holder.posing_as(Uuid::from_u128(1))] {
        for ending in ENDINGS {
            assert_eq!(session.end(lease, ending).await, SettleAnswer::Stale, "{ending:?}");
        }
    }
    assert_eq!(fixture.get(id).await, before);
    assert_eq!(fixture.refusals(id).await, 1, "once a lease");
    assert_eq!(holder.complete(lease).await, SettleAnswer::Accepted(State::Done));
    // The neighbour is refused after the job's end, too.
    assert_eq!(neighbour.complete(lease).await, SettleAnswer::Stale);
}

async fn a_lease_that_never_was_is_refused(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let session = fixture.session("w").await;
    let lease = session.acquire_one().await.lease;
    let made_up = [
        LeaseId { claim_id: Uuid::from_u128(1), job_id: id },
        LeaseId { claim_id: lease.claim_id, job_id: Uuid::from_u128(2) },
        LeaseId { claim_id: Uuid::from_u128(1), job_id: Uuid::from_u128(2) },
        LeaseId { claim_id: Uuid::nil(), job_id: Uuid::max() },
    ];
    for lease in made_up {
        for ending in ENDINGS {
            assert_eq!(session.end(lease, ending).await, SettleAnswer::Stale);
        }
    }
    assert_eq!(session.complete(lease).await, SettleAnswer::Accepted(State::Done));
    // An outcome of a deleted job is stale, too, whichever session sends it.
    fixture.store.delete(&[id]).await.unwrap();
    assert_eq!(session.complete(lease).await, SettleAnswer::Stale);
    assert_eq!(fixture.attempts(id).await, []);
}

async fn of_many_outcomes_that_race_for_one_lease_one_is_accepted(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    for round in 0..12 {
        let worker_id = format!("w{round}");
        let id = fixture.submit(NewJob { max_retries: 1, ..job(&worker_id) }).await;
        let session = fixture.session(&worker_id).await;
        let lease = session.acquire_one().await.lease;
        // Four outcomes of which none repeats another.
        let endings = [Ending::Complete, FAIL, Ending::Snooze { delay_ms: HOUR_MS }, RELEASE];
        let racers = (0..8).map(|n| {
            let session = session.on(if n < 4 { &fixture.store } else { &second });
            let ending = endings[(n + round) % 4];
            tokio::spawn(async move { (ending, session.end(lease, ending).await) })
        });
        let answers: Vec<_> = join_all(racers).await.into_iter().map(Result::unwrap).collect();
        let accepted: Vec<_> =
            answers.iter().filter(|(_, answer)| *answer != SettleAnswer::Stale).map(|(ending, _)| *ending).collect();
        assert_eq!(accepted.len(), 2, "one outcome, said twice: {answers:?}");
        assert_eq!(accepted[0], accepted[1], "{answers:?}");
        let state = match accepted[0] {
            Ending::Complete => State::Done,
            Ending::Fail { .. } => State::Failed,
            _ => State::Pending,
        };
        assert_eq!(fixture.state(id).await, state);
        assert_eq!(fixture.refusals(id).await, 1);
    }
}

async fn of_a_completion_and_a_cancellation_that_race_one_wins(fixture: &StoreFixture) {
    let second = fixture.second_store().await;
    let ids = fixture.submit_all(jobs("w", 64)).await;
    let session = fixture.session("w").await.on(&second);
    let leased = session.acquire(64).await;
    let cancels = ids.chunks(8).map(|ids| {
        let (store, ids) = (Arc::clone(&fixture.store), ids.to_vec());
        tokio::spawn(async move { drop(store.cancel(&ids, "enough").await.unwrap()) })
    });
    let completions = leased.chunks(7).map(|leased| {
        let (session, leased) = (session.clone(), leased.to_vec());
        tokio::spawn(async move {
            for leased in leased {
                session.complete(leased.lease).await;
            }
        })
    });
    for task in join_all(cancels.chain(completions).collect::<Vec<_>>()).await {
        task.unwrap();
    }
    let [pending, running, done, failed, cancelled] = fixture.tally("w").await;
    assert_eq!((pending, running, done + cancelled, failed), (0, 0, 64, 0));
    for id in ids {
        assert!(matches!(fixture.state(id).await, State::Done | State::Cancelled));
    }
}

fn report(session_id: Uuid, lease: LeaseId, fraction: f64, message: &str) -> ProgressReport {
    ProgressReport { session_id, lease, fraction, message: message.to_owned() }
}

async fn progress_is_shown_while_the_attempt_runs(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let session = fixture.session("w").await;
    let lease = session.acquire_one().await.lease;
    assert_eq!(fixture.get(id).await.progress, None);
    for (fraction, message) in [(0.0, ""), (0.25, "a quarter"), (0.75, "drei Viertel — 😀"), (1.0, "all of it")] {
        let before = fixture.earliest_ms().await;
        assert!(fixture.store.report_progress(&report(session.id, lease, fraction, message)).await.unwrap());
        let after = fixture.now_ms().await;
        let progress = fixture.get(id).await.progress.unwrap();
        assert_eq!((progress.fraction, progress.message.as_str()), (fraction, message));
        assert!((before..=after).contains(&progress.at_ms));
    }
    session.fail(lease, "in the end it did not work").await;
    assert_eq!(fixture.get(id).await.progress, None, "no attempt runs");
    let lease = session.acquire_when_due().await.lease;
    assert_eq!(fixture.get(id).await.progress, None, "this attempt has reported nothing");
    assert!(fixture.store.report_progress(&report(session.id, lease, 0.5, "half")).await.unwrap());
    session.complete(lease).await;
}

async fn progress_of_a_lease_that_is_not_valid_is_refused(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let (session, other) = (fixture.session("w").await, fixture.session("w").await);
    let lease = session.acquire_one().await.lease;
    assert!(fixture.store.report_progress(&report(session.id, lease, 0.5, "half")).await.unwrap());
    let made_up = LeaseId { claim_id: Uuid::from_u128(1), job_id: id };
    assert!(!fixture.store.report_progress(&report(session.id, made_up, 0.6, "")).await.unwrap());
    assert!(!fixture.store.report_progress(&report(other.id, lease, 0.6, "")).await.unwrap());
    assert_eq!(fixture.get(id).await.progress.unwrap().message, "half");
    session.fail(lease, "no").await;
    assert!(!fixture.store.report_progress(&report(session.id, lease, 0.7, "")).await.unwrap());
    let next = other.acquire_when_due().await.lease;
    assert!(!fixture.store.report_progress(&report(session.id, lease, 0.8, "")).await.unwrap());
    assert_eq!(fixture.get(id).await.progress, None);
    assert!(fixture.store.report_progress(&report(other.id, next, 0.1, "a tenth")).await.unwrap());
    assert_eq!(fixture.get(id).await.progress.unwrap().message, "a tenth");
}

async fn refused_progress_is_recorded_once_a_lease(fixture: &StoreFixture) {
    let id = fixture.submit(NewJob { max_retries: 9, ..job("w") }).await;
    let (zombie, other) = (fixture.session("w").await, fixture.session("w").await);
    let stale = zombie.acquire_one().await.lease;
    zombie.fail(stale, "slow").await;
    let current = other.acquire_when_due().await.lease;
    let (before, tally) = (fixture.get(id).await, fixture.tally("w").await);
    for _ in 0..3 {
        assert!(!zombie.progress(stale, "half").await);
        assert!(!zombie.progress(current, "half").await);
    }
    // Late outcomes after a refused progress report are not recorded again.
    zombie.complete(stale).await;
    zombie.complete(current).await;
    assert_eq!((fixture.get(id).await, fixture.tally("w").await), (before, tally));
    let refused: Vec<_> =
        fixture.attempts(id).await.into_iter().filter(|it| it.outcome == AttemptOutcome::Refused).collect();
    assert_eq!(refused.iter().map(|it| it.run_no).collect::<Vec<_>>(), [2, 1]);
    assert!(refused.iter().all(|it| it.error.starts_with("progress refused: ") && it.session_id == Some(zombie.id)));
    assert!(other.progress(current, "well").await);
    assert_eq!(fixture.get(id).await.progress.unwrap().message, "well");
    other.complete(current).await;
}

async fn a_refusal_tells_whose_lease_it_was_and_how_it_ended(fixture: &StoreFixture) {
    let zombie = fixture.session("w").await;
    let other = fixture.session("w").await;
    // For each way in which the attempt ended and each late report: the refusal's text.
    let said = ["completion", "failure", "snooze", "release", "progress"];
    for (n, ended) in ["completed", "failed", "snoozed", "released", "cancelled", "open"].into_iter().enumerate() {
        for what in said {
            let id = fixture.submit(job("w")).await;
            let lease = zombie.acquire_one().await.lease;
            match ended {
                "completed" => drop(zombie.complete(lease).await),
                "failed" => drop(zombie.fail_for_good(lease, "no").await),
                "snoozed" => drop(zombie.snooze(lease, HOUR_MS).await),
                "released" => drop(zombie.release(lease).await),
                "cancelled" => drop(fixture.store.cancel(&[id], "enough").await.unwrap()),
                _ => {}
            }
            let speaker = if ended == "open" { &other } else { &zombie };
            let accepted = match what {
                "completion" => speaker.complete(lease).await != SettleAnswer::Stale,
                "failure" => speaker.fail(lease, "late").await != SettleAnswer::Stale,
                "snooze" => speaker.snooze(lease, HOUR_MS).await != SettleAnswer::Stale,
                "release" => speaker.release(lease).await != SettleAnswer::Stale,
                _ => speaker.progress(lease, "late").await,
            };
            let repeated = ["completion", "failure", "snooze", "release"].get(n) == Some(&what);
            assert_eq!(accepted, repeated, "{what} after it {ended}");
            let refused = fixture.attempts(id).await.into_iter().find(|it| it.outcome == AttemptOutcome::Refused);
            let told = refused.map(|it| it.error);
            if repeated {
                assert_eq!(told, None);
            } else if ended == "open" {
                assert_eq!(told.unwrap(), format!("{what} refused: the lease belongs to session {}", zombie.id));
            } else {
                let told = told.unwrap();
                let start = format!("{what} refused: the lease of session {} ended at 20", zombie.id);
                assert!(told.starts_with(&start) && told.ends_with(&format!("Z ({ended})")), "{told}");
            }
            fixture.store.cancel(&[id], "").await.unwrap();
        }
    }
}

async fn of_a_job_that_is_gone_nothing_is_recorded(fixture: &StoreFixture) {
    let id = fixture.submit(job("w")).await;
    let session = fixture.session("w").await;
    let lease = session.acquire_one().await.lease;
    fixture.store.cancel(&[id], "").await.unwrap();
    fixture.store.delete(&[id]).await.unwrap();
    fixture.store.end_session(session.id).await.unwrap();
    for ending in ENDINGS {
        assert_eq!(session.end(lease, ending).await, SettleAnswer::Stale);
    }
    assert!(!session.progress(lease, "half").await);
    assert!(!session.progress(LeaseId { claim_id: Uuid::from_u128(1), job_id: id }, "half").await);
    assert_eq!((fixture.find(id).await, fixture.attempts(id).await), (None, Vec::new()));
    assert_eq!(fixture.number("SELECT count(*) FROM attempts").await, 0);
}

async fn every_attempt_has_a_lease_of_its_own(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 5)).await;
    let session = fixture.session("w").await;
    let mut leases = std::collections::HashSet::new();
    for _ in 0..4 {
        let leased = session.acquire(5).await;
        assert_eq!(leased.len(), 5);
        for leased in leased {
            assert!(leases.insert(leased.lease), "{:?} came twice", leased.lease);
            session.release(leased.lease).await;
        }
    }
}
