//! Model of a queue that keeps every promise: it writes the histories that the checker must accept.

use std::collections::{BTreeMap, HashMap};

use uuid::Uuid;

use crate::history::{
    Event, Fault, FinalAttempt, FinalJob, FinalState, History, Kind, Move, Outcome, Phase, Recovery, Status, Submit,
};

/// Fate of a call's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reply {
    Told,
    /// The call is carried out, and the answer gets lost.
    Lost,
    /// The call is carried out, and the caller dies before it can record the answer.
    Died,
    /// The request gets lost.
    NeverArrived,
}

#[derive(Clone, Debug)]
pub(super) struct Lease {
    pub id: String,
    pub job: Uuid,
    pub run_no: i32,
    pub session: Uuid,
}

pub(super) struct Model {
    /// Clock of the database and of all processes, in milliseconds. Every event takes one.
    now_ms: i64,
    next: u128,
    events: Vec<Event>,
    seqs: HashMap<String, u64>,
    jobs: BTreeMap<Uuid, Job>,
    keys: HashMap<String, (Uuid, String)>,
    sessions: HashMap<Uuid, Session>,
}

struct Job {
    shown: FinalJob,
    run_at_ms: i64,
    lease: Option<Lease>,
    /// Accepted outcomes of leases that are over, by lease.
    said: HashMap<String, (Outcome, Status)>,
}

struct Session {
    process: String,
    alive: bool,
}

impl Model {
    pub(super) fn new() -> Self {
        Self {
            now_ms: 1_000,
            next: 0,
            events: Vec::new(),
            seqs: HashMap::new(),
            jobs: BTreeMap::new(),
            keys: HashMap::new(),
            sessions: HashMap::new(),
        }
    }

    pub(super) fn pass(&mut self, ms: i64) {
        self.now_ms += ms;
    }

    pub(super) fn record(&mut self, process: &str, kind: Kind) {
        self.now_ms += 1;
        let seq = self.seqs.entry(process.to_owned()).or_default();
        self.events.push(Event { process: process.to_owned(), seq: *seq, at_ns: self.now_ms as u64 * 1_000_000, kind });
        *seq += 1;
    }

    fn id(&mut self) -> Uuid {
        self.next += 1;
        Uuid::from_u128(self.next)
    }

    fn call(&mut self) -> u64 {
        self.next += 1;
        self.next as u64
    }

    /// Submits one batch. Returns the ids of the jobs when the request arrived and was not refused.
    pub(super) fn submit(&mut self, process: &str, submits: &[Submit], reply: Reply) -> Option<Vec<Uuid>> {
        let call = self.call();
        let of = submits.len() as u32;
        for (place, submit) in (0..).zip(submits) {
            self.record(process, Kind::SubmitInvoke { call, place, of, submit: submit.clone() });
        }
        self.now_ms += 1;
        let conflict =
            submits.iter().any(|it| self.keys.get(&it.key).is_some_and(|(_, payload)| *payload != it.payload));
        let mut stored = Vec::new();
        if reply != Reply::NeverArrived && !conflict {
            stored.extend(submits.iter().map(|submit| self.store(submit)));
        }
        let error = || "no answer".to_owned();
        for place in 0..of {
            let kind = match reply {
                Reply::Died => continue,
                Reply::Lost | Reply::NeverArrived => Kind::SubmitUnknown { call, place, error: error() },
                Reply::Told if conflict => {
                    Kind::SubmitFailed { call, place, conflict: true, error: "the key is used".to_owned() }
                }
                Reply::Told => {
                    let (job, deduplicated) = stored[place as usize];
                    Kind::SubmitOk { call, place, job, deduplicated }
                }
            };
            self.record(process, kind);
        }
        (!stored.is_empty()).then(|| stored.into_iter().map(|(id, _)| id).collect())
    }

