//! Connectivity to the server: logs once that it is away and once that it is back, however many calls notice.

use std::{collections::BTreeSet, time::Instant};

use parking_lot::Mutex;
use tonic::Status;

use crate::channel;

/// Connectivity state. The server counts as away while any kind of call fails.
#[derive(Default)]
pub(crate) struct Connectivity {
    away: Mutex<Option<Away>>,
}

struct Away {
    since: Instant,
    calls: BTreeSet<&'static str>,
}

impl Connectivity {
    pub(crate) fn failed(&self, call: &'static str, status: &Status) {
        let mut away = self.away.lock();
        if let Some(away) = &mut *away {
            away.calls.insert(call);
        } else {
            *away = Some(Away { since: Instant::now(), calls: BTreeSet::from([call]) });
            tracing::warn!(call, error = channel::describe(status), "the server does not answer, trying again");
        }
    }

    pub(crate) fn answered(&self, call: &'static str) {
        let mut away = self.away.lock();
        if let Some(lost) = &mut *away
            && lost.calls.remove(call)
            && lost.calls.is_empty()
        {
            tracing::info!(away = ?lost.since.elapsed(), "the server answers again");
            *away = None;
        }
    }

    /// Forgets failed calls, because a call that is not made again never clears its failure.
    pub(crate) fn forget(&self) {
        *self.away.lock() = None;
    }
}
