//! Quarantine: a damaged row does not prevent the rescue of others.

use jobqueue_shared::{
    lease::LeaseId,
    retry::RetryPolicy,
    state::{Ending, FailureReason, State},
};
use jobqueue_store::{
    AttemptOutcome, NewJob, NewSession, Rescued, SessionState, SettleAnswer, Settlement, settle_group,
};
use jobqueue_tests::{database::Driver, poll::eventually};

use crate::{
    scenarios,
    session_client::Session,
    store_fixture::{HOUR_MS, StoreFixture, job, jobs, session},
};

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

impl StoreFixture {
    /// Makes the claims of these jobs unreadable; [`StoreFixture::mend`] restores them.
    async fn break_claims(&self, leases: &[LeaseId]) {
        let hex: Vec<_> = leases.iter().map(|lease| lease.claim_id.simple().to_string()).collect();
        let sqlite = hex.iter().map(|hex| format!("x'{hex}'")).collect::<Vec<_>>().join(",");
        let postgres = hex.iter().map(|hex| format!("'{hex}'")).collect::<Vec<_>>().join(",");
        self.sql(
            &format!(
                "CREATE TABLE sound AS SELECT id, entries FROM claims WHERE id IN ({sqlite});
                 UPDATE claims SET entries = x'deadbeef' WHERE id IN ({sqlite})"
            ),
            &format!(
                r"CREATE TABLE sound AS SELECT id, entries FROM claims WHERE id IN ({postgres});
                  UPDATE claims SET entries = '\xdeadbeef' WHERE id IN ({postgres})"
            ),
        )
        .await;
    }

    async fn mend(&self) {
        let mend = "UPDATE claims SET entries = (SELECT entries FROM sound WHERE sound.id = claims.id)
                    WHERE id IN (SELECT id FROM sound)";
        self.sql(mend, mend).await;
    }

    /// Sessions with one job each that send no heartbeats; the job of the first is the oldest.
    async fn doomed_with_one_each(&self, count: usize) -> Vec<(Session, LeaseId)> {
        let mut expiring_session = Vec::new();
        for _ in 0..count {
            let (session, leased) = self.expiring_session(session("w"), 1).await;
            assert_eq!(leased.len(), 1);
            expiring_session.push((session, leased[0].lease));
        }
        eventually("every lease has run out", async || {
            let sessions = self.sessions(None).await;
            sessions.iter().all(|session| session.state == SessionState::Expired).then_some(())
        })
        .await;
        expiring_session
    }
}

/// Calls rescue `turns` times with the smallest limit; returns the sum of the answers.
async fn rescue_one_by_one(fixture: &StoreFixture, turns: usize) -> Rescued {
    let mut all = Rescued::default();
    for _ in 0..turns {
        let rescued = fixture.store.rescue(1).await.unwrap();
        all.sessions += rescued.sessions;
        all.lost += rescued.lost;
        all.timed_out += rescued.timed_out;
    }
    all
}

async fn a_claim_that_cannot_be_read_keeps_no_other_of_its_session(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 200)).await;
    let (lost, leased) = fixture.expiring_session(NewSession { slots: 200, ..session("w") }, 200).await;
    assert_eq!(leased.len(), 200);
    // One of the session's four claims is damaged.
    fixture.break_claims(&[leased[70].lease]).await;
    fixture.rescue_until(136, 0).await;
    assert_eq!(fixture.session_state(lost.id).await, SessionState::Lost);
    assert_eq!(fixture.tally("w").await, [136, 64, 0, 0, 0]);
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| !(64..128).contains(n)) {
        let job = fixture.get(*id).await;
        assert_eq!((job.state, job.attempts_used), (State::Pending, 1), "job {n}");
    }
    assert_eq!(fixture.store.rescue(1_000).await.unwrap(), Rescued::default(), "it is not tried again and again");
    fixture.mend().await;
    // Another server, or this one later, rescues the rest, and still charges by all that the session held.
    if fixture.driver != Driver::Sqlite {
        let second = fixture.second_store().await;
        assert_eq!(second.rescue(1_000).await.unwrap().lost, 64);
        assert_eq!(fixture.get(ids[100]).await.attempts_used, 1);
    }
}

async fn sessions_with_nothing_but_broken_claims_do_not_starve_those_behind_them(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 8)).await;
    let expiring_session = fixture.doomed_with_one_each(8).await;
    let leases: Vec<_> = expiring_session.iter().map(|(_, lease)| *lease).collect();
    fixture.break_claims(&leases[..6]).await;
    // Each call reads one row only; six of the rows are damaged.
    let rescued = rescue_one_by_one(fixture, 10).await;
    assert_eq!((rescued.sessions, rescued.lost), (8, 2), "{rescued:?}");
    for (session, _) in &expiring_session {
        assert_eq!(fixture.session_state(session.id).await, SessionState::Lost, "it is over, whatever it held");
    }
    let states: Vec<_> = {
        let ids: Vec<_> = leases[6..].iter().map(|lease| lease.job_id).collect();
        fixture.states(&ids).await
    };
    assert_eq!(states, [State::Pending, State::Pending]);
    fixture.mend().await;
}

