//! Operations: their starts, steps, counts and ends.

use std::sync::Arc;

use jobqueue_shared::{limits, state::State};
use jobqueue_store::{
    AttemptOutcome, Change, NewJob, NewOperation, OperationRecord, OperationStarted, OperationState, Outcomes, Refusal,
    Remember, Retention, Start, Step, StepAnswer, Stepped, Store, Then,
};
use uuid::Uuid;

use crate::{
    scenarios,
    session_client::Session,
    store_fixture::{HOUR_MS, KEEP_NOTHING, StoreFixture, job, jobs},
};

scenarios!(
    a_repeated_start_gives_the_first_operation,
    operations_are_listed_newest_first_page_by_page,
    a_step_changes_jobs_and_counts_them_at_once,
    a_step_of_anyone_but_the_runner_changes_nothing,
    an_operation_has_one_runner_until_its_lease_runs_out,
    a_job_that_failed_again_is_not_retried_twice,
    a_cancellation_finds_jobs_that_begin_to_run_and_spares_those_that_a_person_retried,
    a_deletion_leaves_nothing_and_spares_its_neighbours,
    a_new_priority_holds_for_later_attempts,
    a_rescheduled_job_waits_until_its_time,
    a_job_is_not_changed_twice_by_one_operation,
    an_operation_pauses_goes_on_and_ends,
    the_first_hundred_refusals_are_kept,
    the_outcome_of_a_canary_is_known,
    a_rate_is_kept_by_the_databases_clock,
    operations_beside_settles_count_every_job_once,
    operations_are_kept_for_their_retention,
);

const LEASE_MS: i64 = HOUR_MS;

fn new(request_id: Option<&str>, spec: &str) -> NewOperation {
    NewOperation {
        request_id: request_id.map(str::to_owned),
        request_hash: [spec.len() as u8; 32],
        spec: spec.as_bytes().to_vec(),
        brief: b"brief".to_vec(),
        caller: "10.0.0.7".to_owned(),
        total: Some((3, true)),
    }
}

/// A runner of one operation.
struct Runner {
    store: Arc<dyn Store>,
    id: Uuid,
    token: Uuid,
    started_ms: i64,
}

impl Runner {
    /// Starts an operation, and claims it.
    async fn start(fixture: &StoreFixture) -> Self {
        let OperationStarted::New(record) = fixture.store.start_operation(&new(None, "spec")).await.unwrap() else {
            panic!()
        };
        let token = Uuid::new_v4();
        let claimed = fixture.store.claim_operation(token, LEASE_MS).await.unwrap().expect("it is free");
        assert_eq!((claimed.record.id, claimed.wait_ms, claimed.spec.as_slice()), (record.id, 0, b"spec".as_slice()));
        Self { store: Arc::clone(&fixture.store), id: record.id, token, started_ms: record.started_at_ms }
    }

    fn step(&self, change: Change, ids: &[Uuid]) -> Step {
        Step {
            operation_id: self.id,
            token: self.token,
            lease_ms: LEASE_MS,
            change,
            ids: ids.to_vec(),
            covers_until_ms: self.started_ms,
            rate: None,
            remember: Remember::default(),
            progress: "here".to_owned(),
            then: Then::GoOn,
        }
    }

    async fn try_take(&self, step: &Step) -> StepAnswer {
        self.store.step_operation(step).await.unwrap()
    }

    async fn take(&self, step: &Step) -> Stepped {
        match self.try_take(step).await {
            StepAnswer::Stepped(stepped) => stepped,
            StepAnswer::NotRunner => panic!("it is the runner"),
        }
    }

    async fn change(&self, change: Change, ids: &[Uuid]) -> Stepped {
        self.take(&self.step(change, ids)).await
    }

    async fn record(&self) -> OperationRecord {
        self.store.operation(self.id).await.unwrap().expect("the operation").0
    }

    async fn refusals(&self) -> Vec<Refusal> {
        self.store.operation(self.id).await.unwrap().expect("the operation").1
    }

    async fn move_to(&self, from: &[OperationState], to: OperationState) -> bool {
        let moved = self.store.move_operation(self.id, from, to, "a note").await.unwrap();
        moved.expect("the operation").0
    }
}

fn retry() -> Change {
    Change::Retry { text: "by operation".to_owned() }
}

fn cancel(of_all: bool) -> Change {
    Change::Cancel { reason: "no need".to_owned(), of_all }
}

