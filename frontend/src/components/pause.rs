//! Pausing and resuming a worker_id: the button, and the line that says that it is paused.

use std::sync::Arc;

use jobqueue_shared::proto::v1::{PauseWorkerIdRequest, ResumeWorkerIdRequest};
use leptos::prelude::*;

use super::{
    action::ActionButton,
    atoms::Ago,
    confirm::{Confirm, Question},
    icon::Icon,
    job_text::JobText,
};
use crate::{
    browser::dom,
    calls::{client, in_flight::worker_id_key, operator_actions::OperatorActions},
    model::{counts::Pause, visible::isolated},
};

fn pause(actions: OperatorActions, worker_id: String, reason: String) {
    let (key, done) = (worker_id_key(&worker_id), format!("{} is paused", isolated(&worker_id)));
    actions.start(key, client::pause_worker_id(PauseWorkerIdRequest { worker_id, reason }), done);
}

fn resume(actions: OperatorActions, worker_id: String) {
    let (key, done) = (worker_id_key(&worker_id), format!("{} goes on", isolated(&worker_id)));
    actions.start(key, client::resume_worker_id(ResumeWorkerIdRequest { worker_id }), done);
}

/// Button that pauses a worker_id, or resumes a paused one. It is a single button, so that it keeps the focus as it
/// changes.
#[component]
pub fn PauseSwitch(
    worker_id: String,
    #[prop(into)] paused: Signal<bool>,
    /// Shows no word, where there is no room.
    #[prop(optional)]
    small: bool,
) -> impl IntoView {
    let (confirm, actions) = (Confirm::get(), OperatorActions::get());
    let busy = actions.in_flight.busy(worker_id_key(&worker_id));
    let verb = move || if paused.get() { "Resume" } else { "Pause" };
    let name = isolated(&worker_id);
    let asked = name.clone();
    let label = Signal::derive(move || format!("{} {name}", verb()));
    let press = move || {
        let worker_id = worker_id.clone();
        if paused.get_untracked() {
            return resume(actions, worker_id);
        }
        confirm.ask(Question {
            title: format!("Pause {asked}?"),
            text: "None of its jobs is handed out until it is resumed. Jobs can still be submitted, and what runs goes on."
                .into(),
            action: format!("Pause {asked}"),
            destroys: false,
            input: "Reason (shown to everybody)",
            then: Arc::new(move |reason| pause(actions, worker_id.clone(), reason)),
        });
    };
    view! {
        <ActionButton
            class=if small { "button quiet square" } else { "button" }
            icon=Signal::derive(move || if paused.get() { "play" } else { "pause" })
            word=Signal::derive(move || if small { String::new() } else { verb().to_owned() })
            busy_word="Under way…"
            label
            busy
            press
        />
    }
}

/// Button that resumes a paused worker_id.
#[component]
pub fn ResumeButton(worker_id: String) -> impl IntoView {
    view! { <PauseSwitch worker_id paused=true /> }
}

/// Line such as "paused since 14:02 (3 min ago): the mail server is down". The reason is a person's text.
#[component]
pub fn PausedLine(#[prop(into)] pause: Signal<Option<Pause>>) -> impl IntoView {
    let since = Memo::new(move |_| pause.with(|pause| pause.as_ref().map(|it| it.since)));
    let reason =
        move || pause.with(|pause| pause.as_ref().filter(|it| !it.reason.is_empty()).map(|it| it.reason.clone()));
    view! {
        <span class="paused">
            <span class="pill retrying">
                <Icon name="pause" />
                "paused"
            </span>
            <span>
                "since "{move || since.get().map(dom::local_time)}" (" <Ago ms=since /> ")"
                {move || reason().map(|text| view! { ": " <JobText text /> })}
            </span>
        </span>
    }
}
