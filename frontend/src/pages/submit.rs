//! Submits one job, with every option, and shows what becomes of it.

use jobqueue_shared::proto::v1::{GetJobRequest, SubmitJobRequest};
use leptos::{ev::SubmitEvent, prelude::*, task::spawn_local};
use leptos_router::components::A;

use crate::{
    api::{self, Failure, Kind},
    components::{
        field::{Complaints, Field, TextField, control_id, described_by},
        heading::Heading,
        icon::Icon,
        small::{CopyButton, JobLink, Pill},
    },
    dom,
    live::{Live, feed},
    model::{
        draft::{self, Check, Complaint, Draft, When},
        grpcurl, json, status,
    },
    toast::Toasts,
};

const KEPT: &str = "submit-draft";

/// Fields of the form by their names in the API, in the order of the page.
const FIELDS: [&str; 13] = [
    "worker_id",
    "task",
    "payload_json",
    "idempotency_key",
    "priority",
    "delay",
    "run_at",
    "max_retries",
    "attempt_timeout",
    "retry_policy.initial",
    "retry_policy.factor",
    "retry_policy.max",
    "retry_policy.jitter",
];

/// What the server said to the last submission.
#[derive(Clone, PartialEq)]
enum Outcome {
    None,
    Sending,
    Stored { job_id: String, deduplicated: bool },
    Failed(Failure),
}

#[component]
pub fn Submit() -> impl IntoView {
    let form = RwSignal::new(kept());
    let complaints = RwSignal::new(Vec::<Complaint>::new());
    let outcome = RwSignal::new(Outcome::None);
    provide_context(Complaints(complaints));
    // A reload or a closed tab loses nothing either.
    Effect::new(move |_| form.with(keep));

    let refuse = move |failure: Failure| {
        complaints.set(failure.fields.clone());
        outcome.set(Outcome::Failed(failure));
        let first = FIELDS.iter().find(|name| complaints.with_untracked(|all| all.iter().any(|(it, _)| it == *name)));
        dom::focus(&first.map_or_else(|| "outcome".to_owned(), |name| control_id(name)));
    };
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        if outcome.with_untracked(|it| *it == Outcome::Sending) {
            return;
        }
        let request = match form.with_untracked(|form| form.request(dom::parse_local)) {
            Ok(request) => request,
            Err(fields) => {
                let message = "Some fields cannot be sent as they are".into();
                return refuse(Failure { kind: Kind::Refused, message, fields, job_id: None });
            }
        };
        complaints.set(vec![]);
        outcome.set(Outcome::Sending);
        spawn_local(async move {
            match api::submit_job(request).await {
                Ok(answer) => {
                    outcome.set(Outcome::Stored { job_id: answer.job_id, deduplicated: answer.deduplicated });
                    dom::focus("outcome");
                }
                Err(failure) => refuse(failure),
            }
        });
    };
    let sending = move || outcome.with(|it| *it == Outcome::Sending);
    view! {
        <div class="page-head">
            <Heading title="Submit" />
        </div>
        <form class="submit" novalidate="" on:submit=submit>
            <div class="card card-body form">
                <Essentials form />
            </div>
            <div class="card card-body form">
                <h2>"Options"</h2>
                <Options form />
            </div>
            <div class="form-actions">
                <button type="submit" class="button primary" aria-busy=move || sending().to_string()>
                    <Icon name="submit" />
                    {move || if sending() { "Submitting…" } else { "Submit job" }}
                </button>
                <GrpcurlButton form />
                <button
                    type="button"
                    class="button quiet"
                    on:click=move |_| {
                        form.set(Draft::default());
                        complaints.set(vec![]);
                    }
                >
                    "Clear form"
                </button>
            </div>
            <div id="outcome" tabindex="-1" role="status" aria-live="polite">
                {move || said(&outcome.get())}
            </div>
        </form>
    }
}

