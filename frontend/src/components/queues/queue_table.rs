//! Table of queues, the worst first, each with what happened within the last hour.

use jobqueue_shared::proto::v1::GetMetricsResponse;
use leptos::prelude::*;
use leptos_router::components::A;

use super::sparkline::{Sparkline, Sparks};
use crate::{
    components::{
        atoms::Pill,
        job_text::JobText,
        listing::{
            Column::{self, Controls, Number, Text},
            List, Listing,
        },
        notice::Empty,
        pause::{PauseSwitch, PausedLine},
        table::opens,
    },
    feeds::live::Feed,
    model::{
        queues::queue::{self, QueueRow},
        visible::visible,
    },
};

const COLUMNS: &[Column] = &[
    Text("worker_id"),
    Text("State"),
    Text("Last hour"),
    Number("Pending"),
    Number("Running"),
    Number("Failed"),
    Number("Oldest waits"),
    Number("Sessions"),
    Controls("Pause"),
];

#[component]
pub fn QueueTable(
    counts: Feed<GetMetricsResponse>,
    /// Rows to show of the counts.
    rows: impl Fn(&GetMetricsResponse) -> Vec<QueueRow> + Send + Sync + 'static,
    #[prop(into)] empty: ViewFn,
    #[prop(default = "card scroll-x wide")] frame: &'static str,
) -> impl IntoView {
    let list = List::part(counts, rows, |it| it.worker_id.clone());
    let sparks = Sparks::of(list.keys());
    view! {
        <Listing
            list
            columns=COLUMNS
            row=move |worker_id, it| view! { <Row worker_id it sparks /> }.into_any()
            empty
            grey=5
            class="table queues cards"
            frame
        />
    }
}

/// Notice in place of a list without queues.
#[component]
pub fn NoQueues() -> impl IntoView {
    view! {
        <Empty icon="queues" title="No worker_id yet">
            <p>"Each appears with its first job or worker."</p>
        </Empty>
    }
}

/// Row of a worker_id and, while it is paused, a row below it that says so.
#[component]
fn Row(worker_id: String, it: Memo<QueueRow>, sparks: Sparks) -> impl IntoView {
    let letters = it.with_untracked(|it| it.list("/dead-letters"));
    let href = queue::page(&worker_id);
    let (open, name, title) = (opens(href.clone()), worker_id.clone(), visible(&worker_id).into_owned());
    let drawn = worker_id.clone();
    let any_failed = Memo::new(move |_| it.with(|it| it.any_failed));
    let number = move || it.with(|it| it.failed.clone());
    let failed = move || {
        if any_failed.get() {
            let href = letters.clone();
            view! { <A href=href attr:class="text-failed">{number}</A> }.into_any()
        } else {
            number.into_any()
        }
    };
    let trouble = Memo::new(move |_| it.with(|it| it.trouble));
    let pause = Memo::new(move |_| it.with(|it| it.pause.clone()));
    let paused = Memo::new(move |_| pause.with(Option::is_some));
    view! {
        <tr class="opens" class:explained=paused on:click=open.clone() on:auxclick=open>
            <td class="lead cut mono" title=title>
                <A href=href><JobText text=name /></A>
            </td>
            <td class="state">{move || trouble.get().map(|look| view! { <Pill look /> })}</td>
            <td class="spark-cell" data-label="Last hour">
                <Sparkline sparks worker_id=drawn />
            </td>
            <td class="num" data-label="Pending">{move || it.with(|it| it.pending.clone())}</td>
            <td class="num" data-label="Running">{move || it.with(|it| it.running.clone())}</td>
            <td class="num" data-label="Failed">{failed}</td>
            <td class="num" data-label="Oldest waits">{move || it.with(|it| it.oldest_waits.clone())}</td>
            <td class="num" data-label="Sessions">{move || it.with(|it| it.sessions.clone())}</td>
            <td class="switch">
                <PauseSwitch worker_id paused small=true />
            </td>
        </tr>
        <Show when=move || paused.get()>
            <tr class="explains">
                <td colspan="9">
                    <PausedLine pause />
                </td>
            </tr>
        </Show>
    }
}
