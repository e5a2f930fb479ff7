//! Rules of the queue: the layer between the API and the store.
//!
//! The calls are in folders, most with the names that the drivers use: `submit` (there `insert`), `acquire`, `settle`,
//! `sessions` (what a worker's session reports), `operate` (what people do) and `observe` (reads). `handle` makes the
//! [`Queue`] that they are methods of, and `context` holds the state that calls and group commits share. `validate`
//! checks fields, `filter` the filters of lists and counts, `group_commit` writes concurrent calls in few commits.

mod acquire;
mod context;
pub mod error;
mod filter;
mod group_commit;
mod handle;
mod meters;
mod observe;
mod operate;
mod sessions;
mod settle;
mod submit;
mod validate;

pub(crate) use self::operate::operations::Progress;
pub use self::{
    acquire::{AcquireResult, notify::Notifier},
    error::{Error, Result},
    handle::{Options, Queue},
    observe::{
        counts::{Counts, Throughputs, sum},
        explain::Explanation,
        list::JobPage,
        read::JobDetails,
        timeline::event::Event,
    },
    operate::operations::Started,
    sessions::register::Registered,
    settle::outcome::{Outcome, SettleVerdict},
};
