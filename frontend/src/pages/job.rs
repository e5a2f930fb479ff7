//! One job: where it stands, what it carries, what happened to it, and what can be done with it.

use jobqueue_shared::{
    proto::v1::{
        CancelJobRequest, DeleteJobRequest, GetJobRequest, GetJobResponse, Job, RetryJobRequest, RetryPolicy,
        dead_letter::Reason, job::Status,
    },
    state::State,
    status::state,
    time::{duration_ms, timestamp_ms},
};
use leptos::{prelude::*, task::spawn_local};
use leptos_router::{
    NavigateOptions,
    components::A,
    hooks::{use_navigate, use_params_map},
};

use crate::{
    api::{self, Failure, Kind},
    components::{
        confirm::{Confirm, Question},
        heading::Heading,
        icon::Icon,
        json_panel::JsonPanel,
        notice::{Empty, Trouble},
        small::{Ago, CopyButton, Pill},
        timeline::Timeline,
    },
    live::{Feed, Live, feed},
    model::{filter::Filter, id, span, status},
    toast::Toasts,
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
    let attempts = Memo::new(move |_| answer.data.get().map(|data| data.attempts).unwrap_or_default());
    let gone = Memo::new(move |_| {
        answer.failure.with(|failure| failure.as_ref().is_some_and(|(_, failure)| failure.kind == Kind::NotFound))
    });
    let trouble = Signal::derive(move || if gone.get() { None } else { answer.failure.get() });
    let there = Memo::new(move |_| job.with(Option::is_some));
    let shown = Signal::derive(move || job.get().unwrap_or_default());
    let payload =
        Signal::derive(move || job.with(|job| job.as_ref().map(|job| job.payload_json.clone())).unwrap_or_default());
    let result =
        Signal::derive(move || job.with(|job| job.as_ref().map(|job| job.result_json.clone())).unwrap_or_default());
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
            <Facts job=shown />
            <div class="columns even">
                <JsonPanel title="Payload" text=payload file=payload_file.clone() empty="The payload is empty." />
                <JsonPanel title="Result" text=result file=result_file.clone() empty="The job has returned nothing." />
            </div>
            <section class="card">
                <header class="card-head">
                    <h2>"Attempts"</h2>
                </header>
                <Timeline job=shown attempts />
            </section>
        </Show>
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
        let handler = job.waits_for_handler.then(|| {
            view! {
                <div class="notice warn">
                    <Icon name="question" />
                    <p>
                        "A worker took it, had no handler for task "<strong>{job.task.clone()}</strong>
                        " and gave it back. It waits for a worker that has one."
                    </p>
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
        view! { {letter} {handler} {note} {progress} }
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

#[component]
fn Facts(job: Signal<Job>) -> impl IntoView {
    let fact = |name: &'static str, value: AnyView| {
        view! {
            <div>
                <dt>{name}</dt>
                <dd>{value}</dd>
            </div>
        }
    };
    let list = move || {
        let job = job.get();
        let time = |at: &Option<_>| view! { <Ago ms=at.as_ref().map(timestamp_ms) /> }.into_any();
        let text = |text: &str| if text.is_empty() { "–".to_owned().into_any() } else { text.to_owned().into_any() };
        let mono = |text: &str| view! { <span class="mono">{text.to_owned()}</span> }.into_any();
        let timeout = job.attempt_timeout.as_ref().map_or_else(|| "none".into(), |it| span::exact(duration_ms(it)));
        vec![
            fact("Attempts", status::attempts(&job).into_any()),
            fact("Priority", job.priority.into_any()),
            fact("Retry policy", job.retry_policy.as_ref().map_or_else(String::new, policy).into_any()),
            fact("Attempt timeout", timeout.into_any()),
            fact("Idempotency key", if job.idempotency_key.is_empty() { text("") } else { mono(&job.idempotency_key) }),
            fact("Session", if job.session_id.is_empty() { text("") } else { mono(&job.session_id) }),
            fact("Created", time(&job.created_at)),
            fact("Run at", time(&job.run_at)),
            fact("Started", time(&job.started_at)),
            fact("Finished", time(&job.finished_at)),
            fact("Changed", time(&job.updated_at)),
            fact("Hand-overs", job.run_no.into_any()),
        ]
    };
    view! {
        <section class="card">
            <h2 class="unseen">"Facts"</h2>
            <dl class="facts">{list}</dl>
        </section>
    }
}

/// "5 s × 2, at most 1 h, ± 20 %".
fn policy(policy: &RetryPolicy) -> String {
    let time = |it: &Option<_>| it.as_ref().map_or(0, duration_ms);
    format!(
        "{} × {}, at most {}, ± {} %",
        span::exact(time(&policy.initial)),
        policy.factor(),
        span::exact(time(&policy.max)),
        (policy.jitter() * 100.0).round()
    )
}

/// Only what the job's state allows.
#[component]
fn Actions(job: Signal<Job>) -> impl IntoView {
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