fn kept() -> Draft {
    let text = dom::session_storage().and_then(|storage| storage.get_item(KEPT).ok().flatten());
    text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn keep(draft: &Draft) {
    if let (Some(storage), Ok(text)) = (dom::session_storage(), serde_json::to_string(draft)) {
        let _ = storage.set_item(KEPT, &text);
    }
}

fn bind(form: RwSignal<Draft>, field: fn(&mut Draft) -> &mut String) -> (Signal<String>, Callback<String>) {
    let get = Signal::derive(move || field(&mut form.get()).clone());
    let set = Callback::new(move |text: String| form.update(|form| *field(form) = text));
    (get, set)
}

#[component]
fn Essentials(form: RwSignal<Draft>) -> impl IntoView {
    let (worker_id, set_worker_id) = bind(form, |form| &mut form.worker_id);
    let (task, set_task) = bind(form, |form| &mut form.task);
    view! {
        <div class="grid-2">
            <TextField
                name="worker_id"
                label="worker_id"
                help="Whose job it is: the name that its workers were started with."
                placeholder="worker-1a"
                list="worker-ids"
                value=worker_id
                set=set_worker_id
            />
            <TextField
                name="task"
                label="Task"
                help="Picks the handler. Empty: the payload's top-level \"task\"."
                placeholder="email"
                value=task
                set=set_task
            />
        </div>
        <Payload form />
    }
}

/// The payload, judged while it is typed.
#[component]
fn Payload(form: RwSignal<Draft>) -> impl IntoView {
    let name = "payload_json";
    let complaints = expect_context::<Complaints>();
    let text = Memo::new(move |_| form.with(|form| form.payload_json.clone()));
    let check = Memo::new(move |_| text.with(|text| draft::check(text)));
    let said = move || match check.get() {
        Check::Empty => view! { <span>"JSON, at most 256 KiB and 64 levels deep"</span> }.into_any(),
        Check::Valid(text) => view! { <span class="good"><Icon name="check" />{text}</span> }.into_any(),
        Check::Wrong(text) => {
            view! { <span class="error"><Icon name="warning" />"The payload "{text}</span> }.into_any()
        }
    };
    let tidy = move |_| {
        form.update(|form| {
            form.payload_json = json::pretty(&form.payload_json).into_iter().map(|(_, piece)| piece).collect();
        });
    };
    view! {
        <Field name=name label="Payload" wide=true>
            <textarea
                id=control_id(name)
                class="input mono"
                rows="9"
                spellcheck="false"
                autocomplete="off"
                placeholder="{\"task\": \"email\", \"to\": \"someone@example.com\"}"
                aria-invalid=move || (complaints.of(name).is_some() || matches!(check.get(), Check::Wrong(_))).then_some("true")
                aria-describedby=format!("payload-check {}", described_by(name, false))
                prop:value=text
                on:input=move |event| form.update(|form| form.payload_json = event_target_value(&event))
            ></textarea>
            <div class="check">
                <p id="payload-check" class="help" role="status" aria-live="polite">
                    {said}
                </p>
                <Show when=move || matches!(check.get(), Check::Valid(_))>
                    <button type="button" class="button quiet" on:click=tidy>
                        "Indent"
                    </button>
                </Show>
            </div>
        </Field>
    }
}

#[component]
fn Options(form: RwSignal<Draft>) -> impl IntoView {
    let text = move |name: &'static str,
                     label: &'static str,
                     help: &'static str,
                     placeholder: &'static str,
                     numeric: bool,
                     field: fn(&mut Draft) -> &mut String| {
        let (value, set) = bind(form, field);
        view! { <TextField name label help placeholder numeric value set /> }
    };
    let (key, set_key) = bind(form, |form| &mut form.idempotency_key);
    view! {
        <div class="grid-2">
            <div class="with-button">
                <TextField
                    name="idempotency_key"
                    label="Idempotency key"
                    help="The same key and request give the same job, until 24 h after it finished."
                    placeholder="none"
                    value=key
                    set=set_key
                />
                <button
                    type="button"
                    class="button"
                    on:click=move |_| set_key.run(uuid::Uuid::new_v4().to_string())
                >
                    "New key"
                </button>
            </div>
            {text(
                "priority",
                "Priority",
                "0 to 9; lower runs first.",
                "5",
                true,
                |form| &mut form.priority,
            )}
        </div>
        <Starts form />
        <div class="grid-2">
            {text(
                "max_retries",
                "max_retries",
                "How many attempts there are in all, up to 100; 0 means one.",
                "3",
                true,
                |form| &mut form.max_retries,
            )}
            {text(
                "attempt_timeout",
                "Attempt timeout",
                "How long one attempt may take, such as 30s, 5m or 1h 30m.",
                "no limit",
                false,
                |form| &mut form.attempt_timeout,
            )}
        </div>
        <fieldset>
            <legend>"Delay between attempts"</legend>
            <div class="grid-4">
                {text("retry_policy.initial", "First", "", "5s", false, |form| &mut form.initial)}
                {text("retry_policy.factor", "Then times", "", "2", true, |form| &mut form.factor)}
                {text("retry_policy.max", "At most", "", "1h", false, |form| &mut form.max)}
                {text("retry_policy.jitter", "Jitter, 0 to 1", "", "0.2", true, |form| &mut form.jitter)}
            </div>
        </fieldset>
    }
}

/// Now, after a delay, or at a time.
#[component]
fn Starts(form: RwSignal<Draft>) -> impl IntoView {
    let when = Memo::new(move |_| form.with(|form| form.when));
    let choice = move |value: When, word: &'static str| {
        view! {
            <label class="choice">
                <input
                    type="radio"
                    name="when"
                    prop:checked=move || when.get() == value
                    on:change=move |_| form.update(|form| form.when = value)
                />
                {word}
            </label>
        }
    };
    let (delay, set_delay) = bind(form, |form| &mut form.delay);
    let (run_at, set_run_at) = bind(form, |form| &mut form.run_at);
    view! {
        <fieldset>
            <legend>"Runs"</legend>
            <div class="choices">
                {choice(When::Now, "As soon as possible")} {choice(When::Delay, "After a delay")}
                {choice(When::At, "At a time")}
            </div>
            <Show when=move || when.get() == When::Delay>
                <TextField
                    name="delay"
                    label="Delay"
                    help="Such as 30s, 5m or 1h 30m; up to a year."
                    placeholder="10m"
                    value=delay
                    set=set_delay
                />
            </Show>
            <Show when=move || when.get() == When::At>
                <TextField
                    name="run_at"
                    label="Run at"
                    help="By this browser's clock; up to a year ahead."
                    kind="datetime-local"
                    value=run_at
                    set=set_run_at
                />
            </Show>
        </fieldset>
    }
}

