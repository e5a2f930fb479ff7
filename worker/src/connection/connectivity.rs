//! Connectivity to the server: logs once that it is away and once that it is back, however many calls notice.

use std::{collections::BTreeSet, time::Instant};

use parking_lot::Mutex;
use tonic::Status;

use crate::connection::status;

/// State of the connectivity. The server counts as away from the first failed call until every kind of call that has
/// failed was answered again.
#[derive(Default)]
pub(crate) struct Connectivity {
    away: Mutex<Option<Away>>,
}

struct Away {
    since: Instant,
    /// Names of the calls that have failed since and not been answered.
    calls: BTreeSet<&'static str>,
}

impl Connectivity {
    pub(crate) fn failed(&self, call: &'static str, failure: &Status) {
        let mut away = self.away.lock();
        if let Some(away) = &mut *away {
            away.calls.insert(call);
        } else {
            *away = Some(Away { since: Instant::now(), calls: BTreeSet::from([call]) });
            tracing::warn!(call, error = status::describe(failure), "the server does not answer, trying again");
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