    fn store(&mut self, submit: &Submit) -> (Uuid, bool) {
        if let Some((id, _)) = self.keys.get(&submit.key) {
            return (*id, true);
        }
        let id = self.id();
        if !submit.key.is_empty() {
            self.keys.insert(submit.key.clone(), (id, submit.payload.clone()));
        }
        let shown = FinalJob {
            id,
            worker_id: submit.worker_id.clone(),
            status: Status::Pending,
            payload: submit.payload.clone(),
            key: submit.key.clone(),
            attempt_count: 0,
            max_retries: submit.max_retries,
            run_no: 0,
            created_at_ms: self.now_ms,
            started_at_ms: None,
            finished_at_ms: None,
            session: None,
            attempts: Vec::new(),
        };
        let run_at_ms = submit.run_at_ms.unwrap_or(self.now_ms + submit.delay_ms.unwrap_or(0));
        self.jobs.insert(id, Job { shown, run_at_ms, lease: None, said: HashMap::new() });
        (id, false)
    }

    pub(super) fn register(&mut self, process: &str) -> Uuid {
        let session = self.id();
        self.sessions.insert(session, Session { process: process.to_owned(), alive: true });
        let worker_id = "faults".to_owned();
        self.record(process, Kind::SessionRegistered { session, worker_id, slots: 1, lease_ms: 5_000 });
        session
    }

    pub(super) fn is_alive(&self, session: Uuid) -> bool {
        self.sessions[&session].alive
    }

    /// Hands out the runnable job that has waited longest. The lease is returned also when the answer gets lost.
    pub(super) fn acquire(&mut self, session: Uuid, reply: Reply) -> Option<Lease> {
        if !self.is_alive(session) || reply == Reply::NeverArrived {
            return None;
        }
        self.now_ms += 1;
        let now_ms = self.now_ms;
        let runnable = |it: &&Job| it.shown.status == Status::Pending && it.run_at_ms <= now_ms;
        let job = self.jobs.values().filter(runnable).min_by_key(|it| it.run_at_ms)?.shown.id;
        self.now_ms += 1;
        let id = self.id().to_string();
        let job = self.jobs.get_mut(&job)?;
        let shown = &mut job.shown;
        shown.status = Status::Running;
        shown.run_no += 1;
        shown.attempt_count += 1;
        shown.started_at_ms = Some(now_ms);
        shown.session = Some(session);
        let lease = Lease { id, job: shown.id, run_no: shown.run_no, session };
        job.lease = Some(lease.clone());
        if reply == Reply::Told {
            self.heard_of(&lease, now_ms);
        }
        Some(lease)
    }

    /// Records the answer to an acquire, with the start time that it names, as received now.
    pub(super) fn heard_of(&mut self, lease: &Lease, started_at_ms: i64) {
        let shown = &self.jobs[&lease.job].shown;
        let kind = Kind::Acquired {
            session: lease.session,
            acquire_no: 1,
            lease: lease.id.clone(),
            job: lease.job,
            run_no: lease.run_no,
            attempt: shown.attempt_count,
            started_at_ms,
            deadline_ms: None,
            payload: shown.payload.clone(),
        };
        self.record(&self.process(lease.session), kind);
    }

    fn process(&self, session: Uuid) -> String {
        self.sessions[&session].process.clone()
    }

    pub(super) fn start(&mut self, lease: &Lease) {
        let kind = Kind::Started { lease: lease.id.clone(), job: lease.job, run_no: lease.run_no };
        self.record(&self.process(lease.session), kind);
    }

    /// Settles the lease as its own session. Returns true when the outcome was accepted.
    pub(super) fn settle(&mut self, lease: &Lease, outcome: Outcome, delay_ms: Option<i64>, reply: Reply) -> bool {
        self.settle_as(lease, lease.session, outcome, delay_ms, reply)
    }

