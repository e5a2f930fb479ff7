//! Submit form: submits one job with every option and shows its status afterwards, or submits many jobs at once.

use jobqueue_shared::proto::v1::{SubmitJobRequest, SubmitJobResponse};
use leptos::{ev::SubmitEvent, prelude::*};
use prost::Message as _;

use super::{
    drawer::SubmitDrawer,
    fields::{Address, Options, Payload},
    many::{self, ManyLines, ManyReport},
    outcome::{Outcome, said},
    recent::{FromRecent, TaskList, recent_jobs},
};
use crate::{
    browser::dom,
    calls::{
        client::{self, Failure, Kind},
        in_flight::InFlight,
        many_submit::{MANY_KEY, ManySubmit},
        operator_actions::OperatorActions,
    },
    components::{
        atoms::CopyButton,
        field::{Complaints, control_id},
        icon::Icon,
    },
    model::{
        draft::{Complaint, Draft, FIELDS},
        grpcurl, id,
        many::lines::Lines,
        number::{length, plural},
    },
    toast::Toasts,
};

/// Key of the call that submits the job.
const SENDING: &str = "submission";

/// Names in the session storage of the draft, and of the request that was sent last and the key that it was given.
const KEPT: &str = "submit-draft";
const SENT: &str = "submit-sent";
/// Size in bytes above which lines are not kept: the storage of a tab holds a few megabytes.
const KEPT_LINES: usize = 1024 * 1024;

