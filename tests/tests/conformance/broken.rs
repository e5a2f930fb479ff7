//! A row that makes no sense keeps no other from being rescued.

use crate::{
    bed::{Bed, HOUR_MS, job, jobs, session},
    scenarios,
    session::Session,
};
use jobqueue_server::store::{
    AttemptOutcome, NewJob, NewSession, Rescued, SessionState, SettleAnswer, Settlement, settle_group,
};
use jobqueue_shared::{
    lease::LeaseId,
    retry::RetryPolicy,
    state::{Ending, FailureReason, State},
};
use jobqueue_tests::{database::Driver, poll::eventually};

scenarios!(
    a_claim_that_cannot_be_read_keeps_no_other_of_its_session,
    sessions_with_nothing_but_broken_claims_do_not_starve_those_behind_them,
    late_claims_that_cannot_be_read_do_not_starve_those_behind_them,
    a_job_whose_place_is_taken_keeps_no_other,
    a_retry_policy_that_cannot_be_read_keeps_no_job,
    a_deadline_that_is_wrong_is_mended,
    a_claim_that_cannot_be_read_keeps_no_neighbours_outcome,
    a_session_with_a_broken_claim_ends_all_the_same,
    claims_without_a_session_are_taken_back,
    an_outcome_that_the_database_refuses_keeps_no_neighbours_from_ending,
);

impl Bed {
    /// Makes the claims of these jobs unreadable; [`Bed::mend`] puts them right again.
    async fn break_claims(&self, leases: &[LeaseId]) {
        let hex: Vec<_> = leases.iter().map(|lease| lease.claim_id.simple().to_string()).collect();
        let sqlite = hex.iter().map(|hex| format!("x'{hex}'")).collect::<Vec<_>>().join(",");
        let postgres = hex.iter().map(|hex| format!("'{hex}'")).collect::<Vec<_>>().join(",");
        self.sql(
            &format!(
                "CREATE TABLE sound AS SELECT id, places FROM claims WHERE id IN ({sqlite});
                 UPDATE claims SET places = x'deadbeef' WHERE id IN ({sqlite})"
            ),
            &format!(
                r"CREATE TABLE sound AS SELECT id, places FROM claims WHERE id IN ({postgres});
                  UPDATE claims SET places = '\xdeadbeef' WHERE id IN ({postgres})"
            ),
        )
        .await;
    }

    async fn mend(&self) {
        let mend = "UPDATE claims SET places = (SELECT places FROM sound WHERE sound.id = claims.id)
                    WHERE id IN (SELECT id FROM sound)";
        self.sql(mend, mend).await;
    }

    /// Sessions of one job each, that are not heard of again; the job of the first is the oldest.
    async fn doomed_with_one_each(&self, count: usize) -> Vec<(Session, LeaseId)> {
        let mut doomed = Vec::new();
        for _ in 0..count {
            let (session, leased) = self.doomed(session("w"), 1).await;
            assert_eq!(leased.len(), 1);
            doomed.push((session, leased[0].lease));
        }
        eventually("every lease has run out", async || {
            let sessions = self.sessions(None).await;
            sessions.iter().all(|session| session.state == SessionState::Expired).then_some(())
        })
        .await;
        doomed
    }
}

/// Turns of rescue with the smallest limit, until it says that there is no more; at most `turns`.
async fn rescue_one_by_one(bed: &Bed, turns: usize) -> Rescued {
    let mut all = Rescued::default();
    for _ in 0..turns {
        let rescued = bed.store.rescue(1).await.unwrap();
        all.sessions += rescued.sessions;
        all.lost += rescued.lost;
        all.timed_out += rescued.timed_out;
    }
    all
}

async fn a_claim_that_cannot_be_read_keeps_no_other_of_its_session(bed: &Bed) {
    let ids = bed.submit_all(jobs("w", 200)).await;
    let (lost, leased) = bed.doomed(NewSession { slots: 200, ..session("w") }, 200).await;
    assert_eq!(leased.len(), 200);
    // One of four rows.
    bed.break_claims(&[leased[70].lease]).await;
    bed.rescue_until(136, 0).await;
    assert_eq!(bed.session_state(lost.id).await, SessionState::Lost);
    assert_eq!(bed.tally("w").await, [136, 64, 0, 0, 0]);
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| !(64..128).contains(n)) {
        let job = bed.get(*id).await;
        assert_eq!((job.state, job.attempts_used), (State::Pending, 1), "job {n}");
    }
    assert_eq!(bed.store.rescue(1_000).await.unwrap(), Rescued::default(), "it is not tried again and again");
    bed.mend().await;
    // Another server, or this one later, gets on with it, and still charges by all that the session held.
    if bed.driver != Driver::Sqlite {
        let second = bed.second_store().await;
        assert_eq!(second.rescue(1_000).await.unwrap().lost, 64);
        assert_eq!(bed.get(ids[100]).await.attempts_used, 1);
    }
}

