//! Fixture of a scenario: an empty database, a store on it, and common queries.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, resume_unwind},
    sync::{Arc, Mutex},
};

use futures::{FutureExt as _, future::LocalBoxFuture};
use jobqueue_server::database::connect;
use jobqueue_shared::{limits, retry::RetryPolicy, state::State};
use jobqueue_store::{
    AttemptOutcome, AttemptRecord, ConnectOptions, ErrorGroupId, ErrorGroupQuery, IdempotencyKey, JobRecord, ListQuery,
    NewJob, NewSession, Pooler, Rescued, Retention, SessionQuery, SessionRecord, SessionState, Start, Store, Stored,
    Unit, UnitAnswer, WorkerIdCounts,
};
use jobqueue_test_postgres::Cluster;
use jobqueue_tests::{
    database::{Database, Driver},
    poll::eventually,
};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::session_client::Session;

pub(crate) const HOUR_MS: i64 = 3_600_000;

/// Policy without any delay, so that the next attempt can begin at once.
pub(crate) const NO_DELAY: RetryPolicy = RetryPolicy { initial_ms: 0, factor: 1.0, max_ms: 0, jitter: 0.0 };

/// Retention that keeps no finished job.
pub(crate) const KEEP_NOTHING: Retention =
    Retention { done_ms: 0, cancelled_ms: 0, dead_letters_ms: 0, keys_ms: 0, operations_ms: 0 };

/// An ordinary job; vary it by `NewJob { priority: 0, ..job("w") }`.
pub(crate) fn job(worker_id: &str) -> NewJob {
    NewJob {
        worker_id: worker_id.to_owned(),
        task: "email".to_owned(),
        priority: limits::PRIORITY_DEFAULT,
        start: Start::Now,
        payload: r#"{"to":"somebody@example.org"}"#.to_owned(),
        max_retries: limits::MAX_RETRIES_DEFAULT,
        retry: Some(NO_DELAY),
        attempt_timeout_ms: None,
        key: None,
        origin: None,
    }
}

/// An ordinary job with a key; equal `request` numbers are equal requests.
pub(crate) fn keyed(worker_id: &str, key: &str, request: u8) -> NewJob {
    let key = IdempotencyKey { key: key.to_owned(), request_hash: [request; 32] };
    NewJob { key: Some(key), ..job(worker_id) }
}

pub(crate) fn jobs(worker_id: &str, count: usize) -> Vec<NewJob> {
    vec![job(worker_id); count]
}

/// A session that lives for the whole scenario.
pub(crate) fn session(worker_id: &str) -> NewSession {
    NewSession {
        worker_id: worker_id.to_owned(),
        host: "host-1".to_owned(),
        pid: 4_242,
        version: "1.2.3".to_owned(),
        tasks: vec!["email".to_owned()],
        slots: 10,
        lease_ms: HOUR_MS,
        predecessors: Vec::new(),
    }
}

pub(crate) struct StoreFixture {
    pub(crate) driver: Driver,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) database: Database,
    more: Mutex<Vec<Arc<dyn Store>>>,
}

/// Runs a scenario on a new database, checks the stored data afterwards, and removes everything, whether the scenario
/// succeeds or not.
pub(crate) async fn run(driver: Driver, scenario: impl for<'a> FnOnce(&'a StoreFixture) -> LocalBoxFuture<'a, ()>) {
    let fixture = StoreFixture::new(driver).await;
    let scenario = AssertUnwindSafe(scenario(&fixture)).catch_unwind().await;
    let checked = AssertUnwindSafe(fixture.check()).catch_unwind().await;
    fixture.close().await;
    if let Err(panic) = scenario.and(checked) {
        resume_unwind(panic);
    }
}

impl StoreFixture {
    pub(crate) async fn new(driver: Driver) -> Self {
        let database = Database::create(driver).await;
        let store = open_by(driver, database.url()).await;
        assert_eq!(store.name(), if driver == Driver::Sqlite { "sqlite" } else { "postgres" });
        Self { driver, store, database, more: Mutex::default() }
    }

    /// Another server's store on the same database; `SQLite` allows one only, so there it is the first one.
    pub(crate) async fn second_store(&self) -> Arc<dyn Store> {
        if self.driver == Driver::Sqlite {
            return Arc::clone(&self.store);
        }
        let second = open_by(self.driver, self.database.url()).await;
        self.more.lock().unwrap().push(Arc::clone(&second));
        second
    }

