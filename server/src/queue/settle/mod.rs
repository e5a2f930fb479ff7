//! SettleJobs: a worker's outcomes of its attempts. The store decides what becomes of the jobs.
//!
//! `parse` checks an outcome, and `group` settles what concurrent calls report.

pub(super) mod group;
pub(super) mod outcome;
mod parse;

use std::collections::HashSet;

use jobqueue_shared::{
    limits,
    proto::v1,
    state::{Ending, State},
};
use jobqueue_store::{SettleAnswer, Settlement};
use uuid::Uuid;

use self::{
    outcome::{Outcome, SettleVerdict},
    parse::parse,
};
use super::{error::Result, group_commit::limits::Weight, handle::Queue, validate::Violations};

impl Queue {
    /// Settles leases of a session; one outcome for each settlement, in order.
    pub async fn settle(&self, request: v1::SettleJobsRequest) -> Result<Vec<Outcome>> {
        let mut violations = Violations::default();
        let session_id = violations.uuid("session_id", &request.session_id);
        let count = request.settlements.len();
        if !(1..=limits::SETTLEMENTS).contains(&count) {
            violations.add("settlements", format!("has {count}; it must have 1 to {}", limits::SETTLEMENTS));
        }
        violations.finish()?;

        let mut seen = HashSet::with_capacity(count);
        let mut outcomes = Vec::with_capacity(count);
        let (mut items, mut places) = (Vec::with_capacity(count), Vec::with_capacity(count));
        for (place, settlement) in request.settlements.into_iter().enumerate() {
            let lease_id = settlement.lease_id.clone();
            let verdict = match parse(session_id, settlement) {
                Ok(item) if seen.insert(item.lease) => {
                    items.push(item);
                    places.push(place);
                    // A placeholder until the store has answered.
                    SettleVerdict::Stale
                }
                Ok(_) => SettleVerdict::Malformed("lease_id appears twice in this call".into()),
                Err(wrong) => SettleVerdict::Malformed(wrong),
            };
            outcomes.push(Outcome { lease_id, verdict });
        }
        for (place, answer) in places.into_iter().zip(self.settle_all(session_id, items).await?) {
            outcomes[place].verdict = match answer {
                SettleAnswer::Accepted(state) => SettleVerdict::Accepted(state),
                SettleAnswer::Stale => SettleVerdict::Stale,
                SettleAnswer::Unstorable => SettleVerdict::Malformed(
                    "the database cannot store this outcome: send another text, without result and note".into(),
                ),
            };
        }
        Ok(outcomes)
    }

    async fn settle_all(&self, session_id: Uuid, items: Vec<Settlement>) -> Result<Vec<SettleAnswer>> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let without_handler = items.iter().any(|it| matches!(it.ending, Ending::Release { no_handler: true }));
        let bytes =
            items.iter().map(|it| it.text.len() + it.note.len() + it.result.as_ref().map_or(0, String::len)).sum();
        let (weight, started) = (Weight { count: items.len(), bytes }, std::time::Instant::now());
        let answers = self.settles.call(items, weight).await?;
        self.context.meters.settle_seconds.record(started.elapsed());
        // Jobs that became pending may be runnable now, so parked polls of their worker_id acquire again, or learn the
        // next due time.
        let again = answers.iter().filter(|it| matches!(it, SettleAnswer::Accepted(State::Pending))).count();
        if again > 0
            && let Some(known) = self.sessions.known(&*self.context.store, session_id).await
        {
            if without_handler {
                self.context.notifier.wake_for_handler(&known.worker_id);
            } else {
                self.context.notifier.wake(&known.worker_id, again);
            }
        }
        Ok(answers)
    }
}
