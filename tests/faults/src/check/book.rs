//! Index of a history's events by call, by job and by lease.

use std::collections::{BTreeMap, HashMap};

use serde_json::Value;
use uuid::Uuid;

use super::report::{Promise, Violation};
use crate::history::{Event, Fault, FinalJob, FinalState, History, Kind, Move, Outcome, Status, Submit};

pub(super) struct Book<'a> {
    pub submits: Vec<SubmitCall<'a>>,
    /// Indexes into `submits`, by the request's nonce.
    pub by_nonce: HashMap<&'a str, Vec<usize>>,
    /// Jobs of the final state, and jobs that an event names.
    pub jobs: BTreeMap<Uuid, Story<'a>>,
    /// Jobs of the final state, by the nonce in their payload.
    pub stored: HashMap<String, Vec<&'a FinalJob>>,
    pub sessions: HashMap<Uuid, SessionLife<'a>>,
    pub faults: Vec<FaultSpan<'a>>,
}

/// One job of one submit call.
pub(super) struct SubmitCall<'a> {
    pub submit: &'a Submit,
    pub of: u32,
    pub invoke: &'a Event,
    pub answer: Option<&'a Event>,
}

/// Events and final state of one job.
#[derive(Default)]
pub(super) struct Story<'a> {
    pub shown: Option<&'a FinalJob>,
    pub leases: Vec<LeaseStory<'a>>,
    pub moves: Vec<MoveCall<'a>>,
    pub last: Option<&'a Event>,
}

pub(super) struct LeaseStory<'a> {
    pub lease: &'a str,
    /// First event that shows the lease as handed out.
    pub acquired: &'a Event,
    pub session: Uuid,
    pub run_no: i32,
    pub attempt: i32,
    pub started_at_ms: i64,
    pub payload: &'a str,
    pub starts: Vec<&'a Event>,
    pub settles: Vec<SettleCall<'a>>,
}

pub(super) struct SettleCall<'a> {
    pub session: Uuid,
    pub outcome: Outcome,
    pub delay_ms: Option<i64>,
    pub invoke: &'a Event,
    pub answer: Option<&'a Event>,
}

pub(super) struct MoveCall<'a> {
    pub order: Move,
    pub invoke: &'a Event,
    pub answer: Option<&'a Event>,
}

pub(super) struct SessionLife<'a> {
    pub process: &'a str,
    pub from_ns: u64,
    /// Time at which the session was certainly over; `u64::MAX` when no event says so.
    pub to_ns: u64,
    /// True if the worker stopped its heartbeats on purpose, so that the session was lost.
    pub silent: bool,
}

pub(super) struct FaultSpan<'a> {
    pub fault: &'a Fault,
    pub begins: &'a Event,
    pub injected: Option<&'a Event>,
    /// Time at which the fault was healed; `u64::MAX` when it never was.
    pub to_ns: u64,
}

impl<'a> Book<'a> {
    pub(super) fn of(history: &'a History, state: &'a FinalState) -> Self {
        let mut book = Self {
            submits: Vec::new(),
            by_nonce: HashMap::new(),
            jobs: BTreeMap::new(),
            stored: HashMap::new(),
            sessions: HashMap::new(),
            faults: Vec::new(),
        };
        for job in &state.jobs {
            book.jobs.entry(job.id).or_default().shown = Some(job);
            book.stored.entry(nonce_of(&job.payload)).or_default().push(job);
        }
        let mut reading = Reading::default();
        for event in &history.events {
            book.read(&mut reading, event);
        }
        for story in book.jobs.values_mut() {
            // A crash of the database can forget a hand-over, so that two leases have one run number: the later one
            // counts.
            story.leases.sort_by_key(|it| (it.run_no, it.started_at_ms, it.acquired.at_ns));
        }
        book
    }