/// Makes dead letters of one worker_id.
async fn dead_letters(fixture: &StoreFixture, worker_id: &str, number: usize) -> Vec<Uuid> {
    let ids = fixture.submit_all(jobs(worker_id, number)).await;
    fail_all(&fixture.session(worker_id).await, number).await;
    ids
}

async fn fail_all(session: &Session, number: usize) {
    let leased = session.acquire(number as u32).await;
    assert_eq!(leased.len(), number);
    for leased in leased {
        session.fail_for_good(leased.lease, "it cannot work").await;
    }
}

async fn a_repeated_start_gives_the_first_operation(fixture: &StoreFixture) {
    let before = fixture.now_ms().await;
    let OperationStarted::New(first) = fixture.store.start_operation(&new(Some("k"), "spec")).await.unwrap() else {
        panic!()
    };
    let after = fixture.now_ms().await;
    assert!((before..=after).contains(&first.started_at_ms), "by the database's clock");
    assert_eq!((first.state, first.changed, first.refused), (OperationState::Running, 0, 0));
    assert_eq!(first.brief, b"brief");
    assert_eq!((first.total, first.total_is_floor, first.caller.as_str()), (Some(3), true, "10.0.0.7"));
    assert_eq!((first.finished_at_ms, first.progress.as_str(), first.note.as_str()), (None, "", ""));
    let again = fixture.second_store().await.start_operation(&new(Some("k"), "spec")).await.unwrap();
    assert!(matches!(again, OperationStarted::Existing(record) if record == first));
    let other = fixture.store.start_operation(&new(Some("k"), "another spec")).await.unwrap();
    assert!(matches!(other, OperationStarted::KeyConflict(id) if id == first.id));
    for _ in 0..2 {
        let unnamed = fixture.store.start_operation(&new(None, "spec")).await.unwrap();
        assert!(matches!(unnamed, OperationStarted::New(_)), "without a request_id each start is its own");
    }
    assert_eq!(fixture.store.operations(None, 10).await.unwrap().len(), 3);
    assert_eq!(fixture.store.operation(Uuid::now_v7()).await.unwrap(), None);
}

async fn operations_are_listed_newest_first_page_by_page(fixture: &StoreFixture) {
    let mut ids = Vec::new();
    for _ in 0..5 {
        let OperationStarted::New(record) = fixture.store.start_operation(&new(None, "spec")).await.unwrap() else {
            panic!()
        };
        ids.insert(0, record.id);
    }
    let (mut listed, mut before) = (Vec::new(), None);
    loop {
        let page = fixture.store.operations(before, 2).await.unwrap();
        assert!(page.len() <= 2);
        let Some(last) = page.last() else { break };
        before = Some(last.id);
        listed.extend(page.iter().map(|record| record.id));
    }
    assert_eq!(listed, ids);
}

async fn a_step_changes_jobs_and_counts_them_at_once(fixture: &StoreFixture) {
    let failed = dead_letters(fixture, "failed", 2).await;
    let cancelled = fixture.job_in(State::Cancelled, job("cancelled")).await;
    let pending = fixture.job_in(State::Pending, job("pending")).await;
    let done = fixture.job_in(State::Done, job("done")).await;
    let gone = Uuid::now_v7();
    let runner = Runner::start(fixture).await;
    let stepped = runner.change(retry(), &[failed[0], failed[1], cancelled, pending, done, gone]).await;
    assert_eq!((stepped.changed, stepped.refused, stepped.wait_ms), (3, 3, 0));
    let mut moved: Vec<_> = stepped.moved.iter().map(|job| (job.id, job.worker_id.as_str())).collect();
    moved.sort_unstable();
    let mut expected = vec![(failed[0], "failed"), (failed[1], "failed"), (cancelled, "cancelled")];
    expected.sort_unstable();
    assert_eq!(moved, expected);
    for id in [failed[0], failed[1], cancelled] {
        let job = fixture.get(id).await;
        assert_eq!((job.state, job.attempts_used), (State::Pending, 0));
        let history = fixture.attempts(id).await;
        let retried = history.iter().find(|it| it.outcome == AttemptOutcome::Retried).unwrap();
        assert_eq!(retried.error, "by operation");
    }
    let mut refusals = runner.refusals().await;
    refusals.sort_unstable_by_key(|it| it.job_id);
    let mut expected = vec![
        Refusal { job_id: pending, state: Some(State::Pending), later: false },
        Refusal { job_id: done, state: Some(State::Done), later: false },
        Refusal { job_id: gone, state: None, later: false },
    ];
    expected.sort_unstable_by_key(|it| it.job_id);
    assert_eq!(refusals, expected);
    let record = runner.record().await;
    assert_eq!((record.changed, record.refused, record.progress.as_str()), (3, 3, "here"));
    // A worker takes the retried jobs as any others.
    assert_eq!(fixture.session("failed").await.acquire(10).await.len(), 2);
}

