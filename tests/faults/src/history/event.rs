//! Events, the lines of a history.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::final_state::Status;

/// Action of one process, or an answer that it received, with its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Name of the process, unique in a run: a process that is started again has a new name.
    pub process: String,
    /// Number of the event in its process, counted from 0.
    pub seq: u64,
    /// CLOCK_MONOTONIC: before an invocation was sent, after an answer came in.
    pub at_ns: u64,
    #[serde(flatten)]
    pub kind: Kind,
}

/// Kind of an event. A call has a number that is unique in its process. A call with an invocation and no answer has an
/// unknown result, as one whose answer is `..Unknown`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// Invocation of a submit call, one event for each job; `place` counts from 0, `of` is the number of jobs. A batch
    /// is stored whole or not at all.
    SubmitInvoke {
        call: u64,
        place: u32,
        of: u32,
        submit: Submit,
    },
    SubmitOk {
        call: u64,
        place: u32,
        job: Uuid,
        deduplicated: bool,
    },
    /// The call certainly stored nothing; `conflict`: because another request had used the key.
    SubmitFailed {
        call: u64,
        place: u32,
        conflict: bool,
        error: String,
    },
    SubmitUnknown {
        call: u64,
        place: u32,
        error: String,
    },

    /// A person's order: cancel or retry.
    MoveInvoke {
        call: u64,
        job: Uuid,
        order: Move,
    },
    /// Acknowledged order; `status` is the job's in the answer.
    MoveOk {
        call: u64,
        job: Uuid,
        order: Move,
        status: Status,
    },
    /// The order was certainly not carried out.
    MoveFailed {
        call: u64,
        job: Uuid,
        order: Move,
        error: String,
    },
    MoveUnknown {
        call: u64,
        job: Uuid,
        order: Move,
        error: String,
    },

    SessionRegistered {
        session: Uuid,
        worker_id: String,
        slots: u32,
        lease_ms: u64,
    },
    /// The worker ended its session, and the server confirmed it.
    SessionEnded {
        session: Uuid,
    },
    /// The server said that the session is over.
    SessionLost {
        session: Uuid,
    },

    /// The worker stops its heartbeats on purpose until its lease is over.
    SessionSilent {
        session: Uuid,
    },

    /// One job of an answer to AcquireJobs. An event with a known lease is an answer that was asked for again.
    Acquired {
        session: Uuid,
        acquire_no: i32,
        lease: String,
        job: Uuid,
        run_no: i32,
        attempt: i32,
        /// Start time by the database's clock.
        started_at_ms: i64,
        deadline_ms: Option<i64>,
        /// Payload in the answer.
        payload: String,
    },
    /// A handler began.
    Started {
        lease: String,
        job: Uuid,
        run_no: i32,
    },
    /// A handler returned; `how` is its result. A handler that was dropped or killed has no such event.
    Finished {
        lease: String,
        job: Uuid,
        run_no: i32,
        how: String,
    },

    /// Outcome that is sent in a SettleJobs call. `delay_ms` is the delay that a snooze or a failure asks for.
    SettleInvoke {
        call: u64,
        session: Uuid,
        lease: String,
        job: Uuid,
        run_no: i32,
        outcome: Outcome,
        delay_ms: Option<i64>,
    },
    /// The outcome was accepted; `status` is the job's new state.
    SettleOk {
        call: u64,
        session: Uuid,
        lease: String,
        job: Uuid,
        run_no: i32,
        outcome: Outcome,
        status: Status,
    },
    /// The outcome was refused: the lease or the session is no longer valid.
    SettleRefused {
        call: u64,
        session: Uuid,
        lease: String,
        job: Uuid,
        run_no: i32,
        outcome: Outcome,
        error: String,
    },
    SettleUnknown {
        call: u64,
        session: Uuid,
        lease: String,
        job: Uuid,
        run_no: i32,
        outcome: Outcome,
        error: String,
    },

    /// Phase of a fault, written by the runner.
    Fault(Fault),
}

/// Fields of a submit request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    pub worker_id: String,
    /// Unique to the request, and part of the payload. A request that is repeated keeps it.
    pub nonce: String,
    /// Idempotency key; "" for none.
    pub key: String,
    pub payload: String,
    pub max_retries: i32,
    /// Earliest start, by the database's clock.
    pub run_at_ms: Option<i64>,
    /// Earliest start, in milliseconds after the job's creation.
    pub delay_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    Cancel,
    Retry,
}

/// Outcome of an attempt, as its worker reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Complete,
    Fail,
    /// A failure after which no attempt follows.
    FailPermanent,
    Snooze,
    Release,
    NoHandler,
}

/// Fault that the nemesis causes, from [`Phase::Begins`] to [`Phase::Healed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// Number of the fault, equal in all of its phases and unique in the run.
    pub id: u32,
    /// Kind of the fault in a few words, by which figures are grouped: "kill -9 of a worker".
    pub fault: String,
    /// Process (by the name in its events) or part that the fault affects.
    pub target: String,
    pub phase: Phase,
    /// True for an operator's normal action, which must cost no attempt.
    pub planned: bool,
    /// True when PostgreSQL may forget commits that it did not have to flush at once: hand-overs and heartbeats.
    pub crashes_database: bool,
    pub recovery: Recovery,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Just before the fault.
    Begins,
    /// The fault is proven to have happened.
    Injected,
    /// The fault is over and undone.
    Healed,
}

/// Job start to which a fault's recovery time is measured, from its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    NotMeasured,
    /// The next start of each job that the target process held.
    JobsOfTarget,
    /// The next start of any job that was handed out after the fault.
    AnyJob,
}