    fn read(&mut self, reading: &mut Reading<'a>, event: &'a Event) {
        let process = event.process.as_str();
        match &event.kind {
            Kind::SubmitInvoke { call, place, of, submit } => {
                reading.submits.insert((process, *call, *place), self.submits.len());
                self.by_nonce.entry(&submit.nonce).or_default().push(self.submits.len());
                self.submits.push(SubmitCall { submit, of: *of, invoke: event, answer: None });
            }
            Kind::SubmitOk { call, place, .. }
            | Kind::SubmitFailed { call, place, .. }
            | Kind::SubmitUnknown { call, place, .. } => {
                if let Kind::SubmitOk { job, .. } = event.kind {
                    self.jobs.entry(job).or_default().last = Some(event);
                }
                if let Some(&index) = reading.submits.get(&(process, *call, *place)) {
                    self.submits[index].answer = Some(event);
                }
            }
            Kind::MoveInvoke { call, job, order } => {
                let story = self.jobs.entry(*job).or_default();
                story.last = Some(event);
                reading.moves.insert((process, *call), story.moves.len());
                story.moves.push(MoveCall { order: *order, invoke: event, answer: None });
            }
            Kind::MoveOk { call, job, .. }
            | Kind::MoveFailed { call, job, .. }
            | Kind::MoveUnknown { call, job, .. } => {
                let story = self.jobs.entry(*job).or_default();
                story.last = Some(event);
                if let Some(moved) = reading.moves.get(&(process, *call)).and_then(|&at| story.moves.get_mut(at)) {
                    moved.answer = Some(event);
                }
            }
            Kind::SessionRegistered { session, .. } => {
                let life = SessionLife { process, from_ns: event.at_ns, to_ns: u64::MAX, silent: false };
                self.sessions.entry(*session).or_insert(life);
            }
            Kind::SessionSilent { session } => {
                if let Some(life) = self.sessions.get_mut(session) {
                    life.silent = true;
                }
            }
            Kind::SessionEnded { session } | Kind::SessionLost { session } => {
                if let Some(life) = self.sessions.get_mut(session) {
                    life.to_ns = life.to_ns.min(event.at_ns);
                }
            }
            Kind::Acquired { session, lease, job, run_no, attempt, started_at_ms, payload, .. } => {
                let story = self.jobs.entry(*job).or_default();
                story.last = Some(event);
                if !story.leases.iter().any(|it| it.lease == lease) {
                    story.leases.push(LeaseStory {
                        lease,
                        acquired: event,
                        session: *session,
                        run_no: *run_no,
                        attempt: *attempt,
                        started_at_ms: *started_at_ms,
                        payload,
                        starts: Vec::new(),
                        settles: Vec::new(),
                    });
                }
            }
            Kind::Started { lease, job, .. } | Kind::Finished { lease, job, .. } => {
                let story = self.jobs.entry(*job).or_default();
                story.last = Some(event);
                if let Kind::Started { .. } = event.kind
                    && let Some(found) = story.leases.iter_mut().find(|it| it.lease == lease)
                {
                    found.starts.push(event);
                }
            }
            Kind::SettleInvoke { call, session, lease, job, outcome, delay_ms, .. } => {
                let story = self.jobs.entry(*job).or_default();
                story.last = Some(event);
                if let Some(found) = story.leases.iter_mut().find(|it| it.lease == lease) {
                    reading.settles.insert((process, *call, lease), found.settles.len());
                    found.settles.push(SettleCall {
                        session: *session,
                        outcome: *outcome,
                        delay_ms: *delay_ms,
                        invoke: event,
                        answer: None,
                    });
                }
            }
            Kind::SettleOk { call, lease, job, .. }
            | Kind::SettleRefused { call, lease, job, .. }
            | Kind::SettleUnknown { call, lease, job, .. } => {
                let story = self.jobs.entry(*job).or_default();
                story.last = Some(event);
                if let Some(&at) = reading.settles.get(&(process, *call, lease.as_str()))
                    && let Some(found) = story.leases.iter_mut().find(|it| it.lease == lease)
                {
                    found.settles[at].answer = Some(event);
                }
            }
            Kind::Fault(fault) => self.read_fault(fault, event),
        }
    }

    fn read_fault(&mut self, fault: &'a Fault, event: &'a Event) {
        use crate::history::Phase;
        match fault.phase {
            Phase::Begins => {
                self.faults.push(FaultSpan { fault, begins: event, injected: None, to_ns: u64::MAX });
            }
            Phase::Injected | Phase::Healed => {
                if let Some(span) = self.faults.iter_mut().find(|span| span.fault.id == fault.id) {
                    match fault.phase {
                        Phase::Injected => span.injected = Some(event),
                        _ => span.to_ns = event.at_ns,
                    }
                }
            }
        }
    }
}