async fn sessions_with_nothing_but_broken_claims_do_not_starve_those_behind_them(bed: &Bed) {
    bed.submit_all(jobs("w", 8)).await;
    let doomed = bed.doomed_with_one_each(8).await;
    let leases: Vec<_> = doomed.iter().map(|(_, lease)| *lease).collect();
    bed.break_claims(&leases[..6]).await;
    // A turn looks at one row only; six of them make no sense.
    let rescued = rescue_one_by_one(bed, 10).await;
    assert_eq!((rescued.sessions, rescued.lost), (8, 2), "{rescued:?}");
    for (session, _) in &doomed {
        assert_eq!(bed.session_state(session.id).await, SessionState::Lost, "it is over, whatever it held");
    }
    let states: Vec<_> = {
        let ids: Vec<_> = leases[6..].iter().map(|lease| lease.job_id).collect();
        bed.states(&ids).await
    };
    assert_eq!(states, [State::Pending, State::Pending]);
    bed.mend().await;
}

async fn late_claims_that_cannot_be_read_do_not_starve_those_behind_them(bed: &Bed) {
    let timed = NewJob { attempt_timeout_ms: Some(1), ..job("w") };
    bed.submit_all(vec![timed; 6]).await;
    let holder = bed.session("w").await;
    let mut leases = Vec::new();
    for _ in 0..6 {
        leases.push(holder.acquire_next().await.lease);
        bed.pass(bed.now_ms().await).await;
    }
    bed.break_claims(&leases[..5]).await;
    let (lost, leased) = {
        bed.submit(job("x")).await;
        bed.doomed(session("x"), 1).await
    };
    assert_eq!(leased.len(), 1);
    eventually("its lease has run out", async || {
        (bed.session_state(lost.id).await == SessionState::Expired).then_some(())
    })
    .await;
    let rescued = rescue_one_by_one(bed, 8).await;
    assert_eq!((rescued.timed_out, rescued.lost), (1, 1), "{rescued:?}");
    assert_eq!(bed.state(leases[5].job_id).await, State::Pending);
    assert_eq!(bed.tally("x").await, [1, 0, 0, 0, 0], "nor do they keep lost sessions");
    assert!(holder.beat().await.is_some());
    bed.mend().await;
}

async fn a_job_whose_place_is_taken_keeps_no_other(bed: &Bed) {
    // Several rows, of one session and of two others.
    let ids = bed.submit_all(jobs("w", 202)).await;
    let (_, leased) = bed.doomed(NewSession { slots: 200, ..session("w") }, 200).await;
    assert_eq!(leased.len(), 200);
    let others = [bed.doomed(session("w"), 1).await, bed.doomed(session("w"), 1).await];
    assert!(others.iter().all(|(_, leased)| leased.len() == 1));
    // It cannot become pending: it is, so the database says.
    let hex = ids[3].simple();
    let ready = "(worker_id, id, priority, run_at, run_no, used, payload_bytes, since, waits_for_handler)";
    bed.sql(
        &format!("INSERT INTO ready {ready} VALUES ('v', x'{hex}', 5, 0, 1, 1, 2, 0, false)"),
        &format!("INSERT INTO ready {ready} VALUES ('v', '{hex}', 5, 0, 1, 1, 2, 0, false)"),
    )
    .await;
    bed.rescue_until(202 - 64, 0).await;
    assert_eq!(bed.tally("w").await, [202 - 64, 64, 0, 0, 0]);
    assert_eq!(bed.store.rescue(1_000).await.unwrap(), Rescued::default(), "it is not tried again and again");
    bed.sql("DELETE FROM ready WHERE worker_id = 'v'", "DELETE FROM ready WHERE worker_id = 'v'").await;
}

async fn a_retry_policy_that_cannot_be_read_keeps_no_job(bed: &Bed) {
    let policy = RetryPolicy { initial_ms: HOUR_MS, factor: 1.0, max_ms: HOUR_MS, jitter: 0.0 };
    let ids = bed.submit_all(vec![NewJob { retry: Some(policy), max_retries: 1, ..job("w") }; 3]).await;
    let (_, leased) = bed.doomed(session("w"), 3).await;
    assert_eq!(leased.len(), 3);
    let hex = ids[1].simple();
    bed.sql(
        &format!("UPDATE jobs SET retry = '{{' WHERE id = x'{hex}'"),
        &format!("UPDATE jobs SET retry = '{{' WHERE id = '{hex}'"),
    )
    .await;
    bed.rescue_until(3, 0).await;
    assert_eq!(bed.tally("w").await, [0, 0, 0, 3, 0]);
    assert_eq!(bed.get(ids[2]).await.failure, Some(FailureReason::WorkerLost));
    bed.sql("UPDATE jobs SET retry = NULL", "UPDATE jobs SET retry = NULL").await;
    bed.sql("UPDATE dead_letters SET retry = NULL", "UPDATE dead_letters SET retry = NULL").await;
}

