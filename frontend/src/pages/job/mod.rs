//! One job: where it stands, what it carries, what happened to it, and what can be done with it.

mod actions;
mod facts;
mod why;

use jobqueue_shared::{
    proto::v1::{GetJobRequest, GetJobResponse, GetTimelineRequest, Job, dead_letter::Reason, job::Status},
    time::timestamp_ms,
};
use leptos::prelude::*;
use leptos_router::{components::A, hooks::use_params_map};

use self::{actions::Actions, facts::Facts, why::Why};
use crate::{
    api,
    components::{
        heading::Heading,
        icon::Icon,
        json_panel::JsonPanel,
        notice::{Empty, Trouble},
        small::{Ago, CopyButton, Pill},
        timeline::Timeline,
    },
    live::{Feed, Live, feed},
    model::{filter::Filter, status},
};

#[component]
pub fn JobPage() -> impl IntoView {
    let params = use_params_map();
    let id = Memo::new(move |_| params.with(|params| params.get("id")).unwrap_or_default());
    // Another id is another page: nothing of the last job stays.
    move || view! { <OneJob id=id.get() /> }
}

#[component]
fn OneJob(id: String) -> impl IntoView {
    let asked = id.clone();
    let answer: Feed<GetJobResponse> = feed(move || asked.clone(), |job_id| api::get_job(GetJobRequest { job_id }));
    let job = Memo::new(move |_| answer.data.with(|data| data.as_ref().and_then(|data| data.job.clone())));
    let (gone, trouble) = (Memo::new(move |_| answer.is_gone()), Signal::derive(move || answer.trouble()));
    let there = Memo::new(move |_| job.with(Option::is_some));
    let shown = Signal::derive(move || job.get().unwrap_or_default());
    let payload =
        Signal::derive(move || job.with(|job| job.as_ref().map(|job| job.payload_json.clone())).unwrap_or_default());
    let result =
        Signal::derive(move || job.with(|job| job.as_ref().map(|job| job.result_json.clone())).unwrap_or_default());
    let waits = Memo::new(move |_| job.with(|job| job.as_ref().is_some_and(|job| job.status() == Status::Pending)));
    let copied = id.clone();
    let (payload_file, result_file) = (format!("{id}-payload.json"), format!("{id}-result.json"));
    view! {
        <p class="crumb">
            <A href="/jobs">"Jobs"</A>
        </p>
        <div class="page-head">
            <Heading title=id mono=true />
            <CopyButton text=Callback::new(move |()| copied.clone()) label="Copy id" />
            <Show when=move || there.get() && !gone.get()>
                <Actions job=shown />
            </Show>
        </div>
        <Show when=move || gone.get()>
            {move || gone_note(there.get())}
        </Show>
        <Trouble failure=trouble has_data=there />
        <Show when=move || answer.is_loading()>
            <div class="card">
                <div class="card-body"><span class="bone tall"></span></div>
            </div>
        </Show>
        <Show when=move || there.get()>
            <Summary job=shown />
            <Show when=move || waits.get() && !gone.get()>
                <Why job=shown />
            </Show>
            <Facts job=shown />
            <div class="columns even">
                <JsonPanel title="Payload" text=payload file=payload_file.clone() empty="The payload is empty." />
                <JsonPanel title="Result" text=result file=result_file.clone() empty="The job has returned nothing." />
            </div>
            <History job=shown />
        </Show>
    }
}

#[component]
fn History(job: Signal<Job>) -> impl IntoView {
    let timeline =
        feed(move || job.with(|job| job.id.clone()), |job_id| api::get_timeline(GetTimelineRequest { job_id }));
    let events = Memo::new(move |_| timeline.data.get().map(|data| data.events).unwrap_or_default());
    let has_data = Memo::new(move |_| timeline.data.with(Option::is_some));
    // The page has said already that the job is gone.
    let trouble = Signal::derive(move || timeline.trouble());
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"Timeline"</h2>
            </header>
            <Trouble failure=trouble has_data />
            <Show when=move || timeline.is_loading()>
                <div class="card-body"><span class="bone tall"></span></div>
            </Show>
            <Timeline events />
        </section>
    }
}

fn gone_note(was_there: bool) -> impl IntoView {
    let title = if was_there { "This job has been deleted" } else { "No job has this id" };
    let text = if was_there {
        "What is shown below was known before."
    } else {
        "It may have been deleted, or be older than the time that finished jobs are kept."
    };
    view! {
        <Empty icon="question" title=title>
            <p>{text} " " <A href="/jobs">"See all jobs"</A> "."</p>
        </Empty>
    }
}

/// Status, task and worker_id, and whatever a person should know first.
#[component]
fn Summary(job: Signal<Job>) -> impl IntoView {
    let live = Live::get();
    let look = Memo::new(move |_| job.with(|job| status::job(job, live.now.get())));
    let notes = move || {
        let job = job.get();
        let reason = job.failure_reason();
        let letter = (reason != Reason::Unspecified || job.status() == Status::Failed).then(|| {
            let error = job.last_error.clone();
            view! {
                <div class="notice bad">
                    <Icon name="cross" />
                    <div>
                        <p>
                            <strong>"Dead letter: "{status::reason(reason)}"."</strong>
                            " It runs again only when a person retries it."
                        </p>
                        {(!error.is_empty())
                            .then(|| view! { <pre class="inline-error" tabindex="0" aria-label="Last error">{error}</pre> })}
                    </div>
                </div>
            }
        });
        let note = (!job.note.is_empty()).then(|| {
            view! {
                <div class="notice">
                    <Icon name="flag" />
                    <p>{job.note.clone()}</p>
                </div>
            }
        });
        let progress = job.progress.clone().filter(|_| job.status() == Status::Running).map(|progress| {
            let percent = (progress.fraction.clamp(0.0, 1.0) * 100.0).round();
            view! {
                <div class="progress">
                    <progress max="100" value=percent aria-label="Progress"></progress>
                    <span>{percent}" %"</span>
                    <span class="muted">{progress.message}</span>
                    <Ago ms=progress.at.as_ref().map(timestamp_ms) />
                </div>
            }
        });
        view! { {letter} {note} {progress} }
    };
    view! {
        <div class="summary">
            <Pill look />
            {move || {
                let job = job.get();
                let by = |filter: Filter| filter.url("/jobs");
                let task = (!job.task.is_empty())
                    .then(|| {
                        let href = by(Filter { task: job.task.clone(), ..Filter::default() });
                        view! {
                            <span>
                                <span class="muted">"task "</span>
                                <A href=href>{job.task.clone()}</A>
                            </span>
                        }
                    });
                let href = by(Filter { worker_id: job.worker_id.clone(), ..Filter::default() });
                view! {
                    {task}
                    <span>
                        <span class="muted">"worker_id "</span>
                        <A href=href attr:class="mono">
                            {job.worker_id.clone()}
                        </A>
                    </span>
                }
            }}
        </div>
        {notes}
    }
}
