//! Model test: after random operations in any order, a store and a small model agree on the state of every job.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
    sync::atomic::{AtomicU32, Ordering},
};

use jobqueue_shared::{lease::LeaseId, state::State};
use jobqueue_store::{
    ActionAnswer, AttemptOutcome, Leased, NewJob, NewSession, Retention, SettleAnswer, Start, UnitAnswer,
};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use uuid::Uuid;

use crate::{
    model_test::operations::{Op, Say, Submit, op},
    scenarios,
    session_client::Session,
    store_fixture::{HOUR_MS, KEEP_NOTHING, StoreFixture, job, keyed, session},
};

scenarios!(store_and_model_agree_after_any_sequence_of_operations);

const SEQUENCES: u32 = 50;

async fn store_and_model_agree_after_any_sequence_of_operations(fixture: &StoreFixture) {
    let config = Config { cases: SEQUENCES, failure_persistence: None, max_shrink_iters: 300, ..Config::default() };
    let runtime = tokio::runtime::Handle::current();
    // proptest calls a plain function, which blocks on the store here.
    tokio::task::block_in_place(|| {
        TestRunner::new(config)
            .run(&prop::collection::vec(op(), 1..30), |ops| {
                runtime.block_on(run(fixture, ops));
                Ok(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
    });
}

async fn run(fixture: &StoreFixture, ops: Vec<Op>) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let worker_id = format!("model {}", NEXT.fetch_add(1, Ordering::Relaxed));
    let sessions = vec![fixture.session(&worker_id).await, fixture.session(&worker_id).await];
    let mut model = Model { fixture, worker_id, sessions, ..Model::new(fixture) };
    for op in ops {
        model.apply(op).await;
        model.compare().await;
    }
    let found = fixture.store.audit().await.unwrap();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[derive(Clone, Debug)]
struct Expected {
    state: State,
    run_no: u32,
    used: u32,
    max_retries: u32,
    priority: u8,
    /// Bounds of the time at which a pending job runs; the store reports the exact time.
    run_at: RangeInclusive<i64>,
    history: BTreeSet<(u32, u8)>,
}

struct Model<'a> {
    fixture: &'a StoreFixture,
    worker_id: String,
    sessions: Vec<Session>,
    jobs: BTreeMap<Uuid, Expected>,
    gone: Vec<Uuid>,
    /// Request and job of each key.
    keys: HashMap<u8, (u8, Uuid)>,
    held: Vec<(Session, LeaseId)>,
    /// Leases that have ended, each with the outcome that its own session may repeat.
    ended: Vec<(Session, LeaseId, Option<Say>)>,
}

impl<'a> Model<'a> {
    fn new(fixture: &'a StoreFixture) -> Self {
        Self {
            fixture,
            worker_id: String::new(),
            sessions: Vec::new(),
            jobs: BTreeMap::new(),
            gone: Vec::new(),
            keys: HashMap::new(),
            held: Vec::new(),
            ended: Vec::new(),
        }
    }

    fn nth_job(&self, n: usize) -> Option<Uuid> {
        self.jobs.keys().nth(n % self.jobs.len().max(1)).copied()
    }

    async fn apply(&mut self, op: Op) {
        let store = &self.fixture.store;
        match op {
            Op::Submit { jobs } => self.submit(jobs).await,
            Op::Acquire { session, max_jobs } => {
                let session = self.sessions[session].clone();
                let before = self.fixture.now_ms().await;
                let leased = session.acquire(max_jobs).await;
                self.acquired(&session, max_jobs, &leased, before).await;
            }
            Op::Settle { held } => self.settle(held).await,
            Op::SettleStale { stale, say } => self.settle_stale(stale, say).await,
            Op::Cancel { job } => {
                let Some(id) = self.nth_job(job) else { return };
                let moved = store.cancel(&[id], "").await.unwrap().remove(0);
                let job = self.jobs.get_mut(&id).unwrap();
                match job.state {
                    State::Pending | State::Running => {
                        assert!(matches!(moved, ActionAnswer::Done { .. }), "{moved:?}");
                        if job.state == State::Running {
                            job.history.insert((job.run_no, AttemptOutcome::Cancelled as u8));
                            self.close(id, None);
                        }
                        self.jobs.get_mut(&id).unwrap().state = State::Cancelled;
                    }
                    state => assert_eq!(moved, ActionAnswer::Refused(state)),
                }
            }
            Op::Retry { job } => {
                let Some(id) = self.nth_job(job) else { return };
                let before = self.fixture.earliest_ms().await;
                let moved = store.retry(&[id]).await.unwrap().remove(0);
                let after = self.fixture.now_ms().await;
                let job = self.jobs.get_mut(&id).unwrap();
                match job.state {
                    State::Failed | State::Cancelled => {
                        assert!(matches!(moved, ActionAnswer::Done { .. }), "{moved:?}");
                        if job.state == State::Cancelled {
                            // A cancellation that ended no attempt is recorded, too, because the retry deletes the
                            // `cancelled` row that showed it.
                            job.history.insert((job.run_no, AttemptOutcome::Cancelled as u8));
                        }
                        job.history.insert((job.run_no, AttemptOutcome::Retried as u8));
                        (job.state, job.used, job.run_at) = (State::Pending, 0, before..=after);
                    }
                    state => assert_eq!(moved, ActionAnswer::Refused(state)),
                }
            }
            Op::Delete { job } => {
                let Some(id) = self.nth_job(job) else { return };
                let moved = store.delete(&[id]).await.unwrap().remove(0);
                let state = self.jobs[&id].state;
                if state.is_finished() {
                    assert!(matches!(moved, ActionAnswer::Done { .. }), "{moved:?}");
                    self.forget(id);
                    self.keys.retain(|_, (_, holder)| *holder != id);
                } else {
                    assert_eq!(moved, ActionAnswer::Refused(state));
                }
            }
            Op::EndSession { session } => {
                let ended = self.sessions[session].clone();
                let before = self.fixture.earliest_ms().await;
                assert_eq!(store.end_session(ended.id).await.unwrap().as_ref(), Some(&self.worker_id));
                let after = self.fixture.now_ms().await;
                let leases: Vec<_> = self.held.iter().filter(|(it, _)| it.id == ended.id).map(|it| it.1).collect();
                for lease in leases {
                    self.close(lease.job_id, None);
                    let job = self.jobs.get_mut(&lease.job_id).unwrap();
                    (job.state, job.used, job.run_at) = (State::Pending, job.used - 1, before..=after);
                }
                self.sessions[session] = self.fixture.session(&self.worker_id).await;
            }
            Op::Lose { slots, max_jobs, declared } => self.lose(slots, max_jobs, declared).await,
            Op::Rescue => assert_eq!(store.rescue(100).await.unwrap().lost, 0),
            Op::Prune => {
                // Keys are kept: a repeated submit still finds its job's id.
                store.prune(&Retention { keys_ms: HOUR_MS, ..KEEP_NOTHING }, 1_000).await.unwrap();
                let finished: Vec<_> =
                    self.jobs.iter().filter(|(_, job)| job.state.is_finished()).map(|(id, _)| *id).collect();
                let found = store.get(&finished).await.unwrap();
                // A job that finished in this very millisecond may not be pruned yet.
                for (id, _) in finished.into_iter().zip(found).filter(|(_, found)| found.is_none()) {
                    self.forget(id);
                }
            }
            Op::Fold => drop(store.compact_counters(100).await.unwrap()),
        }
    }

    fn forget(&mut self, id: Uuid) {
        self.jobs.remove(&id);
        self.gone.push(id);
        self.ended.retain(|(_, lease, _)| lease.job_id != id);
    }

    /// Moves the job's lease from the held to the ended ones.
    fn close(&mut self, id: Uuid, said: Option<Say>) {
        let index = self.held.iter().position(|(_, lease)| lease.job_id == id).unwrap();
        let (session, lease) = self.held.remove(index);
        self.ended.push((session, lease, said));
    }

    async fn submit(&mut self, submits: Vec<Submit>) {
        let new = |submit: &Submit| NewJob {
            max_retries: submit.max_retries,
            priority: submit.priority,
            start: if submit.delayed { Start::After { delay_ms: HOUR_MS } } else { Start::Now },
            ..match submit.key {
                Some((key, request)) => keyed(&self.worker_id, &key.to_string(), request),
                None => job(&self.worker_id),
            }
        };
        let before = self.fixture.earliest_ms().await;
        let answer = self.fixture.insert(submits.iter().map(new).collect()).await;
        let after = self.fixture.now_ms().await;
        let mut keys = self.keys.clone();
        // For each job, whether it is known by its key; and the first job whose key belongs to another request.
        let mut conflict = None;
        let mut known = Vec::new();
        for (index, submit) in submits.iter().enumerate() {
            let Some((key, request)) = submit.key else {
                known.push(None);
                continue;
            };
            let holder = keys.entry(key).or_insert((request, Uuid::nil()));
            known.push(
                (holder.1 != Uuid::nil() || submits[..index].iter().any(|it| it.key.is_some_and(|it| it.0 == key)))
                    .then_some(key),
            );
            if holder.0 != request {
                conflict = conflict.or(Some((index, key)));
            }
        }
        let stored = match (answer, conflict) {
            (UnitAnswer::Stored(stored), None) => stored,
            (UnitAnswer::KeyConflict { index, existing }, Some((expected, key))) => {
                assert_eq!(index, expected);
                if let Some((_, holder)) = self.keys.get(&key) {
                    assert_eq!(existing, *holder);
                }
                return;
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(stored.len(), submits.len());
        for ((submit, stored), known) in submits.iter().zip(stored).zip(known) {
            assert_eq!(stored.deduplicated, known.is_some());
            if let Some(key) = known {
                assert_eq!(stored.id, self.keys[&key].1);
                continue;
            }
            if let Some((key, request)) = submit.key {
                self.keys.insert(key, (request, stored.id));
            }
            let wait = if submit.delayed { HOUR_MS } else { 0 };
            let expected = Expected {
                state: State::Pending,
                run_no: 0,
                used: 0,
                max_retries: submit.max_retries,
                priority: submit.priority,
                run_at: before + wait..=after + wait,
                history: BTreeSet::new(),
            };
            assert!(self.jobs.insert(stored.id, expected).is_none(), "an id came twice");
        }
    }

    async fn acquired(&mut self, session: &Session, max_jobs: u32, leased: &[Leased], before: i64) {
        let after = self.fixture.now_ms().await;
        let order = |job: &Expected, id: Uuid| (job.priority, *job.run_at.start(), id);
        let keys: Vec<_> = leased.iter().map(|it| order(&self.jobs[&it.job.id], it.job.id)).collect();
        assert!(keys.is_sorted_by(|a, b| a < b), "not in order: {keys:?}");
        for leased in leased {
            let job = self.jobs.get_mut(&leased.job.id).unwrap();
            assert_eq!(job.state, State::Pending);
            assert!(*job.run_at.start() <= after, "it ran early");
            (job.state, job.run_no, job.used) = (State::Running, job.run_no + 1, job.used + 1);
            self.held.push((session.clone(), leased.lease));
        }
        for (id, job) in &self.jobs {
            if job.state == State::Pending && *job.run_at.end() <= before {
                assert_eq!(leased.len(), max_jobs as usize, "{id} was left behind");
                assert!(keys.iter().all(|key| *key < order(job, *id)), "{id} should have come first");
            }
        }
    }

    async fn settle(&mut self, picks: Vec<(usize, Say)>) {
        let mut batch = Vec::new();
        for (n, say) in picks {
            let Some((session, lease)) = self.held.get(n % self.held.len().max(1)).cloned() else { continue };
            if batch.iter().all(|(_, other, _)| *other != lease) {
                batch.push((session, lease, say));
            }
        }
        let settlements: Vec<_> =
            batch.iter().map(|(session, lease, say)| session.settlement(*lease, say.ending())).collect();
        let before = self.fixture.earliest_ms().await;
        let answers = self.fixture.store.settle(&settlements).await.unwrap();
        let after = self.fixture.now_ms().await;
        for ((_, lease, say), answer) in batch.into_iter().zip(answers) {
            let id = lease.job_id;
            self.close(id, Some(say));
            let job = self.jobs.get_mut(&id).unwrap();
            let run_no = job.run_no;
            let mut note = |outcome: AttemptOutcome| job.history.extend([(run_no, outcome as u8)]);
            match say {
                Say::Fail | Say::FailForGood => note(AttemptOutcome::Failed),
                Say::Snooze => note(AttemptOutcome::Snoozed),
                Say::Complete | Say::Release => {}
            }
            match say {
                Say::Complete => job.state = State::Done,
                Say::FailForGood => job.state = State::Failed,
                Say::Fail if job.used >= job.max_retries.max(1) => job.state = State::Failed,
                Say::Fail => (job.state, job.run_at) = (State::Pending, before..=after),
                Say::Release => (job.state, job.used, job.run_at) = (State::Pending, job.used - 1, before..=after),
                Say::Snooze => {
                    job.state = State::Pending;
                    job.used -= 1;
                    job.run_at = before + HOUR_MS..=after + HOUR_MS;
                }
            }
            assert_eq!(answer, SettleAnswer::Accepted(job.state));
        }
    }

    async fn settle_stale(&mut self, stale: usize, say: Say) {
        let Some((session, lease, said)) = self.ended.get(stale % self.ended.len().max(1)).cloned() else { return };
        let answer = session.end(lease, say.ending()).await;
        let same = match (said, say) {
            // Both are failures, which the server does not tell apart when one is repeated.
            (Some(Say::Fail | Say::FailForGood), Say::Fail | Say::FailForGood) => true,
            (Some(said), say) => std::mem::discriminant(&said) == std::mem::discriminant(&say),
            (None, _) => false,
        };
        // A job that its session's end gave back may look released by its worker, so a release may be accepted or
        // refused: either answer changes nothing.
        let unclear = said.is_none() && matches!(say, Say::Release);
        assert!(unclear || same == matches!(answer, SettleAnswer::Accepted(_)), "{said:?}, then {say:?}: {answer:?}");
    }

    /// Loses a session: its lease runs out, or its successor has `declared` it gone.
    async fn lose(&mut self, slots: u32, max_jobs: u32, declared: bool) {
        let before = self.fixture.now_ms().await;
        let new = NewSession { slots, ..session(&self.worker_id) };
        let (lost, leased) = if declared {
            let lost = self.fixture.register(new.clone()).await;
            let leased = lost.acquire(max_jobs).await;
            (lost, leased)
        } else {
            self.fixture.expiring_session(new.clone(), max_jobs).await
        };
        self.acquired(&lost, max_jobs, &leased, before).await;
        let before = self.fixture.earliest_ms().await;
        if declared {
            let successor = self.fixture.register(NewSession { predecessors: vec![lost.id], ..new }).await;
            self.fixture.store.end_session(successor.id).await.unwrap();
        } else {
            self.fixture.rescue_until(leased.len() as u64, 0).await;
        }
        let after = self.fixture.now_ms().await;
        for (n, id) in leased.iter().map(|leased| leased.job.id).enumerate() {
            self.close(id, None);
            let job = self.jobs.get_mut(&id).unwrap();
            if n >= slots as usize {
                (job.state, job.used, job.run_at) = (State::Pending, job.used - 1, before..=after);
                continue;
            }
            job.history.insert((job.run_no, AttemptOutcome::Lost as u8));
            if job.used >= job.max_retries.max(1) {
                job.state = State::Failed;
            } else {
                (job.state, job.run_at) = (State::Pending, before..=after + 1_000);
            }
        }
    }

    async fn compare(&mut self) {
        use AttemptOutcome::{Cancelled, Failed, Lost, Retried, Snoozed};
        let ids: Vec<_> = self.jobs.keys().copied().collect();
        let found = self.fixture.store.get(&ids).await.unwrap();
        let mut tally = [0; 5];
        for ((id, job), found) in self.jobs.iter_mut().zip(found) {
            let found = found.unwrap_or_else(|| panic!("{id} is nowhere"));
            assert_eq!((found.state, found.run_no, found.attempts_used), (job.state, job.run_no, job.used), "{id}");
            assert_eq!(found.state == State::Failed, found.failure.is_some());
            if job.state == State::Pending {
                assert!(job.run_at.contains(&found.run_at_ms), "{id}: {} in {:?}", found.run_at_ms, job.run_at);
                job.run_at = found.run_at_ms..=found.run_at_ms;
            }
            tally[job.state as usize] += 1;
        }
        assert!(self.fixture.store.get(&self.gone).await.unwrap().iter().all(Option::is_none));
        assert_eq!(self.fixture.tally(&self.worker_id).await, tally);
        for (id, job) in &self.jobs {
            let told = [Cancelled, Failed, Lost, Retried, Snoozed];
            let history = self.fixture.outcomes(*id).await.into_iter().filter(|(_, outcome)| told.contains(outcome));
            let history: BTreeSet<_> = history.map(|(run_no, outcome)| (run_no, outcome as u8)).collect();
            assert_eq!(history, job.history, "{id}");
        }
    }
}
