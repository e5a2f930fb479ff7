//! What can be done with a job.

use jobqueue_shared::{
    proto::v1::{CancelJobRequest, DeleteJobRequest, Job, RetryJobRequest},
    state::State,
    status::state,
};
use leptos::{prelude::*, task::spawn_local};
use leptos_router::{NavigateOptions, hooks::use_navigate};

use crate::{
    api::{self, Failure},
    components::{
        confirm::{Confirm, Question},
        icon::Icon,
    },
    live::Live,
    model::id,
    toast::Toasts,
};

/// Only what the job's state allows.
#[component]
pub fn Actions(job: Signal<Job>) -> impl IntoView {
    let (confirm, toasts, live) = (Confirm::get(), Toasts::get(), Live::get());
    let navigate = use_navigate();
    let at = Memo::new(move |_| job.with(|job| state(job.status())));
    let id = Memo::new(move |_| job.with(|job| job.id.clone()));
    let short = move || id::short(&id.get_untracked());
    let told = move |answer: Result<(), Failure>, done: String| {
        match answer {
            Ok(()) => toasts.good(done),
            Err(failure) => toasts.bad(failure.message),
        }
        live.refresh();
    };
    let retry = move |_| {
        let (job_id, done) = (id.get_untracked(), format!("Job {} is pending again", short()));
        spawn_local(async move { told(api::retry_job(RetryJobRequest { job_id }).await.map(drop), done) });
    };
    let cancel = move |_| {
        confirm.ask(Question {
            title: "Cancel this job?".into(),
            text: "A handler that runs it is told to stop; what it reports is no longer accepted.".into(),
            action: "Cancel job".into(),
            destroys: true,
            input: "Reason (kept as the job's note)",
            then: Callback::new(move |reason| {
                let (job_id, done) = (id.get_untracked(), format!("Job {} cancelled", short()));
                spawn_local(async move {
                    told(api::cancel_job(CancelJobRequest { job_id, reason }).await.map(drop), done);
                });
            }),
        });
    };
    let delete = move |_| {
        let navigate = navigate.clone();
        confirm.ask(Question {
            title: "Delete this job?".into(),
            text: "The job, its payload, result and history are removed for good.".into(),
            action: "Delete job".into(),
            destroys: true,
            input: "",
            then: Callback::new(move |_| {
                let (job_id, done) = (id.get_untracked(), format!("Job {} deleted", short()));
                let navigate = navigate.clone();
                spawn_local(async move {
                    let answer = api::delete_job(DeleteJobRequest { job_id }).await.map(drop);
                    let deleted = answer.is_ok();
                    told(answer, done);
                    if deleted {
                        navigate("/jobs", NavigateOptions::default());
                    }
                });
            }),
        });
    };
    view! {
        <div class="actions">
            <Show when=move || at.get().is_some_and(State::can_retry)>
                <button type="button" class="button primary" on:click=retry>
                    <Icon name="retry" />
                    "Retry job"
                </button>
            </Show>
            <Show when=move || at.get().is_some_and(State::can_cancel)>
                <button type="button" class="button danger-quiet" on:click=cancel>
                    <Icon name="prohibit" />
                    "Cancel job"
                </button>
            </Show>
            <Show when=move || at.get().is_some_and(State::is_finished)>
                <button type="button" class="button danger-quiet" on:click=delete.clone()>
                    <Icon name="trash" />
                    "Delete job"
                </button>
            </Show>
        </div>
    }
}
