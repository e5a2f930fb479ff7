//! Retry of many jobs, which belongs to the app: it goes on, and shows its progress, whatever becomes of the list in
//! which the jobs were selected.

use futures::{StreamExt as _, stream};
use jobqueue_shared::proto::v1::RetryJobRequest;
use leptos::prelude::*;

use crate::{
    browser::dom,
    calls::{client, in_flight::job_key, operator_actions::OperatorActions},
    model::tally::{Outcome, Tally},
};

/// Maximum number of retries under way at once.
const TOGETHER: usize = 6;
/// Key of a retry of many jobs, of which there is one at a time.
pub const BULK_KEY: &str = "retry of the selection";

/// Progress of the retry that is under way, or that ended with failures that nobody has closed yet.
#[derive(Clone, Copy)]
pub struct BulkRetry {
    pub tally: RwSignal<Option<Tally>>,
    pub is_stopped: RwSignal<bool>,
    pub is_over: RwSignal<bool>,
}

impl BulkRetry {
    pub fn provide() {
        let retry =
            Self { tally: RwSignal::new(None), is_stopped: RwSignal::new(false), is_over: RwSignal::new(false) };
        provide_context(retry);
        // The browser asks whether to leave, because a closed or reloaded tab ends the retry.
        dom::listen("beforeunload", move |event| {
            if retry.tally.with_untracked(Option::is_some) && !retry.is_over.get_untracked() {
                event.prevent_default();
            }
        });
    }

    pub fn get() -> Self {
        expect_context()
    }

    /// Retries the jobs, without those for which a call is under way already. The next refresh removes retried jobs
    /// from the list, and with it from the selection.
    pub fn start(self, actions: OperatorActions, mut ids: Vec<String>) {
        ids.retain(|id| !actions.in_flight.is_under_way(&job_key(id)));
        if ids.is_empty() || actions.in_flight.is_under_way(BULK_KEY) {
            return;
        }
        let keys = ids.iter().map(|id| job_key(id)).chain([BULK_KEY.to_owned()]).collect();
        self.is_stopped.set(false);
        self.is_over.set(false);
        self.tally.set(Some(Tally::of(ids.len())));
        actions.in_flight.run(keys, async move {
            let calls = stream::iter(ids).take_while(|_| std::future::ready(!self.is_stopped.get_untracked()));
            let mut answers = calls.map(retry).buffer_unordered(TOGETHER).boxed_local();
            while let Some((id, outcome)) = answers.next().await {
                self.tally.update(|tally| tally.iter_mut().for_each(|tally| tally.add(id.clone(), outcome.clone())));
            }
            self.end(actions);
        });
    }

    fn end(self, actions: OperatorActions) {
        self.is_over.set(true);
        let tally = self.tally.get_untracked().unwrap_or_default();
        if tally.failed.is_empty() {
            self.tally.set(None);
        }
        tell(actions, &tally);
    }
}

/// Retries one job, unless a call for it is under way already.
pub fn retry_one(actions: OperatorActions, id: String) {
    actions.in_flight.run(vec![job_key(&id)], async move {
        let mut tally = Tally::of(1);
        let (id, outcome) = retry(id).await;
        tally.add(id, outcome);
        tell(actions, &tally);
    });
}

async fn retry(id: String) -> (String, Outcome) {
    let outcome = match client::retry_job(RetryJobRequest { job_id: id.clone() }).await {
        Ok(_) => Outcome::Done,
        Err(failure) if failure.is_gone() => Outcome::Gone,
        Err(failure) => Outcome::Failed(failure.message),
    };
    (id, outcome)
}

/// Says in a toast what happened, and refreshes what is shown.
fn tell(actions: OperatorActions, tally: &Tally) {
    if tally.failed.is_empty() && tally.done > 0 {
        actions.toasts.good(tally.summary());
    } else {
        actions.toasts.bad(tally.summary());
    }
    actions.live.refresh();
}