/// Invocations that an answer can belong to: indexes by process, call and what tells the parts of a call apart.
#[derive(Default)]
struct Reading<'a> {
    submits: HashMap<(&'a str, u64, u32), usize>,
    moves: HashMap<(&'a str, u64), usize>,
    settles: HashMap<(&'a str, u64, &'a str), usize>,
}

impl<'a> SubmitCall<'a> {
    /// Acknowledged job, whether the answer says `deduplicated`, and the answer.
    pub(super) fn accepted(&self) -> Option<(Uuid, bool, &'a Event)> {
        let event = self.answer?;
        match event.kind {
            Kind::SubmitOk { job, deduplicated, .. } => Some((job, deduplicated, event)),
            _ => None,
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.answer.is_some_and(|event| matches!(event.kind, Kind::SubmitFailed { .. }))
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &'a Event> {
        std::iter::once(self.invoke).chain(self.answer)
    }
}

impl<'a> SettleCall<'a> {
    /// State of the job after the outcome was accepted.
    pub(super) fn accepted(&self) -> Option<Status> {
        match self.answer?.kind {
            Kind::SettleOk { status, .. } => Some(status),
            _ => None,
        }
    }

    pub(super) fn is_refused(&self) -> bool {
        self.answer.is_some_and(|event| matches!(event.kind, Kind::SettleRefused { .. }))
    }

    pub(super) fn events(&self) -> impl Iterator<Item = &'a Event> {
        std::iter::once(self.invoke).chain(self.answer)
    }
}

impl LeaseStory<'_> {
    /// Time at which this outcome was first sent: it may have counted from then on.
    pub(super) fn first_said_ns(&self, outcome: Outcome) -> u64 {
        let said = self.settles.iter().filter(|it| class(it.outcome) == class(outcome));
        said.map(|it| it.invoke.at_ns).min().unwrap_or(u64::MAX)
    }
}

impl MoveCall<'_> {
    pub(super) fn status(&self) -> Option<Status> {
        match self.answer?.kind {
            Kind::MoveOk { status, .. } => Some(status),
            _ => None,
        }
    }

    /// True unless the order is known to have failed: it may have been carried out.
    pub(super) fn is_possible(&self) -> bool {
        !self.answer.is_some_and(|event| matches!(event.kind, Kind::MoveFailed { .. }))
    }
}

impl<'a> Story<'a> {
    /// True if a retry by a person may have put the job back to work at or after this time.
    pub(super) fn may_be_retried_after(&self, at_ns: u64) -> bool {
        self.moves.iter().any(|it| {
            it.order == Move::Retry
                && it.is_possible()
                // An order that was given before and answered after can have been carried out in between.
                && it.answer.is_none_or(|answer| answer.at_ns >= at_ns || !matches!(answer.kind, Kind::MoveOk { .. }))
        })
    }

    /// Leases of the job that were handed out after `lease`.
    pub(super) fn later(&self, lease: &LeaseStory<'a>) -> impl Iterator<Item = &LeaseStory<'a>> {
        let own = (lease.run_no, lease.started_at_ms);
        let id = lease.lease;
        self.leases.iter().filter(move |it| it.lease != id && (it.run_no, it.started_at_ms) > own)
    }

    /// True when the run number and the session identify the lease.
    pub(super) fn is_only_one(&self, lease: &LeaseStory<'a>) -> bool {
        self.leases.iter().filter(|it| it.run_no == lease.run_no && it.session == lease.session).count() == 1
    }

    pub(super) fn violation(
        &self,
        promise: Promise,
        job: Uuid,
        what: impl Into<String>,
        events: impl IntoIterator<Item = &'a Event>,
    ) -> Violation {
        violation(promise, Some(job), what, events, self.shown)
    }
}

/// Builds a violation whose events are sorted by time and free of duplicates.
pub(super) fn violation<'a>(
    promise: Promise,
    job: Option<Uuid>,
    what: impl Into<String>,
    events: impl IntoIterator<Item = &'a Event>,
    shown: Option<&FinalJob>,
) -> Violation {
    let mut excerpt: Vec<_> = events.into_iter().collect();
    excerpt.sort_by_key(|event| (event.at_ns, &event.process, event.seq));
    excerpt.dedup();
    let excerpt = excerpt.into_iter().cloned().collect();
    Violation { promise, what: what.into(), job, excerpt, shown: shown.cloned() }
}

/// Nonce in a job's payload; "" when it has none.
pub(super) fn nonce_of(payload: &str) -> String {
    let payload: Option<Value> = serde_json::from_str(payload).ok();
    payload.as_ref().and_then(|it| it["nonce"].as_str()).unwrap_or_default().to_owned()
}

/// Class of an outcome: the server does not tell outcomes of one class apart when one is repeated.
pub(super) fn class(outcome: Outcome) -> Outcome {
    match outcome {
        Outcome::FailPermanent => Outcome::Fail,
        Outcome::NoHandler => Outcome::Release,
        other => other,
    }
}

/// The timeline's word for an attempt with this outcome; `None` when the attempt has no entry of its own.
pub(super) fn word(outcome: Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Fail | Outcome::FailPermanent => Some("failed"),
        Outcome::Snooze => Some("snoozed"),
        Outcome::Release => Some("released"),
        // One entry stands for all attempts without a handler.
        Outcome::Complete | Outcome::NoHandler => None,
    }
}