/// The request as a command line, as far as it can be sent.
#[component]
fn GrpcurlButton(form: RwSignal<Draft>) -> impl IntoView {
    let toasts = Toasts::get();
    let text = Callback::new(move |()| {
        let (authority, secure) = dom::authority();
        let request = form.with_untracked(|form| form.request(dom::parse_local)).unwrap_or_else(|fields| {
            let names: Vec<_> = fields.into_iter().map(|(field, _)| field).collect();
            toasts.bad(format!("Copied without the options: {} cannot be sent as it is", names.join(", ")));
            let form = form.get_untracked();
            SubmitJobRequest {
                worker_id: form.worker_id,
                task: form.task,
                payload_json: form.payload_json,
                idempotency_key: form.idempotency_key,
                ..SubmitJobRequest::default()
            }
        });
        grpcurl::submit(&request, &authority, secure)
    });
    view! { <CopyButton text label="Copy as grpcurl" word="Copy as grpcurl" /> }
}

fn said(outcome: &Outcome) -> Option<AnyView> {
    match outcome {
        Outcome::None | Outcome::Sending => None,
        Outcome::Stored { job_id, deduplicated } => {
            Some(view! { <Stored job_id=job_id.clone() deduplicated=*deduplicated /> }.into_any())
        }
        Outcome::Failed(failure) => Some(view! { <Refused failure=failure.clone() /> }.into_any()),
    }
}

/// The job that was stored, as it goes on.
#[component]
fn Stored(job_id: String, deduplicated: bool) -> impl IntoView {
    let live = Live::get();
    let asked = job_id.clone();
    let answer = feed(move || asked.clone(), |job_id| api::get_job(GetJobRequest { job_id }));
    let look =
        Memo::new(move |_| answer.data.with(|data| Some(status::job(data.as_ref()?.job.as_ref()?, live.now.get()))));
    view! {
        <div class="notice good">
            <Icon name="check" />
            <p>
                {if deduplicated { "This key had been used for the same request: it is job " } else { "Submitted job " }}
                <JobLink id=job_id />
            </p>
            {move || look.get().map(|look| view! { <Pill look /> })}
        </div>
    }
}

#[component]
fn Refused(failure: Failure) -> impl IntoView {
    // Those of a field of the form stand at the field.
    let other: Vec<_> = failure.fields.iter().filter(|(field, _)| !FIELDS.contains(&field.as_str())).cloned().collect();
    let advice = match failure.kind {
        Kind::Away => {
            " Nothing typed is lost. The job may have been stored all the same; with an idempotency key, submitting again stores it once at most."
        }
        _ if failure.fields.len() > other.len() => " See the marked fields.",
        _ => "",
    };
    view! {
        <div class="notice bad" role="alert">
            <Icon name="warning" />
            <div>
                <p>
                    <strong>"Not submitted: "{failure.message}"."</strong>
                    {advice}
                    {failure
                        .job_id
                        .map(|job_id| {
                            view! {
                                " "
                                <A href=format!("/jobs/{job_id}")>"See that job"</A>
                            }
                        })}
                </p>
                {other.into_iter().map(|(field, text)| view! { <p class="mono">{format!("{field} {text}")}</p> }).collect_view()}
            </div>
        </div>
    }
}
