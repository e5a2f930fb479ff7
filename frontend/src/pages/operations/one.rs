//! Page of one operation: its progress, its canary, the jobs that it refused, and the buttons that hold it.

use std::sync::Arc;

use jobqueue_shared::proto::v1::{
    GetOperationRequest, GetOperationResponse, PauseOperationRequest, ResumeOperationRequest, StopOperationRequest,
    operation::State,
};
use leptos::prelude::*;
use leptos_router::{components::A, hooks::use_params_map};

use super::{Progress, filter_words};
use crate::{
    calls::{client, operator_actions::OperatorActions},
    components::{
        action::ActionButton,
        atoms::{JobLink, Pill},
        confirm::{Confirm, Question},
        detail::Detail,
        icon::Icon,
        job_text::JobText,
        listing::{
            Column::{self, Text},
            List, Listing,
        },
        notice::Empty,
        property_list::PropertyList,
    },
    feeds::live::{Feed, feed_paced},
    model::{
        number::{count, plural},
        operation::{self, OperationPage as Model, OperationRow, RefusalRow},
    },
};

/// Pauses between two reads, in milliseconds, while the operation goes on and when it has ended.
const ACTIVE_MS: u32 = 1_000;
const ENDED_MS: u32 = 10_000;

const COLUMNS: &[Column] = &[Text("Job"), Text("Why it was not changed")];

#[component]
pub fn OperationPage() -> impl IntoView {
    let params = use_params_map();
    let id = Memo::new(move |_| params.with(|params| params.get("id")).unwrap_or_default());
    move || view! { <One id=id.get() /> }
}

fn pace(answer: &GetOperationResponse) -> u32 {
    let state = answer.operation.as_ref().map(jobqueue_shared::proto::v1::Operation::state);
    match state {
        Some(State::Running | State::CanaryWaiting) => ACTIVE_MS,
        Some(State::Paused) => crate::feeds::live::EVERY_MS,
        _ => ENDED_MS,
    }
}

#[component]
fn One(id: String) -> impl IntoView {
    let asked = id.clone();
    let answer: Feed<GetOperationResponse> = feed_paced(
        move || asked.clone(),
        |operation_id| client::get_operation(GetOperationRequest { operation_id }),
        pace,
    );
    let known = Memo::new(move |_| answer.data.with(|data| data.as_ref().and_then(Model::of)));
    let page = Memo::new(move |_| known.get().unwrap_or_default());
    let operation = Memo::new(move |_| page.with(|page| page.row.clone()));
    let acting = id.clone();
    view! {
        <Detail
            back=("/operations".to_owned(), "Operations".to_owned())
            id
            copy="Copy operation id"
            answer
            there=Memo::new(move |_| known.with(Option::is_some))
            gone=gone_note
            actions=move || view! { <Actions id=acting.clone() operation /> }
        >
            <Summary page operation />
            <PropertyList properties=Memo::new(move |_| page.with(|page| page.properties.clone())) />
            <Refused answer operation />
        </Detail>
    }
}

fn gone_note() -> impl IntoView {
    view! {
        <Empty icon="question" title="No operation has this id">
            <p>"Operations are kept for 90 days after their end. " <A href="/operations">"See all operations"</A> "."</p>
        </Empty>
    }
}

#[component]
fn Summary(page: Memo<Model>, operation: Memo<OperationRow>) -> impl IntoView {
    let look = Memo::new(move |_| operation::state(operation.with(|it| it.state)));
    let part = move |text: fn(&Model) -> &String| Memo::new(move |_| page.with(|page| text(page).clone()));
    let (note, canary, sample) = (part(|it| &it.note), part(|it| &it.canary), part(|it| &it.sample));
    let bad = Memo::new(move |_| operation.with(|it| it.state == State::Failed));
    view! {
        <div class="summary">
            <Pill look />
            <strong>{move || operation.with(|it| operation::verb(it.kind))}</strong>
            <span class="mono">
                <JobText text=Signal::derive(move || operation.with(|it| filter_words(&it.filter))) />
            </span>
        </div>
        <section class="card card-body op-head" aria-label="Progress">
            <p>
                <span class="muted">"Reason: "</span>
                <JobText text=Signal::derive(move || operation.with(|it| it.reason.clone())) />
            </p>
            <Progress operation />
            <div role="status" aria-live="polite">
                <Line text=canary />
                <Line text=sample />
            </div>
        </section>
        <Show when=move || !note.with(String::is_empty)>
            <div class="notice" class:bad=bad>
                <Icon name="flag" />
                <p>{note}"."</p>
            </div>
        </Show>
    }
}