async fn a_step_of_anyone_but_the_runner_changes_nothing(fixture: &StoreFixture) {
    let ids = dead_letters(fixture, "w", 3).await;
    let runner = Runner::start(fixture).await;
    let impostor = Step { token: Uuid::new_v4(), ..runner.step(retry(), &ids) };
    assert_eq!(runner.try_take(&impostor).await, StepAnswer::NotRunner);
    let unknown = Step { operation_id: Uuid::now_v7(), ..runner.step(retry(), &ids) };
    assert_eq!(runner.try_take(&unknown).await, StepAnswer::NotRunner);
    assert_eq!(fixture.states(&ids).await, [State::Failed; 3]);

    // The runner is slow: its lease runs out, and another one takes over.
    let expires = Step { lease_ms: -1, ..runner.step(retry(), &ids[..1]) };
    assert_eq!(runner.take(&expires).await.changed, 1);
    let second = fixture.second_store().await;
    let token = Uuid::new_v4();
    let claimed = second.claim_operation(token, LEASE_MS).await.unwrap().expect("its lease has run out");
    assert_eq!((claimed.record.id, claimed.record.changed), (runner.id, 1));
    assert_eq!(claimed.record.progress, "here", "it goes on where the first was");
    assert_eq!(runner.try_take(&runner.step(retry(), &ids)).await, StepAnswer::NotRunner);
    assert_eq!(fixture.states(&ids).await, [State::Pending, State::Failed, State::Failed]);
    let step = Step { token, ..runner.step(retry(), &ids[1..]) };
    let StepAnswer::Stepped(stepped) = second.step_operation(&step).await.unwrap() else { panic!() };
    assert_eq!((stepped.changed, stepped.refused), (3, 0));
}

async fn an_operation_has_one_runner_until_its_lease_runs_out(fixture: &StoreFixture) {
    let runner = Runner::start(fixture).await;
    let second = fixture.second_store().await;
    assert!(second.claim_operation(Uuid::new_v4(), LEASE_MS).await.unwrap().is_none());
    let release = Step { then: Then::Release, ..runner.step(retry(), &[]) };
    assert_eq!(runner.take(&release).await, Stepped::default());
    let stores = [&fixture.store, &second];
    let claims = futures::future::join_all((0..8).map(|n| stores[n % 2].claim_operation(Uuid::new_v4(), LEASE_MS)));
    let claims: Vec<_> = claims.await.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(claims.len(), 1, "of many runners one gets it");
}

async fn a_job_that_failed_again_is_not_retried_twice(fixture: &StoreFixture) {
    let ids = dead_letters(fixture, "w", 2).await;
    let runner = Runner::start(fixture).await;
    // A server's clock may be a little behind the database's.
    fixture.pass(runner.started_ms + 1_000).await;
    assert_eq!(runner.change(retry(), &ids[..1]).await.changed, 1);
    fail_all(&fixture.session("w").await, 1).await;
    fixture.store.retry(&ids[1..]).await.unwrap();
    fail_all(&fixture.session("w").await, 1).await;
    let stepped = runner.change(retry(), &ids).await;
    assert_eq!((stepped.changed, stepped.refused), (1, 2));
    assert_eq!(fixture.states(&ids).await, [State::Failed; 2]);
    let refusals = runner.refusals().await;
    assert!(refusals.iter().all(|it| it.later && it.state == Some(State::Failed)), "{refusals:?}");
}