    /// Settles the lease as the given session.
    pub(super) fn settle_as(
        &mut self,
        lease: &Lease,
        session: Uuid,
        outcome: Outcome,
        delay_ms: Option<i64>,
        reply: Reply,
    ) -> bool {
        let call = self.call();
        let process = self.process(session);
        let (id, job, run_no) = (lease.id.clone(), lease.job, lease.run_no);
        self.record(&process, Kind::SettleInvoke { call, session, lease: id.clone(), job, run_no, outcome, delay_ms });
        self.now_ms += 1;
        let status = if reply == Reply::NeverArrived {
            None
        } else {
            self.decide(lease, session, outcome, delay_ms.unwrap_or(0))
        };
        let error = "no answer".to_owned();
        let kind = match (reply, status) {
            (Reply::Died, _) => return status.is_some(),
            (Reply::Lost | Reply::NeverArrived, _) => {
                Kind::SettleUnknown { call, session, lease: id, job, run_no, outcome, error }
            }
            (Reply::Told, Some(status)) => Kind::SettleOk { call, session, lease: id, job, run_no, outcome, status },
            (Reply::Told, None) => Kind::SettleRefused { call, session, lease: id, job, run_no, outcome, error },
        };
        self.record(&process, kind);
        status.is_some()
    }

    fn decide(&mut self, lease: &Lease, session: Uuid, outcome: Outcome, delay_ms: i64) -> Option<Status> {
        let now_ms = self.now_ms;
        let job = self.jobs.get_mut(&lease.job)?;
        let open = job.lease.as_ref().is_some_and(|it| it.id == lease.id) && session == lease.session;
        if !open {
            let same = |it: Outcome| matches!(it, Outcome::Fail | Outcome::FailPermanent);
            let said = job.said.get(&lease.id).copied().filter(|_| session == lease.session);
            let repeated = said.filter(|&(it, _)| it == outcome || (same(it) && same(outcome)));
            if repeated.is_none() {
                job.refuse(lease, session, now_ms);
            }
            return repeated.map(|(_, status)| status);
        }
        match outcome {
            Outcome::Complete => {
                job.lease = None;
                job.shown.status = Status::Done;
                job.shown.finished_at_ms = Some(now_ms);
            }
            Outcome::Fail => job.end("failed", now_ms, delay_ms),
            Outcome::FailPermanent => job.end("permanent", now_ms, 0),
            Outcome::Snooze => job.end("snoozed", now_ms, delay_ms),
            Outcome::Release | Outcome::NoHandler => job.end("released", now_ms, 0),
        }
        job.said.insert(lease.id.clone(), (outcome, job.shown.status));
        Some(job.shown.status)
    }

    /// Ends a session that was silent for too long; its worker does not learn of it yet.
    pub(super) fn lose(&mut self, session: Uuid) {
        self.now_ms += 1;
        if let Some(it) = self.sessions.get_mut(&session) {
            it.alive = false;
        }
        let now_ms = self.now_ms;
        for job in self.jobs.values_mut().filter(|it| it.lease.as_ref().is_some_and(|it| it.session == session)) {
            job.end("lost", now_ms, 0);
        }
    }

    pub(super) fn goodbye(&mut self, session: Uuid) {
        self.now_ms += 1;
        if let Some(it) = self.sessions.get_mut(&session) {
            it.alive = false;
        }
        let now_ms = self.now_ms;
        for job in self.jobs.values_mut().filter(|it| it.lease.as_ref().is_some_and(|it| it.session == session)) {
            let lease = job.lease.clone();
            job.end("released", now_ms, 0);
            job.said.extend(lease.map(|it| (it.id, (Outcome::Release, Status::Pending))));
        }
        self.record(&self.process(session), Kind::SessionEnded { session });
    }

