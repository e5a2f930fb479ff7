//! What happened to a job, newest first: the present run, each attempt that did not end well, the submission.

use jobqueue_shared::{
    proto::v1::{Attempt, Job, job::Status},
    time::timestamp_ms,
};
use leptos::prelude::*;
use prost::Message as _;

use super::small::{Ago, Pill};
use crate::{
    live::Live,
    model::{id, span, status},
};

#[component]
pub fn Timeline(#[prop(into)] job: Signal<Job>, #[prop(into)] attempts: Signal<Vec<Attempt>>) -> impl IntoView {
    let live = Live::get();
    let created = Memo::new(move |_| job.with(|job| job.created_at.as_ref().map(timestamp_ms)));
    let present = move || {
        let job = job.get();
        if !matches!(job.status(), Status::Running | Status::Done) {
            return None;
        }
        let started = job.started_at.as_ref().map(timestamp_ms);
        let finished = job.finished_at.as_ref().map(timestamp_ms);
        let took = move || {
            let end = finished.unwrap_or_else(|| live.now.get());
            started.map(|started| {
                format!("{} {}", if finished.is_some() { "took" } else { "for" }, span::exact(end - started))
            })
        };
        let look = status::job(&job, 0);
        Some(view! {
            <li class=format!("event {}", look.tone)>
                <div class="event-line">
                    <Pill look=look />
                    <span class="muted">"run "{job.run_no}</span>
                    <span>{took}</span>
                    <Session session_id=job.session_id.clone() host=String::new() />
                    <Ago ms=finished.or(started) />
                </div>
            </li>
        })
    };
    view! {
        <ol class="timeline">
            {present}
            <For each=move || attempts.get() key=|attempt| attempt.encode_to_vec() let:attempt>
                <Event attempt />
            </For>
            <li class="event pending">
                <div class="event-line">
                    <span class="pill plain">"submitted"</span>
                    {move || view! { <Ago ms=created.get() /> }}
                </div>
            </li>
        </ol>
    }
}

#[component]
fn Event(attempt: Attempt) -> impl IntoView {
    let look = status::outcome(attempt.outcome());
    let started = attempt.started_at.as_ref().map(timestamp_ms);
    let ended = attempt.ended_at.as_ref().map(timestamp_ms);
    let took = started.zip(ended).filter(|(started, ended)| ended > started);
    let line = view! {
        <Pill look=look />
        {(attempt.run_no > 0).then(|| view! { <span class="muted">"run "{attempt.run_no}</span> })}
        {took.map(|(started, ended)| view! { <span>"after "{span::exact(ended - started)}</span> })}
        <Session session_id=attempt.session_id.clone() host=attempt.host.clone() />
        <Ago ms=ended.or(started) />
    };
    let body = if attempt.error.is_empty() {
        view! { <div class="event-line">{line}</div> }.into_any()
    } else {
        let first = attempt.error.lines().next().unwrap_or_default().to_owned();
        view! {
            <details>
                <summary>
                    <span class="event-line">{line}</span>
                    <span class="event-error">{first}</span>
                </summary>
                <pre class="code" tabindex="0" aria-label="Error">{attempt.error}</pre>
            </details>
        }
        .into_any()
    };
    view! { <li class=format!("event {}", look.tone)>{body}</li> }
}

#[component]
fn Session(session_id: String, host: String) -> impl IntoView {
    (!session_id.is_empty()).then(|| {
        view! {
            <span class="muted">
                {if host.is_empty() { "session ".to_owned() } else { format!("{host}, session ") }}
                <span class="mono" title=session_id.clone()>{id::short(&session_id)}</span>
            </span>
        }
    })
}
