//! Operator actions on a job: retry, cancel, delete.

use std::sync::Arc;

use jobqueue_shared::proto::v1::{CancelJobRequest, DeleteJobRequest, GetJobResponse, Job, RetryJobRequest};
use leptos::prelude::*;
use leptos_router::{NavigateOptions, hooks::use_navigate};

use crate::{
    browser::dom,
    calls::{client, in_flight::job_key, operator_actions::OperatorActions},
    components::{
        action::ActionButton,
        atoms::CopyButton,
        confirm::{Confirm, Question},
        icon::Icon,
    },
    feeds::live::Feed,
    model::{grpcurl, id, job},
    pages::job::copy::ask_to_clone,
};

fn retry(actions: OperatorActions, job_id: String) {
    let (key, done) = (job_key(&job_id), format!("Job {} is pending again", id::short(&job_id)));
    actions.start(key, client::retry_job(RetryJobRequest { job_id }), done);
}

fn cancel(actions: OperatorActions, job_id: String, reason: String) {
    let (key, done) = (job_key(&job_id), format!("Job {} cancelled", id::short(&job_id)));
    actions.start(key, client::cancel_job(CancelJobRequest { job_id, reason }), done);
}

/// Deletes a job. `leave` is called afterwards if the person still looks at its page.
fn delete(actions: OperatorActions, job_id: String, leave: impl Fn() + 'static) {
    let (key, done) = (job_key(&job_id), format!("Job {} deleted", id::short(&job_id)));
    let page = id::job_page(&job_id);
    let call = async move {
        let answer = client::delete_job(DeleteJobRequest { job_id }).await;
        if answer.is_ok() && dom::path() == page {
            leave();
        }
        answer
    };
    actions.start(key, call, done);
}

/// Buttons of the actions that the job's state allows.
#[component]
pub fn Actions(
    id: String,
    allowed: Memo<job::Actions>,
    answer: Feed<GetJobResponse>,
    /// Job whose copy is edited.
    edited: RwSignal<Option<Job>>,
) -> impl IntoView {
    let actions = OperatorActions::get();
    let confirm = Confirm::get();
    let navigate = use_navigate();
    let busy = actions.in_flight.busy(job_key(&id));
    let id = StoredValue::new(id);
    let retry = move || retry(actions, id.get_value());
    let known = move || answer.data.with_untracked(|data| data.as_ref()?.job.clone());
    let to_copy = navigate.clone();
    let clone = move || {
        let navigate = to_copy.clone();
        ask_to_clone(actions, confirm, id.get_value(), move |page| navigate(&page, NavigateOptions::default()));
    };
    let command = Callback::new(move |()| {
        let (authority, secure) = dom::authority();
        known().map(|job| grpcurl::submit(&grpcurl::request_of(&job), &authority, secure)).unwrap_or_default()
    });
    let cancel = move || {
        let job_id = id.get_value();
        confirm.ask(Question {
            title: "Cancel this job?".into(),
            text: "A handler that runs it is told to stop; what it reports is no longer accepted.".into(),
            action: "Cancel job".into(),
            destroys: true,
            input: "Reason (kept as the job's note)",
            then: Arc::new(move |reason| cancel(actions, job_id.clone(), reason)),
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
                delete(actions, job_id.clone(), move || navigate("/jobs", NavigateOptions::default()));
            }),
        });
    };
    view! {
        <div class="actions">
            <Show when=move || allowed.get().retry>
                <ActionButton
                    class="button primary"
                    icon="retry"
                    word="Retry job"
                    busy_word="Under way…"
                    busy
                    key="r"
                    press=retry
                />
            </Show>
            <button type="button" class="button" on:click=move |_| edited.set(known())>
                <Icon name="pencil" />
                "Edit and rerun"
            </button>
            <ActionButton class="button" icon="copy" word="Clone" busy_word="Under way…" busy press=clone />
            <CopyButton text=command label="Copy as grpcurl" word="grpcurl" />
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