    pub(super) fn order(&mut self, job: Uuid, order: Move, reply: Reply) {
        let call = self.call();
        self.record("operator", Kind::MoveInvoke { call, job, order });
        self.now_ms += 1;
        let now_ms = self.now_ms;
        let moved = if reply == Reply::NeverArrived {
            None
        } else {
            self.jobs.get_mut(&job).and_then(|job| match (order, job.shown.status) {
                (Move::Cancel, Status::Pending) => {
                    job.shown.status = Status::Cancelled;
                    (job.shown.started_at_ms, job.shown.session) = (None, None);
                    Some(Status::Cancelled)
                }
                (Move::Cancel, Status::Running) => {
                    job.end("cancelled", now_ms, 0);
                    Some(Status::Cancelled)
                }
                (Move::Retry, Status::Failed | Status::Cancelled) => {
                    job.line("retried", None, now_ms);
                    job.shown.status = Status::Pending;
                    job.shown.attempt_count = 0;
                    job.run_at_ms = now_ms;
                    Some(Status::Pending)
                }
                _ => None,
            })
        };
        let error = "no".to_owned();
        let kind = match (reply, moved) {
            (Reply::Died, _) => return,
            (Reply::Lost | Reply::NeverArrived, _) => Kind::MoveUnknown { call, job, order, error },
            (Reply::Told, Some(status)) => Kind::MoveOk { call, job, order, status },
            (Reply::Told, None) => Kind::MoveFailed { call, job, order, error },
        };
        self.record("operator", kind);
    }

    pub(super) fn fault(&mut self, id: u32, target: &str, planned: bool, phase: Phase) {
        let fault = if planned { "restart" } else { "kill" }.to_owned();
        let recovery = Recovery::JobsOfTarget;
        let fault = Fault {
            id,
            fault,
            target: target.to_owned(),
            phase,
            planned,
            crashes_database: true,
            recovery,
            detail: String::new(),
        };
        self.record("runner", Kind::Fault(fault));
    }

    /// Runs all jobs to a final state.
    pub(super) fn drain(&mut self) {
        let sessions: Vec<_> = self.sessions.iter().filter(|(_, it)| it.alive).map(|(id, _)| *id).collect();
        for session in sessions {
            self.goodbye(session);
        }
        self.pass(100_000);
        let session = self.register("drain");
        while let Some(lease) = self.acquire(session, Reply::Told) {
            self.start(&lease);
            self.settle(&lease, Outcome::Complete, None, Reply::Told);
        }
    }

    pub(super) fn finish(mut self) -> (History, FinalState) {
        self.drain();
        (History::new(self.events), FinalState { jobs: self.jobs.into_values().map(|it| it.shown).collect() })
    }
}

impl Job {
    fn line(&mut self, outcome: &str, session: Option<Uuid>, now_ms: i64) {
        self.shown.attempts.push(FinalAttempt {
            run_no: self.shown.run_no,
            outcome: outcome.to_owned(),
            session,
            started_at_ms: session.and(self.shown.started_at_ms),
            ended_at_ms: now_ms,
            error: String::new(),
        });
    }

    fn refuse(&mut self, lease: &Lease, session: Uuid, now_ms: i64) {
        self.shown.attempts.push(FinalAttempt {
            run_no: lease.run_no,
            outcome: "refused".to_owned(),
            session: Some(session),
            started_at_ms: None,
            ended_at_ms: now_ms,
            error: String::new(),
        });
    }

    fn end(&mut self, how: &str, now_ms: i64, delay_ms: i64) {
        let Some(lease) = self.lease.take() else { return };
        self.line(if how == "permanent" { "failed" } else { how }, Some(lease.session), now_ms);
        let is_spent = self.shown.attempt_count >= self.shown.max_retries.max(1);
        self.shown.status = match how {
            "cancelled" => Status::Cancelled,
            "permanent" => Status::Failed,
            "failed" | "lost" if is_spent => Status::Failed,
            _ => Status::Pending,
        };
        if matches!(how, "snoozed" | "released") {
            self.shown.attempt_count -= 1;
        }
        if self.shown.status.is_final() {
            self.shown.finished_at_ms = Some(now_ms);
        } else {
            self.run_at_ms = now_ms + delay_ms;
        }
    }
}

/// Submit of a job with defaults.
pub(super) fn submit(nonce: &str) -> Submit {
    Submit {
        worker_id: "faults".to_owned(),
        nonce: nonce.to_owned(),
        key: String::new(),
        payload: format!(r#"{{"nonce":"{nonce}"}}"#),
        max_retries: 3,
        run_at_ms: None,
        delay_ms: None,
    }
}

pub(super) fn with_key(nonce: &str, key: &str) -> Submit {
    Submit { key: key.to_owned(), ..submit(nonce) }
}