    /// Checks the stored data: the store's own audit finds nothing, the counts equal those of a list of all jobs, and
    /// counter compaction does not change them.
    pub(crate) async fn check(&self) {
        self.audited().await;
        let before = self.all_counts().await;
        let mut listed: BTreeMap<String, [u64; 5]> = BTreeMap::new();
        for job in self.list_all(&ListQuery { page_size: limits::PAGE_MAX, ..ListQuery::default() }).await {
            listed.entry(job.worker_id).or_default()[job.state as usize] += 1;
        }
        assert_eq!(before, listed, "the counts and the list differ");
        let groups = self.error_group_counts().await;
        while self.store.compact_counters(1_000).await.unwrap() > 0 {}
        while self.store.fold_errors(1_000).await.unwrap() > 0 {}
        assert_eq!(self.all_counts().await, before, "compaction changed the counts");
        assert_eq!(self.error_group_counts().await, groups, "folding changed the error groups");
        self.audited().await;
    }

    /// Failed attempts and dead letters of each error group.
    async fn error_group_counts(&self) -> BTreeMap<ErrorGroupId, (u64, u64)> {
        let query = ErrorGroupQuery { page_size: 100_000, ..ErrorGroupQuery::default() };
        let page = self.store.error_groups(&query).await.unwrap();
        page.groups.into_iter().map(|group| (group.id, (group.attempts, group.dead_letters))).collect()
    }

    async fn audited(&self) {
        let found = self.store.audit().await.unwrap();
        assert!(found.is_empty(), "the stored data contradicts itself:\n{}", found.join("\n"));
    }

    /// Closes the store and opens it again, as a restart of the server does.
    pub(crate) async fn reopened(self) -> Self {
        self.store.close().await;
        let store = open_by(self.driver, self.database.url()).await;
        Self { store, ..self }
    }

    pub(crate) async fn close(self) {
        self.store.close().await;
        let more = std::mem::take(&mut *self.more.lock().unwrap());
        for store in more {
            store.close().await;
        }
        // Removing a database blocks on a child process.
        tokio::task::spawn_blocking(move || drop(self.database)).await.unwrap();
    }

    pub(crate) async fn insert(&self, jobs: Vec<NewJob>) -> UnitAnswer {
        insert_on(&*self.store, jobs).await
    }

    /// Stores one new job.
    pub(crate) async fn submit(&self, job: NewJob) -> Uuid {
        let stored = self.submit_or_known(job).await;
        assert!(!stored.deduplicated);
        stored.id
    }

    pub(crate) async fn submit_or_known(&self, job: NewJob) -> Stored {
        match self.insert(vec![job]).await {
            UnitAnswer::Stored(stored) if stored.len() == 1 => stored[0],
            other => panic!("{other:?}"),
        }
    }

    /// Stores new jobs in units of at most 500; returns their ids in order.
    pub(crate) async fn submit_all(&self, jobs: Vec<NewJob>) -> Vec<Uuid> {
        let mut ids = Vec::with_capacity(jobs.len());
        for batch in jobs.chunks(limits::BATCH_JOBS) {
            match self.insert(batch.to_vec()).await {
                UnitAnswer::Stored(stored) => ids.extend(stored.iter().map(|stored| {
                    assert!(!stored.deduplicated);
                    stored.id
                })),
                other => panic!("these jobs have no keys: {other:?}"),
            }
        }
        ids
    }

    pub(crate) async fn session(&self, worker_id: &str) -> Session {
        self.register(session(worker_id)).await
    }

    pub(crate) async fn register(&self, new: NewSession) -> Session {
        Session::register(Arc::clone(&self.store), &new).await
    }

    pub(crate) async fn find(&self, id: Uuid) -> Option<JobRecord> {
        let mut found = self.store.get(&[id]).await.unwrap();
        assert_eq!(found.len(), 1);
        found.remove(0)
    }

    pub(crate) async fn get(&self, id: Uuid) -> JobRecord {
        self.find(id).await.unwrap_or_else(|| panic!("job {id} is nowhere"))
    }