async fn a_cancellation_finds_jobs_that_begin_to_run_and_spares_those_that_a_person_retried(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 3)).await;
    let dead = fixture.job_in(State::Failed, job("dead")).await;
    let runner = Runner::start(fixture).await;
    fixture.pass(runner.started_ms + 1_000).await;
    let session = fixture.session("w").await;
    let leased = session.acquire(1).await;
    assert_eq!(leased[0].job.id, ids[0], "it was pending at the start, and is cancelled all the same");
    fixture.store.retry(&[dead]).await.unwrap();
    let stepped = runner.change(cancel(true), &[ids[0], ids[1], dead]).await;
    assert_eq!((stepped.changed, stepped.refused), (2, 0), "a job that did not match at the start does not count");
    let stopped: Vec<_> = stepped.moved.iter().filter_map(|job| job.stopped).collect();
    assert_eq!(stopped, [session.id]);
    assert_eq!(session.beat().await.unwrap().stop.len(), 1);
    assert_eq!(fixture.states(&[ids[0], ids[1], dead]).await, [State::Cancelled, State::Cancelled, State::Pending]);
    assert_eq!(fixture.get(ids[1]).await.note, "no need");

    // A cancellation of pending jobs alone leaves those that run now.
    let leased = session.acquire(1).await;
    assert_eq!(leased[0].job.id, ids[2]);
    let stepped = runner.change(cancel(false), &ids[2..]).await;
    assert_eq!((stepped.changed, stepped.refused), (2, 1));
    assert_eq!(runner.refusals().await, [Refusal { job_id: ids[2], state: Some(State::Running), later: true }]);
    assert_eq!(fixture.state(ids[2]).await, State::Running);
}

async fn a_deletion_leaves_nothing_and_spares_its_neighbours(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 4)).await;
    let session = fixture.session("w").await;
    for leased in session.acquire(4).await {
        session.complete_with(leased.lease, "1").await;
    }
    let failed = fixture.job_in(State::Failed, job("failed")).await;
    let pending = fixture.job_in(State::Pending, job("pending")).await;
    let runner = Runner::start(fixture).await;
    let stepped = runner.change(Change::Delete, &[ids[0], ids[2], failed, pending]).await;
    assert_eq!((stepped.changed, stepped.refused), (3, 1));
    assert_eq!(runner.refusals().await, [Refusal { job_id: pending, state: Some(State::Pending), later: false }]);
    let left = fixture.store.get(&[ids[0], ids[1], ids[2], ids[3], failed]).await.unwrap();
    assert_eq!(left.iter().map(Option::is_some).collect::<Vec<_>>(), [false, true, false, true, false]);
    assert_eq!(fixture.tally("w").await, [0, 0, 2, 0, 0]);
    // A job that was done after the start is spared.
    fixture.pass(runner.started_ms + 1_000).await;
    let later = fixture.job_in(State::Done, job("later")).await;
    assert_eq!(runner.change(Change::Delete, &[later]).await.refused, 2);
    assert_eq!(fixture.state(later).await, State::Done);
}

async fn a_new_priority_holds_for_later_attempts(fixture: &StoreFixture) {
    let large = format!("\"{}\"", "x".repeat(1_000));
    let ids = fixture
        .submit_all(vec![
            job("w"),
            NewJob { priority: 9, ..job("w") },
            NewJob { payload: large, priority: 9, ..job("w") },
        ])
        .await;
    let runner = Runner::start(fixture).await;
    let stepped = runner.change(Change::SetPriority(0), &ids[1..]).await;
    assert_eq!((stepped.changed, stepped.refused), (2, 0));
    for id in &ids[1..] {
        assert_eq!(fixture.get(*id).await.priority, 0);
    }
    let session = fixture.session("w").await;
    let leased = session.acquire(2).await;
    assert_eq!(leased.iter().map(|it| it.job.id).collect::<Vec<_>>(), ids[1..], "before the job of priority 5");
    assert_eq!(leased[0].job.priority, 0);
    for leased in leased {
        session.release(leased.lease).await;
    }
    let again = session.acquire(2).await;
    assert_eq!(again.iter().map(|it| (it.job.id, it.job.priority)).collect::<Vec<_>>(), [(ids[1], 0), (ids[2], 0)]);
    // Running jobs are not pending.
    let stepped = runner.change(Change::SetPriority(3), &ids[1..]).await;
    assert_eq!((stepped.changed, stepped.refused), (2, 2));
}

async fn a_rescheduled_job_waits_until_its_time(fixture: &StoreFixture) {
    let soon = fixture.submit_all(jobs("w", 2)).await;
    let start = Start::After { delay_ms: HOUR_MS };
    let scheduled = fixture.submit(NewJob { start, ..job("w") }).await;
    let runner = Runner::start(fixture).await;
    let in_an_hour = fixture.now_ms().await + HOUR_MS;
    runner.change(Change::Reschedule { run_at_ms: in_an_hour }, &soon).await;
    assert_eq!(fixture.counts("w").await.scheduled, 3);
    assert_eq!(fixture.get(soon[0]).await.run_at_ms, in_an_hour);
    let session = fixture.session("w").await;
    assert!(session.acquire(10).await.is_empty());
    runner.change(Change::Reschedule { run_at_ms: 0 }, &[scheduled]).await;
    assert_eq!(fixture.counts("w").await.scheduled, 2);
    assert!(fixture.get(scheduled).await.run_at_ms <= fixture.now_ms().await, "a time that has passed means now");
    assert_eq!(session.acquire_when_due().await.job.id, scheduled);
}