async fn a_deadline_that_is_wrong_is_mended(bed: &Bed) {
    let ids = bed.submit_all(vec![NewJob { attempt_timeout_ms: Some(HOUR_MS), ..job("w") }, job("w")]).await;
    let session = bed.session("w").await;
    assert_eq!(session.acquire(2).await.len(), 2);
    bed.sql("UPDATE claims SET deadline = 1", "UPDATE claims SET deadline = 1").await;
    assert_eq!(bed.store.rescue(1).await.unwrap(), Rescued::default(), "no attempt is late");
    assert_eq!(bed.states(&ids).await, [State::Running, State::Running]);
    assert_eq!(bed.number("SELECT count(*) FROM claims WHERE deadline = 1").await, 0, "it would starve what is late");
}

async fn a_claim_that_cannot_be_read_keeps_no_neighbours_outcome(bed: &Bed) {
    let ids = bed.submit_all(jobs("w", 3)).await;
    let session = bed.session("w").await;
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(session.acquire_next().await.lease);
    }
    bed.break_claims(&leases[1..2]).await;
    let settlements: Vec<_> = leases.iter().map(|lease| session.settlement(*lease, Ending::Complete)).collect();
    let answers = bed.store.settle(&settlements).await.unwrap();
    let done = SettleAnswer::Accepted(State::Done);
    assert_eq!(answers, [done, SettleAnswer::Stale, done]);
    bed.mend().await;
    assert_eq!(session.complete(leases[1]).await, done, "it has not ended");
    assert_eq!(bed.states(&ids).await, [State::Done; 3]);
}

async fn a_session_with_a_broken_claim_ends_all_the_same(bed: &Bed) {
    bed.submit_all(jobs("w", 4)).await;
    for declared in [false, true] {
        let holder = bed.session("w").await;
        let leases = [holder.acquire_next().await.lease, holder.acquire_next().await.lease];
        bed.break_claims(&leases[..1]).await;
        if declared {
            bed.register(NewSession { predecessors: vec![holder.id], ..session("w") }).await;
        } else {
            assert_eq!(bed.store.end_session(holder.id).await.unwrap().as_deref(), Some("w"));
        }
        assert_eq!(holder.beat().await, None);
        assert_eq!(bed.state(leases[1].job_id).await, State::Pending);
        let outcome = if declared { AttemptOutcome::Lost } else { AttemptOutcome::Released };
        assert_eq!(bed.outcomes(leases[1].job_id).await, [(1, outcome)]);
        assert_eq!(bed.store.session(holder.id).await.unwrap().unwrap().held.len(), 2, "it shows both");
        bed.mend().await;
        bed.sql("DROP TABLE sound", "DROP TABLE sound").await;
        bed.store.cancel(&[leases[1].job_id], "").await.unwrap();
    }
}

async fn claims_without_a_session_are_taken_back(bed: &Bed) {
    let ids = bed.submit_all(jobs("w", 3)).await;
    let holder = bed.session("w").await;
    assert_eq!(holder.acquire(2).await.len(), 2);
    bed.sql("DELETE FROM sessions", "DELETE FROM sessions").await;
    bed.rescue_until(2, 0).await;
    assert_eq!(bed.states(&ids).await, [State::Pending; 3]);
    assert_eq!(bed.get(ids[0]).await.last_error, format!("worker lost: session {} is gone", holder.id));
}

async fn an_outcome_that_the_database_refuses_keeps_no_neighbours_from_ending(bed: &Bed) {
    bed.sql(
        "CREATE TRIGGER refuse BEFORE INSERT ON attempts WHEN NEW.error LIKE '%unstorable%'
         BEGIN SELECT RAISE(ABORT, 'no such character'); END",
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'no such character' USING ERRCODE = '22P05'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON attempts FOR EACH ROW WHEN (NEW.error LIKE '%unstorable%')
         EXECUTE FUNCTION refuse()",
    )
    .await;
    bed.submit_all(jobs("w", 11)).await;
    let session = bed.session("w").await;
    let leased = session.acquire(11).await;
    let bad = leased[4].lease;
    let fail = |text: &str| Settlement {
        text: text.to_owned(),
        ..session.settlement(bad, Ending::Fail { permanent: true, retry_after_ms: None })
    };
    let mut items: Vec<_> = leased.iter().map(|it| session.settlement(it.lease, Ending::Complete)).collect();
    items[4] = fail("unstorable");
    let answers = settle_group(&*bed.store, &items).await.unwrap();
    for (n, answer) in answers.iter().enumerate() {
        let expected = if n == 4 { SettleAnswer::Refused } else { SettleAnswer::Accepted(State::Done) };
        assert_eq!(*answer, expected, "{n}");
    }
    assert_eq!(bed.state(bad.job_id).await, State::Running);
    // Alone it is refused as well, and another text ends it.
    assert_eq!(settle_group(&*bed.store, &items[4..5]).await.unwrap(), [SettleAnswer::Refused]);
    let again = settle_group(&*bed.store, &[fail("another text")]).await.unwrap();
    assert_eq!(again, [SettleAnswer::Accepted(State::Failed)]);
}