    pub(crate) async fn state(&self, id: Uuid) -> State {
        self.get(id).await.state
    }

    pub(crate) async fn states(&self, ids: &[Uuid]) -> Vec<State> {
        let found = self.store.get(ids).await.unwrap();
        assert_eq!(found.len(), ids.len());
        found.into_iter().zip(ids).map(|(job, id)| job.unwrap_or_else(|| panic!("job {id} is nowhere")).state).collect()
    }

    pub(crate) async fn attempts(&self, id: Uuid) -> Vec<AttemptRecord> {
        self.store.attempts(id).await.unwrap()
    }

    /// (`run_no`, outcome) of each attempt, newest first.
    pub(crate) async fn outcomes(&self, id: Uuid) -> Vec<(u32, AttemptOutcome)> {
        self.attempts(id).await.iter().map(|attempt| (attempt.run_no, attempt.outcome)).collect()
    }

    pub(crate) async fn refusals(&self, id: Uuid) -> usize {
        self.attempts(id).await.iter().filter(|attempt| attempt.outcome == AttemptOutcome::Refused).count()
    }

    pub(crate) async fn counts(&self, worker_id: &str) -> WorkerIdCounts {
        let found = self.store.counts().await.unwrap();
        found
            .into_iter()
            .find(|counts| counts.worker_id == worker_id)
            .unwrap_or_else(|| WorkerIdCounts { worker_id: worker_id.to_owned(), ..WorkerIdCounts::default() })
    }

    /// [pending, running, done, failed, cancelled] of a `worker_id`.
    pub(crate) async fn tally(&self, worker_id: &str) -> [u64; 5] {
        tally(&self.counts(worker_id).await)
    }

    async fn all_counts(&self) -> BTreeMap<String, [u64; 5]> {
        let counts = self.store.counts().await.unwrap();
        assert!(counts.is_sorted_by(|a, b| a.worker_id < b.worker_id), "each worker_id once, in order: {counts:?}");
        let tallies = counts.into_iter().map(|counts| (counts.worker_id.clone(), tally(&counts)));
        tallies.filter(|(_, tally)| tally.iter().any(|&count| count > 0)).collect()
    }

    /// Every job of a list, read page by page.
    pub(crate) async fn list_all(&self, query: &ListQuery) -> Vec<JobRecord> {
        let (mut query, mut found) = (query.clone(), Vec::new());
        loop {
            let page = self.store.list(&query).await.unwrap();
            assert!(page.jobs.len() <= query.page_size as usize, "{} jobs on a page", page.jobs.len());
            found.extend(page.jobs);
            match page.next {
                Some(next) => {
                    assert_ne!(Some(&next), query.after.as_ref(), "the list does not get on");
                    query.after = Some(next);
                }
                None => return found,
            }
        }
    }

    /// Sessions, read as one large page.
    pub(crate) async fn sessions(&self, worker_id: Option<&str>) -> Vec<SessionRecord> {
        let query = SessionQuery { worker_id: worker_id.map(str::to_owned), after: None, page_size: 1_000 };
        self.store.sessions(&query).await.unwrap()
    }

    pub(crate) async fn session_state(&self, session_id: Uuid) -> SessionState {
        self.store.session(session_id).await.unwrap().expect("a session").session.state
    }

    /// Session that sends no heartbeats, and the jobs that it had acquired before its short lease ran out.
    pub(crate) async fn expiring_session(
        &self,
        new: NewSession,
        max_jobs: u32,
    ) -> (Session, Vec<jobqueue_store::Leased>) {
        // On a busy machine the lease can run out before the jobs are acquired; such a session has none, and another
        // one is made.
        eventually("a session acquires before its lease runs out", async || {
            let session = self.register(NewSession { lease_ms: 100, ..new.clone() }).await;
            let jobs = session.acquire_if_alive(max_jobs).await?;
            Some((session, jobs))
        })
        .await
    }