async fn late_claims_that_cannot_be_read_do_not_starve_those_behind_them(fixture: &StoreFixture) {
    let timed = NewJob { attempt_timeout_ms: Some(1), ..job("w") };
    fixture.submit_all(vec![timed; 6]).await;
    let holder = fixture.session("w").await;
    let mut leases = Vec::new();
    for _ in 0..6 {
        leases.push(holder.acquire_next().await.lease);
        fixture.pass(fixture.now_ms().await).await;
    }
    fixture.break_claims(&leases[..5]).await;
    let (lost, leased) = {
        fixture.submit(job("x")).await;
        fixture.expiring_session(session("x"), 1).await
    };
    assert_eq!(leased.len(), 1);
    eventually("its lease has run out", async || {
        (fixture.session_state(lost.id).await == SessionState::Expired).then_some(())
    })
    .await;
    let rescued = rescue_one_by_one(fixture, 8).await;
    assert_eq!((rescued.timed_out, rescued.lost), (1, 1), "{rescued:?}");
    assert_eq!(fixture.state(leases[5].job_id).await, State::Pending);
    assert_eq!(fixture.tally("x").await, [1, 0, 0, 0, 0], "nor do they keep lost sessions");
    assert!(holder.beat().await.is_some());
    fixture.mend().await;
}

async fn a_job_whose_place_is_taken_keeps_no_other(fixture: &StoreFixture) {
    // Several claims, of one session and of two others.
    let ids = fixture.submit_all(jobs("w", 202)).await;
    let (_, leased) = fixture.expiring_session(NewSession { slots: 200, ..session("w") }, 200).await;
    assert_eq!(leased.len(), 200);
    let others = [fixture.expiring_session(session("w"), 1).await, fixture.expiring_session(session("w"), 1).await];
    assert!(others.iter().all(|(_, leased)| leased.len() == 1));
    // The job cannot become pending, because the database has a ready row of it already.
    let hex = ids[3].simple();
    let ready =
        "(worker_id, id, priority, run_at, run_no, attempts_used, payload_bytes, enqueued_at, waits_for_handler)";
    fixture
        .sql(
            &format!("INSERT INTO ready {ready} VALUES ('v', x'{hex}', 5, 0, 1, 1, 2, 0, false)"),
            &format!("INSERT INTO ready {ready} VALUES ('v', '{hex}', 5, 0, 1, 1, 2, 0, false)"),
        )
        .await;
    fixture.rescue_until(202 - 64, 0).await;
    assert_eq!(fixture.tally("w").await, [202 - 64, 64, 0, 0, 0]);
    assert_eq!(fixture.store.rescue(1_000).await.unwrap(), Rescued::default(), "the rest was done");
    fixture.sql("DELETE FROM ready WHERE worker_id = 'v'", "DELETE FROM ready WHERE worker_id = 'v'").await;
    assert_eq!(fixture.store.rescue(1_000).await.unwrap(), Rescued::default(), "it is left out for a minute");
}

async fn a_retry_policy_that_cannot_be_read_keeps_no_job(fixture: &StoreFixture) {
    let policy = RetryPolicy { initial_ms: HOUR_MS, factor: 1.0, max_ms: HOUR_MS, jitter: 0.0 };
    let ids = fixture.submit_all(vec![NewJob { retry: Some(policy), max_retries: 1, ..job("w") }; 3]).await;
    let (_, leased) = fixture.expiring_session(session("w"), 3).await;
    assert_eq!(leased.len(), 3);
    let hex = ids[1].simple();
    fixture
        .sql(
            &format!("UPDATE jobs SET retry = '{{' WHERE id = x'{hex}'"),
            &format!("UPDATE jobs SET retry = '{{' WHERE id = '{hex}'"),
        )
        .await;
    fixture.rescue_until(3, 0).await;
    assert_eq!(fixture.tally("w").await, [0, 0, 0, 3, 0]);
    assert_eq!(fixture.get(ids[2]).await.failure, Some(FailureReason::WorkerLost));
    fixture.sql("UPDATE jobs SET retry = NULL", "UPDATE jobs SET retry = NULL").await;
    fixture.sql("UPDATE dead_letters SET retry = NULL", "UPDATE dead_letters SET retry = NULL").await;
}

