//! Operator actions on a job: retry, cancel, delete.

use std::sync::Arc;

use jobqueue_shared::proto::v1::{CancelJobRequest, DeleteJobRequest, RetryJobRequest};
use leptos::prelude::*;
use leptos_router::{NavigateOptions, hooks::use_navigate};

use crate::{
    client::{self, Failure},
    components::{
        action::ActionButton,
        confirm::{Confirm, Question},
    },
    dom,
    in_flight::{InFlight, job_key},
    live::Live,
    model::{id, job},
    toast::Toasts,
};

/// Retries, cancels and deletes jobs, and reports the outcome in a toast, on whatever page the person is by then.
#[derive(Clone, Copy)]
struct JobActions {
    toasts: Toasts,
    live: Live,
    in_flight: InFlight,
}

impl JobActions {
    fn get() -> Self {
        Self { toasts: Toasts::get(), live: Live::get(), in_flight: InFlight::get() }
    }

    fn retry(self, job_id: String) {
        let done = format!("Job {} is pending again", id::short(&job_id));
        self.in_flight.run(vec![job_key(&job_id)], async move {
            self.show_outcome(client::retry_job(RetryJobRequest { job_id }).await.map(drop), done);
        });
    }

    fn cancel(self, job_id: String, reason: String) {
        let done = format!("Job {} cancelled", id::short(&job_id));
        self.in_flight.run(vec![job_key(&job_id)], async move {
            self.show_outcome(client::cancel_job(CancelJobRequest { job_id, reason }).await.map(drop), done);
        });
    }

    /// Deletes a job. `leave` is called afterwards if the person still looks at its page.
    fn delete(self, job_id: String, leave: impl Fn() + 'static) {
        let done = format!("Job {} deleted", id::short(&job_id));
        let page = id::job_page(&job_id);
        self.in_flight.run(vec![job_key(&job_id)], async move {
            let answer = client::delete_job(DeleteJobRequest { job_id }).await.map(drop);
            let deleted = answer.is_ok();
            if deleted && dom::path() == page {
                leave();
            }
            self.show_outcome(answer, done);
        });
    }

    fn show_outcome(self, answer: Result<(), Failure>, done: String) {
        let Self { toasts, live, .. } = self;
        match answer {
            Ok(()) => toasts.good(done),
            Err(failure) => toasts.bad(failure.message),
        }
        live.refresh();
    }
}

/// Buttons of the actions that the job's state allows.
#[component]
pub fn Actions(id: String, allowed: Memo<job::Actions>) -> impl IntoView {
    let actions = JobActions::get();
    let confirm = Confirm::get();
    let navigate = use_navigate();
    let busy = actions.in_flight.busy(job_key(&id));
    let id = StoredValue::new(id);
    let retry = move || actions.retry(id.get_value());
    let cancel = move || {
        let job_id = id.get_value();
        confirm.ask(Question {
            title: "Cancel this job?".into(),
            text: "A handler that runs it is told to stop; what it reports is no longer accepted.".into(),
            action: "Cancel job".into(),
            destroys: true,
            input: "Reason (kept as the job's note)",
            then: Arc::new(move |reason| actions.cancel(job_id.clone(), reason)),
        });
    };
    let delete = move || {
        let (job_id, navigate) = (id.get_value(), navigate.clone());
        confirm.ask(Question {
            title: "Delete this job?".into(),
            text: "The job, its payload, result and history are removed for good.".into(),
            action: "Delete job".into(),
            destroys: true,
            input: "",
            then: Arc::new(move |_| {
                let navigate = navigate.clone();
                actions.delete(job_id.clone(), move || navigate("/jobs", NavigateOptions::default()));
            }),
        });
    };
    view! {
        <div class="actions">
            <Show when=move || allowed.get().retry>
                <ActionButton class="button primary" icon="retry" word="Retry job" busy_word="Under way…" busy press=retry />
            </Show>
            <Show when=move || allowed.get().cancel>
                <ActionButton
                    class="button danger-quiet"
                    icon="prohibit"
                    word="Cancel job"
                    busy_word="Under way…"
                    busy
                    press=cancel
                />
            </Show>
            <Show when=move || allowed.get().delete>
                <ActionButton
                    class="button danger-quiet"
                    icon="trash"
                    word="Delete job"
                    busy_word="Under way…"
                    busy
                    press=delete.clone()
                />
            </Show>
        </div>
    }
}