async fn a_job_is_not_changed_twice_by_one_operation(fixture: &StoreFixture) {
    let ids = fixture.submit_all(jobs("w", 2)).await;
    let runner = Runner::start(fixture).await;
    fixture.pass(runner.started_ms + 1_000).await;
    assert_eq!(runner.change(Change::SetPriority(7), &ids).await.changed, 2);
    // The list of pending jobs shows them again, behind where they were.
    let stepped = runner.change(Change::SetPriority(7), &ids).await;
    assert_eq!((stepped.changed, stepped.refused), (2, 2));
    assert!(runner.refusals().await.iter().all(|it| it.later));
}

async fn an_operation_pauses_goes_on_and_ends(fixture: &StoreFixture) {
    use OperationState::{CanaryWaiting, Done, Paused, Running, Stopped};
    let ids = dead_letters(fixture, "w", 3).await;
    let runner = Runner::start(fixture).await;
    assert!(runner.move_to(&[Running], Paused).await);
    assert!(!runner.move_to(&[Running], Paused).await, "it is paused already");
    let record = runner.record().await;
    assert_eq!((record.state, record.note.as_str(), record.finished_at_ms), (Paused, "a note", None));
    assert_eq!(runner.try_take(&runner.step(retry(), &ids)).await, StepAnswer::NotRunner);
    assert!(fixture.store.claim_operation(Uuid::new_v4(), LEASE_MS).await.unwrap().is_none(), "nobody runs it");

    assert!(runner.move_to(&[Paused], Running).await);
    assert_eq!(runner.try_take(&runner.step(retry(), &ids)).await, StepAnswer::NotRunner, "it needs a new runner");
    let token = Uuid::new_v4();
    fixture.store.claim_operation(token, LEASE_MS).await.unwrap().expect("it is free at once");
    let runner = Runner { token, ..runner };
    runner.take(&Step { then: Then::WaitForCanary, ..runner.step(retry(), &ids[..1]) }).await;
    assert_eq!(runner.record().await.state, CanaryWaiting);
    assert!(runner.move_to(&[Running, CanaryWaiting], Stopped).await);
    let record = runner.record().await;
    assert_eq!((record.state, record.changed, record.finished_at_ms.is_some()), (Stopped, 1, true));
    assert_eq!(runner.try_take(&runner.step(retry(), &ids)).await, StepAnswer::NotRunner);
    assert!(!runner.move_to(&[Paused], Running).await, "the end is final");
    assert_eq!(fixture.states(&ids).await, [State::Pending, State::Failed, State::Failed]);

    let runner = Runner::start(fixture).await;
    let last = Step { then: Then::End(Done, String::new()), ..runner.step(retry(), &ids[1..]) };
    assert_eq!(runner.take(&last).await.changed, 2);
    let record = runner.record().await;
    assert_eq!((record.state, record.finished_at_ms.is_some()), (Done, true));
    assert_eq!(runner.try_take(&last).await, StepAnswer::NotRunner);
    assert!(fixture.store.move_operation(Uuid::now_v7(), &[Running], Paused, "").await.unwrap().is_none());
}

async fn the_first_hundred_refusals_are_kept(fixture: &StoreFixture) {
    let runner = Runner::start(fixture).await;
    let gone: Vec<_> = (0..130_u128).map(|n| Uuid::from_u128(n + 1)).collect();
    runner.change(retry(), &gone[..60]).await;
    let stepped = runner.change(retry(), &gone[60..]).await;
    assert_eq!((stepped.changed, stepped.refused), (0, 130));
    let kept: Vec<_> = runner.refusals().await.iter().map(|it| it.job_id).collect();
    assert_eq!(kept, gone[..limits::OPERATION_REFUSALS as usize]);
}

