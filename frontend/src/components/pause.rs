//! Holding a worker_id back and letting it go on: the buttons, and the line that says that it is paused.

use jobqueue_shared::{
    proto::v1::{PauseWorkerIdRequest, ResumeWorkerIdRequest, WorkerIdMetrics},
    time::timestamp_ms,
};
use leptos::{prelude::*, task::spawn_local};

use super::{
    confirm::{Confirm, Question},
    frame::Metrics,
    icon::Icon,
    small::Ago,
};
use crate::{
    api::{self, Failure},
    dom,
    live::Live,
    toast::Toasts,
};

/// Since when a worker_id is paused, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Pause {
    pub since: i64,
    /// "" = none was given.
    pub reason: String,
}

impl Pause {
    pub fn of(metrics: &WorkerIdMetrics) -> Option<Self> {
        let since = metrics.paused_at.as_ref().map(timestamp_ms)?;
        Some(Self { since, reason: metrics.pause_reason.clone() })
    }
}

/// The pause of one worker_id, as the page's counts tell it.
pub fn pause_of(worker_id: String) -> Memo<Option<Pause>> {
    let Metrics(metrics) = Metrics::get();
    Memo::new(move |_| {
        metrics.data.with(|data| Pause::of(data.as_ref()?.worker_ids.iter().find(|it| it.worker_id == worker_id)?))
    })
}

/// Says what came of it.
#[derive(Clone, Copy)]
struct Teller(Toasts, Live);

impl Teller {
    fn get() -> Self {
        Self(Toasts::get(), Live::get())
    }

    fn tell(self, answer: Result<(), Failure>, done: String) {
        let Self(toasts, live) = self;
        match answer {
            Ok(()) => toasts.good(done),
            Err(failure) => toasts.bad(failure.message),
        }
        live.refresh();
    }
}

#[component]
pub fn PauseButton(
    worker_id: String,
    /// Without a word, where there is no room.
    #[prop(optional)]
    small: bool,
) -> impl IntoView {
    let (confirm, teller, label) = (Confirm::get(), Teller::get(), format!("Pause {worker_id}"));
    let ask = move |_| {
        let worker_id = worker_id.clone();
        confirm.ask(Question {
            title: format!("Pause {worker_id}?"),
            text: "None of its jobs is handed out until it is resumed. Jobs can still be submitted, and what runs goes on.".into(),
            action: format!("Pause {worker_id}"),
            destroys: false,
            input: "Reason (shown to everybody)",
            then: Callback::new(move |reason| {
                let (worker_id, done) = (worker_id.clone(), format!("{worker_id} is paused"));
                spawn_local(async move {
                    teller.tell(api::pause_worker_id(PauseWorkerIdRequest { worker_id, reason }).await.map(drop), done);
                });
            }),
        });
    };
    view! {
        <button type="button" class=class(small) aria-label=label.clone() title=label on:click=ask>
            <Icon name="pause" />
            {(!small).then_some("Pause")}
        </button>
    }
}

#[component]
pub fn ResumeButton(worker_id: String, #[prop(optional)] small: bool) -> impl IntoView {
    let (teller, label) = (Teller::get(), format!("Resume {worker_id}"));
    let resume = move |_| {
        let (worker_id, done) = (worker_id.clone(), format!("{worker_id} goes on"));
        spawn_local(async move {
            teller.tell(api::resume_worker_id(ResumeWorkerIdRequest { worker_id }).await.map(drop), done);
        });
    };
    view! {
        <button type="button" class=class(small) aria-label=label.clone() title=label on:click=resume>
            <Icon name="play" />
            {(!small).then_some("Resume")}
        </button>
    }
}

fn class(small: bool) -> &'static str {
    if small { "button quiet square" } else { "button" }
}

/// "paused since 14:02 (3 min ago): the mail server is down". The reason is somebody's text.
#[component]
pub fn PausedLine(pause: Pause) -> impl IntoView {
    let Pause { since, reason } = pause;
    view! {
        <span class="paused">
            <span class="pill retrying">
                <Icon name="pause" />
                "paused"
            </span>
            <span>
                "since "{dom::local_time(since)}" (" <Ago ms=Some(since) /> ")"
                {(!reason.is_empty()).then(|| format!(": {reason}"))}
            </span>
        </span>
    }
}