async fn a_deadline_that_is_wrong_is_mended(fixture: &StoreFixture) {
    let ids = fixture.submit_all(vec![NewJob { attempt_timeout_ms: Some(HOUR_MS), ..job("w") }, job("w")]).await;
    let session = fixture.session("w").await;
    assert_eq!(session.acquire(2).await.len(), 2);
    fixture.sql("UPDATE claims SET deadline = 1", "UPDATE claims SET deadline = 1").await;
    assert_eq!(fixture.store.rescue(1).await.unwrap(), Rescued::default(), "no attempt is late");
    assert_eq!(fixture.states(&ids).await, [State::Running, State::Running]);
    assert_eq!(
        fixture.number("SELECT count(*) FROM claims WHERE deadline = 1").await,
        0,
        "it would starve what is late"
    );
}

async fn a_claim_that_cannot_be_read_keeps_no_neighbours_outcome(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 3)).await;
    let session = fixture.session("w").await;
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(session.acquire_next().await.lease);
    }
    fixture.break_claims(&leases[1..2]).await;
    let settlements: Vec<_> = leases.iter().map(|lease| session.settlement(*lease, Ending::Complete)).collect();
    let answers = fixture.store.settle(&settlements).await.unwrap();
    let done = SettleAnswer::Accepted(State::Done);
    assert_eq!(answers, [done, SettleAnswer::Stale, done]);
    fixture.mend().await;
    assert_eq!(session.complete(leases[1]).await, done, "it has not ended");
    assert_eq!(fixture.states(&ids).await, [State::Done; 3]);
}

async fn a_session_with_a_broken_claim_ends_all_the_same(fixture: &StoreFixture) {
    fixture.submit_all(jobs("w", 4)).await;
    for declared in [false, true] {
        let holder = fixture.session("w").await;
        let leases = [holder.acquire_next().await.lease, holder.acquire_next().await.lease];
        fixture.break_claims(&leases[..1]).await;
        if declared {
            fixture.register(NewSession { predecessors: vec![holder.id], ..session("w") }).await;
        } else {
            assert_eq!(fixture.store.end_session(holder.id).await.unwrap().as_deref(), Some("w"));
        }
        assert_eq!(holder.beat().await, None);
        assert_eq!(fixture.state(leases[1].job_id).await, State::Pending);
        let outcome = if declared { AttemptOutcome::Lost } else { AttemptOutcome::Released };
        assert_eq!(fixture.outcomes(leases[1].job_id).await, [(1, outcome)]);
        assert_eq!(fixture.store.session(holder.id).await.unwrap().unwrap().held.len(), 2, "it shows both");
        fixture.mend().await;
        fixture.sql("DROP TABLE sound", "DROP TABLE sound").await;
        fixture.store.cancel(&[leases[1].job_id], "").await.unwrap();
    }
}

async fn claims_without_a_session_are_taken_back(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 3)).await;
    let holder = fixture.session("w").await;
    assert_eq!(holder.acquire(2).await.len(), 2);
    fixture.sql("DELETE FROM sessions", "DELETE FROM sessions").await;
    fixture.rescue_until(2, 0).await;
    assert_eq!(fixture.states(&ids).await, [State::Pending; 3]);
    assert_eq!(fixture.get(ids[0]).await.last_error, format!("worker lost: session {} is gone", holder.id));
}

async fn an_outcome_that_the_database_refuses_keeps_no_neighbours_from_ending(fixture: &StoreFixture) {
    fixture
        .sql(
            "CREATE TRIGGER refuse BEFORE INSERT ON attempts WHEN NEW.error LIKE '%unstorable%'
         BEGIN SELECT RAISE(ABORT, 'no such character'); END",
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'no such character' USING ERRCODE = '22P05'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON attempts FOR EACH ROW WHEN (NEW.error LIKE '%unstorable%')
         EXECUTE FUNCTION refuse()",
        )
        .await;
    fixture.submit_all(jobs("w", 11)).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(11).await;
    let bad = leased[4].lease;
    let fail = |text: &str| Settlement {
        text: text.to_owned(),
        ..session.settlement(bad, Ending::Fail { permanent: true, retry_after_ms: None })
    };
    let mut items: Vec<_> = leased.iter().map(|it| session.settlement(it.lease, Ending::Complete)).collect();
    items[4] = fail("unstorable");
    let answers = settle_group(&*fixture.store, &items).await.unwrap();
    for (n, answer) in answers.iter().enumerate() {
        let expected = if n == 4 { SettleAnswer::Unstorable } else { SettleAnswer::Accepted(State::Done) };
        assert_eq!(*answer, expected, "{n}");
    }
    assert_eq!(fixture.state(bad.job_id).await, State::Running);
    // Alone it is refused as well, and an outcome with another text is accepted.
    assert_eq!(settle_group(&*fixture.store, &items[4..5]).await.unwrap(), [SettleAnswer::Unstorable]);
    let again = settle_group(&*fixture.store, &[fail("another text")]).await.unwrap();
    assert_eq!(again, [SettleAnswer::Accepted(State::Failed)]);
}