async fn the_outcome_of_a_canary_is_known(fixture: &StoreFixture) {
    let ids = dead_letters(fixture, "w", 6).await;
    let runner = Runner::start(fixture).await;
    let remember = Remember { canary: true, sample: 2 };
    runner.take(&Step { remember, ..runner.step(retry(), &ids[..5]) }).await;
    runner.change(retry(), &ids[5..]).await;
    let outcomes = |canary| fixture.store.operation_outcomes(runner.id, canary);
    let waiting = Outcomes { jobs: 5, waiting: 5, ..Outcomes::default() };
    assert_eq!(outcomes(true).await.unwrap(), waiting);
    assert_eq!(outcomes(false).await.unwrap().jobs, 2);
    let session = fixture.session("w").await;
    let leased = session.acquire(6).await;
    assert_eq!(outcomes(true).await.unwrap(), waiting, "they run");
    let of = |id: Uuid| leased.iter().find(|it| it.job.id == id).unwrap().lease;
    session.complete(of(ids[0])).await;
    session.fail(of(ids[1]), "again").await;
    session.fail_for_good(of(ids[2]), "again").await;
    session.release(of(ids[3])).await;
    fixture.store.cancel(&[ids[4]], "").await.unwrap();
    session.fail_for_good(of(ids[5]), "no canary").await;
    let expected = Outcomes { jobs: 5, succeeded: 1, failed_again: 2, waiting: 1, left: 1 };
    assert_eq!(outcomes(true).await.unwrap(), expected);
}

async fn a_rate_is_kept_by_the_databases_clock(fixture: &StoreFixture) {
    let ids = dead_letters(fixture, "w", 100).await;
    let runner = Runner::start(fixture).await;
    let before = fixture.now_ms().await;
    let mut waits = 0;
    for ids in ids.chunks(20) {
        let stepped = runner.take(&Step { rate: Some(1), ..runner.step(retry(), ids) }).await;
        assert!(stepped.wait_ms > waits, "every step pushes the next one back");
        waits = stepped.wait_ms;
    }
    // However late a step is: 100 jobs at 1/s take 100 s from the first one on.
    let elapsed = fixture.now_ms().await - before;
    assert!((100_000 - elapsed..=101_000).contains(&waits), "{waits} after {elapsed} ms");
    // A server that takes over keeps the rate.
    let release = Step { then: Then::Release, ..runner.step(retry(), &[]) };
    runner.take(&release).await;
    let claimed = fixture.store.claim_operation(Uuid::new_v4(), LEASE_MS).await.unwrap().unwrap();
    assert!(claimed.wait_ms > 90_000 - (fixture.now_ms().await - before), "{}", claimed.wait_ms);
}

async fn operations_beside_settles_count_every_job_once(fixture: &StoreFixture) {
    const JOBS: usize = 300;
    let ids = fixture.submit_all(jobs("w", JOBS)).await;
    let runner = Runner::start(fixture).await;
    let session = fixture.session("w").await.on(&fixture.second_store().await);
    let works = async {
        let mut completed = 0;
        loop {
            let leased = session.acquire(20).await;
            if leased.is_empty() {
                return completed;
            }
            for leased in leased {
                let answer = session.complete(leased.lease).await;
                completed += u64::from(answer == jobqueue_store::SettleAnswer::Accepted(State::Done));
            }
        }
    };
    let operates = async {
        for ids in ids.rchunks(30) {
            runner.change(cancel(true), ids).await;
        }
    };
    let (completed, ()) = futures::join!(works, operates);
    let record = runner.record().await;
    assert_eq!(record.changed + record.refused, JOBS as u64);
    assert_eq!(fixture.tally("w").await, [0, 0, completed, 0, record.changed]);
    assert_eq!(completed, record.refused, "what it could not cancel was done");
}

async fn operations_are_kept_for_their_retention(fixture: &StoreFixture) {
    let active = Runner::start(fixture).await;
    let ended = Runner::start(fixture).await;
    let end = Then::End(OperationState::Done, String::new());
    let remember = Remember { canary: true, sample: 1 };
    let id = fixture.job_in(State::Failed, job("w")).await;
    ended.take(&Step { remember, then: end, ..ended.step(retry(), &[id, Uuid::nil()]) }).await;
    fixture.store.prune(&Retention { operations_ms: HOUR_MS, ..KEEP_NOTHING }, 100).await.unwrap();
    assert_eq!(fixture.store.operations(None, 10).await.unwrap().len(), 2, "it is too young");
    fixture.pass(ended.record().await.finished_at_ms.unwrap()).await;
    fixture.store.prune(&KEEP_NOTHING, 100).await.unwrap();
    let left = fixture.store.operations(None, 10).await.unwrap();
    assert_eq!(left.iter().map(|record| record.id).collect::<Vec<_>>(), [active.id]);
    assert_eq!(fixture.number("SELECT count(*) FROM operation_refusals").await, 0);
    assert_eq!(fixture.number("SELECT count(*) FROM operation_samples").await, 0);
}
