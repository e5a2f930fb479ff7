//! One line of a history.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::final_state::Status;

/// What one process did or learned at one moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Unique in a run: a process that is started again has a new name.
    pub process: String,
    /// Counts the process's events from 0.
    pub seq: u64,
    /// CLOCK_MONOTONIC. Of an invocation before it was made, of an answer after it came in.
    pub at_ns: u64,
    #[serde(flatten)]
    pub kind: Kind,
}

/// A call has a number of its own in its process. Of a call that has an invocation and nothing else it is not known
/// what became of it, as of one that is told to be unknown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Kind {
    /// One job of a submit call; `place` counts from 0 `of` as many. A batch is all or nothing.
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
    /// Certainly not stored by this call; `conflict`: because the key had been used with another request.
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

    /// A person's order.
    MoveInvoke {
        call: u64,
        job: Uuid,
        order: Move,
    },
    /// `status` is the job's, as the answer shows it.
    MoveOk {
        call: u64,
        job: Uuid,
        order: Move,
        status: Status,
    },
    /// Certainly not carried out.
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
    /// The worker said goodbye, and the server agreed.
    SessionEnded {
        session: Uuid,
    },
    /// The server said that it is over.
    SessionLost {
        session: Uuid,
    },

    /// The worker plays dead on purpose: it will not be heard of before its lease is over.
    SessionSilent {
        session: Uuid,
    },

    /// One job of an answer to AcquireJobs. The same lease again is an answer that was asked for again.
    Acquired {
        session: Uuid,
        acquire_no: i32,
        lease: String,
        job: Uuid,
        run_no: i32,
        attempt: i32,
        /// By the database's clock.
        started_at_ms: i64,
        deadline_ms: Option<i64>,
        /// As handed out.
        payload: String,
    },
    /// A handler began.
    Started {
        lease: String,
        job: Uuid,
        run_no: i32,
    },
    /// A handler returned, and how; one that was dropped or killed says nothing.
    Finished {
        lease: String,
        job: Uuid,
        run_no: i32,
        how: String,
    },

    /// One outcome of a SettleJobs call. `delay_ms` is what a snooze or a failure asked to wait.
    SettleInvoke {
        call: u64,
        session: Uuid,
        lease: String,
        job: Uuid,
        run_no: i32,
        outcome: Outcome,
        delay_ms: Option<i64>,
    },
    /// Accepted; `status` is where the job went.
    SettleOk {
        call: u64,
        session: Uuid,
        lease: String,
        job: Uuid,
        run_no: i32,
        outcome: Outcome,
        status: Status,
    },
    /// The lease or the session is no longer valid.
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

    /// Written by the runner.
    Fault(Fault),
}

/// A submit as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    pub worker_id: String,
    /// Unique to the request, and part of the payload. A request that is repeated keeps it.
    pub nonce: String,
    /// "" = none.
    pub key: String,
    pub payload: String,
    pub max_retries: i32,
    /// Not before this time, by the database's clock.
    pub run_at_ms: Option<i64>,
    /// Not before this long after its creation.
    pub delay_ms: Option<i64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Move {
    Cancel,
    Retry,
}

/// How a worker says that an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Complete,
    Fail,
    /// A failure that no attempt follows.
    FailPermanent,
    Snooze,
    Release,
    NoHandler,
}

/// What the nemesis does, from [`Phase::Begins`] to [`Phase::Healed`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The same in all phases of one fault, and of no other.
    pub id: u32,
    /// Its kind in a few words, which figures are grouped by: "kill -9 of a worker".
    pub fault: String,
    /// The process (as its events name it) or the part that it is done to.
    pub target: String,
    pub phase: Phase,
    /// True for what an operator does on a good day: it must cost no attempt.
    pub planned: bool,
    /// True when PostgreSQL may forget what it had not been told to keep at once: hand-overs and heartbeats.
    pub crashes_database: bool,
    pub recovery: Recovery,
    pub detail: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Just before it is done.
    Begins,
    /// It is proven that it happened.
    Injected,
    /// All is as it was.
    Healed,
}

/// From a fault's beginning to which start its recovery is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recovery {
    NotMeasured,
    /// The next start of each job that the target process held.
    JobsOfTarget,
    /// The next start of any job that was handed out after it.
    AnyJob,
}