    /// Calls rescue until that many jobs were lost and timed out; returns the sum of all answers.
    pub(crate) async fn rescue_until(&self, lost: u64, timed_out: u64) -> Rescued {
        let mut all = Rescued::default();
        eventually("everything that is lost is rescued", async || {
            loop {
                let rescued = self.store.rescue(1_000).await.unwrap();
                all.sessions += rescued.sessions;
                all.lost += rescued.lost;
                all.timed_out += rescued.timed_out;
                all.worker_ids.extend(rescued.worker_ids);
                all.stopped.extend(rescued.stopped);
                if !rescued.more {
                    break;
                }
            }
            (all.lost >= lost && all.timed_out >= timed_out).then_some(())
        })
        .await;
        assert_eq!((all.lost, all.timed_out), (lost, timed_out), "lost and timed out");
        all.worker_ids.sort();
        all.worker_ids.dedup();
        all
    }

    /// Makes a job that is in `state`. A running one is held by a session that lives on.
    pub(crate) async fn job_in(&self, state: State, new: NewJob) -> Uuid {
        let worker_id = new.worker_id.clone();
        assert!(self.tally(&worker_id).await[0] == 0, "another job of {worker_id} could be taken instead");
        let id = self.submit(new).await;
        if state == State::Pending {
            return id;
        }
        if state == State::Cancelled {
            self.store.cancel(&[id], "no longer needed").await.unwrap();
            return id;
        }
        let session = self.session(&worker_id).await;
        let lease = session.acquire_one().await.lease;
        match state {
            State::Done => drop(session.complete(lease).await),
            State::Failed => drop(session.fail_for_good(lease, "it cannot work").await),
            _ => {}
        }
        assert_eq!(self.state(id).await, state);
        id
    }

    /// A connection to PostgreSQL itself, past the pooler.
    pub(crate) async fn postgres(&self) -> PgConnection {
        let name = self.database.url().rsplit('/').next().unwrap();
        PgConnection::connect(&Cluster::shared().unwrap().url(name)).await.unwrap()
    }

    /// Changes the stored data directly, as no store would.
    pub(crate) async fn sql(&self, sqlite: &str, postgres: &str) {
        match self.driver {
            Driver::Sqlite => {
                let mut connection = SqliteConnection::connect(self.database.url()).await.unwrap();
                sqlx::raw_sql(AssertSqlSafe(sqlite)).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
            Driver::Postgres | Driver::Pooled => {
                let mut connection = self.postgres().await;
                sqlx::raw_sql(AssertSqlSafe(postgres)).execute(&mut connection).await.unwrap();
                connection.close().await.unwrap();
            }
        }
    }

    /// Runs a query that returns one number.
    pub(crate) async fn number(&self, sql: &'static str) -> i64 {
        match self.driver {
            Driver::Sqlite => {
                let mut connection = SqliteConnection::connect(self.database.url()).await.unwrap();
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
            }
            Driver::Postgres | Driver::Pooled => {
                let mut connection = self.postgres().await;
                sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap()
            }
        }
    }

    pub(crate) async fn now_ms(&self) -> i64 {
        self.store.now_ms().await.unwrap()
    }

    /// Lower bound of the times that a store writes from now on. A server knows the database's time only approximately
    /// and may be late, but never ahead: a job that is ahead of the time cannot run.
    pub(crate) async fn earliest_ms(&self) -> i64 {
        self.now_ms().await - 1_000
    }

    /// Waits until the database's clock has passed `time_ms`.
    pub(crate) async fn pass(&self, time_ms: i64) {
        eventually("the database's clock moves on", async || (self.now_ms().await > time_ms).then_some(())).await;
    }
}

pub(crate) async fn insert_on(store: &dyn Store, jobs: Vec<NewJob>) -> UnitAnswer {
    let mut answers = store.insert(&[Unit { jobs }], &[]).await.unwrap().answers;
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

pub(crate) fn tally(counts: &WorkerIdCounts) -> [u64; 5] {
    [counts.pending, counts.running, counts.done, counts.failed, counts.cancelled]
}

pub(crate) async fn open(url: &str) -> Arc<dyn Store> {
    open_by(Driver::Postgres, url).await
}

/// Opens a store as a server does that is told whether a pooler stands before the database.
pub(crate) async fn open_by(driver: Driver, url: &str) -> Arc<dyn Store> {
    let pooler = if driver == Driver::Pooled { Pooler::Transaction } else { Pooler::None };
    let options = ConnectOptions { max_connections: 8, pooler, ..ConnectOptions::new(url) };
    connect(&options).await.unwrap()
}
