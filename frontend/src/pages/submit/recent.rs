//! Recent jobs of the worker_id that is typed: their tasks as suggestions, and each as the beginning of a new draft.

use std::sync::Arc;

use jobqueue_shared::proto::v1::{GetJobRequest, Job, JobView, ListJobsRequest};
use leptos::{ev, prelude::*, task::spawn_local};

use crate::{
    calls::{client, in_flight::InFlight},
    components::confirm::{Confirm, Question},
    feeds::{counts_feed::CountsFeed, live::Live},
    model::{draft::Draft, recent_jobs},
    toast::Toasts,
};

/// Number of recent jobs that are read.
const READ: i32 = 100;
/// Key of the call that reads the job to begin with.
const READING: &str = "job to begin with";

/// Recent jobs of the worker_id, newest first, without payloads; none of one that is not known.
pub fn recent_jobs(form: RwSignal<Draft>) -> RwSignal<Vec<Job>> {
    let known = CountsFeed::get().worker_ids();
    let recent = RwSignal::new(Vec::<Job>::new());
    let worker_id = Memo::new(move |_| {
        let typed = form.with(|form| form.worker_id.clone());
        known.with(|known| known.contains(&typed)).then_some(typed)
    });
    Effect::new(move |_| {
        recent.set(vec![]);
        let Some(worker_id) = worker_id.get() else { return };
        spawn_local(async move {
            let request = ListJobsRequest {
                worker_id: worker_id.clone(),
                page_size: READ,
                view: JobView::Basic.into(),
                ..ListJobsRequest::default()
            };
            // Without an answer there are no suggestions; the form says elsewhere that the server is away.
            let jobs = client::list_jobs(request).await.map(|answer| answer.jobs).unwrap_or_default();
            if worker_id.is_empty() || form.try_with_untracked(|form| form.worker_id == worker_id) == Some(true) {
                let _ = recent.try_set(jobs);
            }
        });
    });
    recent
}

/// Datalist of the tasks of recent jobs.
#[component]
pub fn TaskList(recent: RwSignal<Vec<Job>>) -> impl IntoView {
    let tasks = Memo::new(move |_| recent.with(|jobs| recent_jobs::tasks(jobs)));
    view! {
        <datalist id="recent-tasks">
            {move || tasks.get().into_iter().map(|task| view! { <option value=task></option> }).collect_view()}
        </datalist>
    }
}

/// Choice of a recent job, whose values fill the form.
#[component]
pub fn FromRecent(form: RwSignal<Draft>, recent: RwSignal<Vec<Job>>) -> impl IntoView {
    let (confirm, in_flight, toasts, live) = (Confirm::get(), InFlight::get(), Toasts::get(), Live::get());
    let fill = move |job_id: String| {
        in_flight.run(vec![READING.to_owned()], async move {
            match client::get_job(GetJobRequest { job_id }).await {
                Ok(answer) => {
                    if let Some(job) = answer.job {
                        let _ = form.try_update(|form| form.begin_with(&job));
                    }
                }
                Err(failure) => toasts.bad(failure.message),
            }
        });
    };
    let choose = move |event: ev::Event| {
        let job_id = event_target_value(&event);
        if job_id.is_empty() {
            return;
        }
        if form.with_untracked(Draft::is_blank) {
            return fill(job_id);
        }
        confirm.ask(Question {
            title: "Replace what is typed?".into(),
            text: "Task, payload and options are filled in from that job.".into(),
            action: "Replace".into(),
            destroys: false,
            input: "",
            then: Arc::new(move |_| fill(job_id.clone())),
        });
    };
    let options = move || recent.with(|jobs| recent_jobs::choices(jobs, live.now.get_untracked()));
    view! {
        <Show when=move || !recent.with(Vec::is_empty)>
            <div class="field recent">
                <label for="from-recent">"From a recent job"</label>
                <select id="from-recent" class="input" on:change=choose prop:value="">
                    <option value="">"Choose a job to begin with"</option>
                    {move || options().into_iter().map(|(id, words)| view! { <option value=id>{words}</option> }).collect_view()}
                </select>
            </div>
        </Show>
    }
}
