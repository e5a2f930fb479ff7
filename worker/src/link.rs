//! Says once that the server is away, and once that it is back, however many calls find out.

use std::{collections::BTreeSet, sync::Mutex, time::Instant};

use tonic::Status;

use crate::channel;

/// The server counts as away while any kind of call fails.
#[derive(Default)]
pub(crate) struct Link {
    away: Mutex<Option<Away>>,
}

struct Away {
    since: Instant,
    calls: BTreeSet<&'static str>,
}

impl Link {
    pub(crate) fn failed(&self, call: &'static str, status: &Status) {
        let mut away = self.away.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(away) = &mut *away {
            away.calls.insert(call);
        } else {
            *away = Some(Away { since: Instant::now(), calls: BTreeSet::from([call]) });
            tracing::warn!(call, error = channel::describe(status), "the server does not answer, trying again");
        }
    }

    pub(crate) fn answered(&self, call: &'static str) {
        let mut away = self.away.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(lost) = &mut *away
            && lost.calls.remove(call)
            && lost.calls.is_empty()
        {
            tracing::info!(away = ?lost.since.elapsed(), "the server answers again");
            *away = None;
        }
    }

    /// A call that will not be made again no longer counts.
    pub(crate) fn forget(&self) {
        *self.away.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = None;
    }
}