#[component]
pub fn SubmitForm() -> impl IntoView {
    let form = RwSignal::new(dom::kept::<Draft>(KEPT).unwrap_or_default());
    let complaints = RwSignal::new(Vec::<Complaint>::new());
    let outcome = RwSignal::new(Outcome::None);
    provide_context(Complaints(complaints));
    // The draft is kept in the session storage of the tab, so that a reload loses nothing.
    let would_lose = SubmitDrawer::get().would_lose;
    Effect::new(move |_| {
        let mut draft = form.get();
        let is_large = draft.lines.len() > KEPT_LINES;
        if is_large {
            draft.lines.clear();
        }
        would_lose.set(is_large);
        dom::keep(KEPT, &draft);
    });
    on_cleanup(move || would_lose.set(false));
    let lines =
        Memo::new(move |_| form.with(|form| if form.many { Lines::read(&form.lines) } else { Lines::default() }));
    let recent = recent_jobs(form);
    let is_many = Memo::new(move |_| form.with(|form| form.many));
    let worker_id = Memo::new(move |_| form.with(|form| form.worker_id.clone()));

    let (toasts, in_flight) = (Toasts::get(), InFlight::get());
    let (actions, many) = (OperatorActions::get(), ManySubmit::get());
    let (one, all) = (in_flight.busy(SENDING.to_owned()), in_flight.busy(MANY_KEY.to_owned()));
    let sending = Memo::new(move |_| one.get() || all.get());
    // Complaints about the options of many jobs stand at their fields, as with one.
    Effect::new(move |before: Option<()>| {
        let wrong = many.wrong.get();
        if let Some((first, _)) = wrong.first().filter(|_| before.is_some()) {
            dom::focus(&control_id(first));
            complaints.set(wrong);
        }
    });
    // Lines that are all submitted leave nothing to submit again.
    Effect::new(move |_| {
        let submitted = many.submitted.get();
        if submitted.is_some_and(|text| form.with_untracked(|form| form.lines == text)) {
            form.update(|form| form.lines.clear());
        }
    });
    let refuse = move |failure: Failure| {
        let fields = failure.fields.clone();
        complaints.set(fields.clone());
        outcome.set(Outcome::Failed(failure));
        let first = FIELDS.iter().find(|name| fields.iter().any(|(it, _)| it == *name));
        dom::focus(&first.map_or_else(|| "outcome".to_owned(), |name| control_id(name)));
    };
    let submit_many = move |template: SubmitJobRequest| {
        let lines = lines.get_untracked();
        let mut wrong = vec![];
        if template.worker_id.is_empty() {
            wrong.push(("worker_id".to_owned(), "must not be empty".to_owned()));
        }
        if let Some(problem) = lines.problem() {
            wrong.push((many::NAME.to_owned(), problem));
        } else if lines.is_empty() {
            wrong.push((many::NAME.to_owned(), "There are no lines".to_owned()));
        }
        complaints.set(wrong.clone());
        if let Some((first, _)) = wrong.first() {
            return dom::focus(&control_id(first));
        }
        let template = SubmitJobRequest { payload_json: String::new(), idempotency_key: String::new(), ..template };
        many.start(actions, template, lines.jobs, form.with_untracked(|form| form.lines.clone()));
    };
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        if sending.get_untracked() {
            return;
        }
        let request = match form.with_untracked(|form| form.request(dom::parse_local)) {
            Ok(request) if is_many.get_untracked() => return submit_many(request),
            Ok(request) => with_key(request),
            Err(fields) => {
                let message = "Some fields cannot be sent as they are".into();
                return refuse(Failure { kind: Kind::Refused, message, fields, job_id: None });
            }
        };
        complaints.set(vec![]);
        outcome.set(Outcome::None);
        let sent = form.get_untracked();
        in_flight.run(vec![SENDING.to_owned()], async move {
            let answer = client::submit_job(request).await;
            if answer.is_ok() {
                dom::keep(SENT, &None::<Sent>);
            }
            // A person who has left the page is told by a toast; one who types on keeps the focus.
            let Some(draft) = form.try_get_untracked() else { return tell(toasts, answer) };
            match answer {
                Ok(answer) => {
                    outcome.set(Outcome::Stored { job_id: answer.job_id, deduplicated: answer.deduplicated });
                    if draft == sent {
                        dom::focus("outcome");
                    }
                }
                Err(failure) if draft == sent => refuse(failure),
                Err(failure) => outcome.set(Outcome::Failed(failure)),
            }
        });
    };
    let mode = move |value: bool, word: &'static str| {
        view! {
            <label class="choice">
                <input
                    type="radio"
                    name="how-many"
                    prop:checked=move || is_many.get() == value
                    on:change=move |_| form.update(|form| form.many = value)
                />
                {word}
            </label>
        }
    };
    view! {
        <TaskList recent />
        <form class="submit" novalidate="" on:submit=submit>
            <div class="card card-body form">
                <fieldset>
                    <legend class="unseen">"How many"</legend>
                    <div class="choices">{mode(false, "One job")} {mode(true, "Many jobs at once")}</div>
                </fieldset>
                <Address form />
                <FromRecent form recent />
                <Show when=move || is_many.get() fallback=move || view! { <Payload form /> }>
                    <ManyLines form lines />
                </Show>
            </div>
            <div class="card card-body form">
                <h2>"Options"</h2>
                <Options form many=is_many />
            </div>
            <div class="form-actions">
                <button
                    type="submit"
                    class="button primary"
                    aria-busy=move || sending.get().to_string()
                    aria-disabled=move || sending.get().then_some("true")
                >
                    <Icon name="submit" />
                    {move || match (sending.get(), is_many.get()) {
                        (true, _) => "Submitting…".to_owned(),
                        (false, false) => "Submit job".to_owned(),
                        (false, true) => {
                            format!("Submit {}", plural(lines.with(|lines| length(lines.jobs.len())), "job", "jobs"))
                        }
                    }}
                </button>
                <Show when=move || !is_many.get()>
                    <GrpcurlButton form />
                </Show>
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
                <Show when=move || is_many.get() fallback=move || said(&outcome.get())>
                    <ManyReport worker_id />
                </Show>
            </div>
        </form>
    }
}

/// Request without its key, in bytes, and the key that it was given.
type Sent = (Vec<u8>, String);

/// Gives a request without a key the key under which it was sent before, or else a new one: the same draft, sent again
/// after an answer was lost, makes no second job.
fn with_key(request: SubmitJobRequest) -> SubmitJobRequest {
    if !request.idempotency_key.is_empty() {
        return request;
    }
    let bytes = request.encode_to_vec();
    let last = dom::kept::<Option<Sent>>(SENT).flatten().filter(|(sent, _)| *sent == bytes);
    let key = last.map_or_else(|| format!("form-{}", uuid::Uuid::new_v4()), |(_, key)| key);
    dom::keep(SENT, &Some((bytes, key.clone())));
    SubmitJobRequest { idempotency_key: key, ..request }
}

/// Reports the outcome of a submission in a toast, to a person who has left the page.
fn tell(toasts: Toasts, answer: Result<SubmitJobResponse, Failure>) {
    match answer {
        Ok(answer) => toasts.good(format!("Submitted job {}", id::short(&answer.job_id))),
        Err(failure) => toasts.bad(format!("Not submitted: {}", failure.message)),
    }
}

/// Button that copies the request as a command line, without its options if one of them cannot be sent.
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