/// Paragraph that is there only while it has a text.
#[component]
fn Line(text: Memo<String>) -> impl IntoView {
    view! { <Show when=move || !text.with(String::is_empty)><p>{text}</p></Show> }
}

fn key(id: &str) -> String {
    format!("operation {id}")
}

/// Buttons that pause, resume and stop the operation. Pause and resume are one button, so that it keeps the focus.
#[component]
fn Actions(id: String, operation: Memo<OperationRow>) -> impl IntoView {
    let (actions, confirm) = (OperatorActions::get(), Confirm::get());
    let busy = actions.in_flight.busy(key(&id));
    let paused = Memo::new(move |_| operation.with(OperationRow::can_resume));
    let active = Memo::new(move |_| operation.with(OperationRow::can_stop));
    let (held, stopped) = (StoredValue::new(id.clone()), StoredValue::new(id));
    let hold = move || {
        let operation_id = held.get_value();
        if paused.get_untracked() {
            let call = client::resume_operation(ResumeOperationRequest { operation_id: operation_id.clone() });
            actions.start(key(&operation_id), call, "The operation goes on".into());
        } else {
            let call = client::pause_operation(PauseOperationRequest { operation_id: operation_id.clone() });
            actions.start(key(&operation_id), call, "The operation is paused".into());
        }
    };
    let stop = move || {
        let operation_id = stopped.get_value();
        let changed = plural(operation.with_untracked(|it| it.changed), "job", "jobs");
        confirm.ask(Question {
            title: "Stop this operation?".into(),
            text: format!("It ends for good. {changed} that it has changed until now stay as they are."),
            action: "Stop operation".into(),
            destroys: true,
            input: "",
            then: Arc::new(move |_| {
                let call = client::stop_operation(StopOperationRequest { operation_id: operation_id.clone() });
                actions.start(key(&operation_id), call, "The operation is stopped".into());
            }),
        });
    };
    view! {
        <Show when=move || active.get()>
            <div class="op-actions">
            <ActionButton
                class="button"
                icon=Signal::derive(move || if paused.get() { "play" } else { "pause" })
                word=Signal::derive(move || if paused.get() { "Resume".to_owned() } else { "Pause".to_owned() })
                busy_word="Under way…"
                busy
                press=hold
            />
            <ActionButton class="button danger" icon="prohibit" word="Stop" busy_word="Under way…" busy press=stop />
            </div>
        </Show>
    }
}

#[component]
fn Refused(answer: Feed<GetOperationResponse>, operation: Memo<OperationRow>) -> impl IntoView {
    let refusals = List::part(answer, RefusalRow::all, |it| it.job_id.clone());
    let number = Memo::new(move |_| operation.with(|it| it.refused));
    let shown = move || {
        let shown = refusals.keys().with(Vec::len);
        (number.get() > i32::try_from(shown).unwrap_or(i32::MAX))
            .then(|| format!("the first {shown} of {}", count(number.get())))
    };
    view! {
        <Show when=move || { number.get() > 0 }>
            <section class="card">
                <header class="card-head">
                    <h2>"Refused jobs"</h2>
                    <span class="muted">{shown}</span>
                </header>
                <Listing
                    list=refusals
                    columns=COLUMNS
                    row=|id, refusal| view! { <Row id refusal /> }.into_any()
                    empty=|| ()
                    grey=2
                    frame="scroll-x"
                />
            </section>
        </Show>
    }
}

#[component]
fn Row(id: String, refusal: Memo<RefusalRow>) -> impl IntoView {
    view! {
        <tr>
            <td class="lead">
                <JobLink id />
            </td>
            <td data-label="Why it was not changed">{move || refusal.with(|it| it.why.clone())}</td>
        </tr>
    }
}
