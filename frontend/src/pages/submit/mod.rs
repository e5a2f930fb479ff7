//! Submit page: submits one job, with every option, and shows its status afterwards.

mod fields;
mod outcome;

use jobqueue_shared::proto::v1::{SubmitJobRequest, SubmitJobResponse};
use leptos::{ev::SubmitEvent, prelude::*};

use self::{
    fields::{Essentials, Options},
    outcome::{Outcome, said},
};
use crate::{
    browser::dom,
    calls::{
        client::{self, Failure, Kind},
        in_flight::InFlight,
    },
    components::{
        atoms::CopyButton,
        field::{Complaints, control_id},
        heading::Heading,
        icon::Icon,
    },
    model::{
        draft::{Complaint, Draft, FIELDS},
        grpcurl, id,
    },
    toast::Toasts,
};

const KEPT: &str = "submit-draft";
/// Key of the call that submits the job.
const SENDING: &str = "submission";

#[component]
pub fn Submit() -> impl IntoView {
    let form = RwSignal::new(dom::kept::<Draft>(KEPT).unwrap_or_default());
    let complaints = RwSignal::new(Vec::<Complaint>::new());
    let outcome = RwSignal::new(Outcome::None);
    provide_context(Complaints(complaints));
    // The draft is kept in the session storage of the tab, so that a reload loses nothing.
    Effect::new(move |_| form.with(|draft| dom::keep(KEPT, draft)));

    let (toasts, in_flight) = (Toasts::get(), InFlight::get());
    let sending = in_flight.busy(SENDING.to_owned());
    let refuse = move |failure: Failure| {
        let fields = failure.fields.clone();
        complaints.set(fields.clone());
        outcome.set(Outcome::Failed(failure));
        let first = FIELDS.iter().find(|name| fields.iter().any(|(it, _)| it == *name));
        dom::focus(&first.map_or_else(|| "outcome".to_owned(), |name| control_id(name)));
    };
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        if sending.get_untracked() {
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
        outcome.set(Outcome::None);
        let sent = form.get_untracked();
        in_flight.run(vec![SENDING.to_owned()], async move {
            let answer = client::submit_job(request).await;
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
                <button
                    type="submit"
                    class="button primary"
                    aria-busy=move || sending.get().to_string()
                    aria-disabled=move || sending.get().then_some("true")
                >
                    <Icon name="submit" />
                    {move || if sending.get() { "Submitting…" } else { "Submit job" }}
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
