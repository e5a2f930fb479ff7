//! Overview page: counts, throughput, the newest dead letters, the worker_ids.

use jobqueue_shared::proto::v1::{GetMetricsResponse, GetThroughputRequest, JobView, ListFailedJobsRequest};
use leptos::prelude::*;
use leptos_router::components::A;

use crate::{
    calls::client,
    components::{
        atoms::{Ago, JobLink},
        chart::Throughput,
        heading::Heading,
        icon::Icon,
        job_text::JobText,
        listing::{
            Column::{self, Controls, Number, Text},
            List, Listing,
        },
        notice::{Empty, Trouble},
        pause::{PauseSwitch, PausedLine},
        table::opens,
    },
    feeds::{
        counts_feed::CountsFeed,
        live::{Feed, feed},
    },
    model::{
        counts::{TILES, Tile, WorkerIdRow, figures},
        id,
        job::LetterRow,
        throughput::Minute,
        visible::visible,
    },
};

const LETTER_COLUMNS: &[Column] = &[Text("Job"), Text("Error"), Text("Failed")];

const WORKER_ID_COLUMNS: &[Column] = &[
    Text("worker_id"),
    Number("Pending"),
    Number("Running"),
    Number("Failed"),
    Number("Oldest waits"),
    Number("Sessions"),
    Controls("Pause"),
];

/// Classes of the two tables.
const BRIEF: &str = "table brief cards";

#[component]
pub fn Overview() -> impl IntoView {
    let CountsFeed(counts) = CountsFeed::get();
    let throughput = feed(|| (), |()| client::get_throughput(GetThroughputRequest::default()));
    let minutes = Memo::new(move |_| throughput.data.with(|data| data.as_ref().map(Minute::all)).unwrap_or_default());
    let has_counts = Memo::new(move |_| counts.data.with(Option::is_some));
    view! {
        <div class="page-head">
            <Heading title="Overview" />
            <A href="/submit" attr:class="button primary">"Submit job"</A>
        </div>
        <Trouble failure=counts.failure has_data=has_counts />
        <Tiles counts minutes />
        <Trouble failure=throughput.failure has_data=Signal::stored(true) />
        <Throughput minutes />
        <NewestDeadLetters />
        <WorkerIds counts />
    }
}

#[component]
fn Tiles(counts: Feed<GetMetricsResponse>, minutes: Memo<Vec<Minute>>) -> impl IntoView {
    let all = Memo::new(move |_| {
        counts.data.with(|data| data.as_ref().map(|data| minutes.with(|minutes| figures(data, minutes))))
    });
    let tile = |(at, Tile { href, tone, icon, word }): (usize, Tile)| {
        let figure = Memo::new(move |_| all.with(|all| all.as_ref().map(|all| all[at].count.clone())));
        let note = Memo::new(move |_| all.with(|all| all.as_ref().map(|all| all[at].note.clone())));
        view! {
            <A href=href attr:class=format!("tile {tone}")>
                <span class="tile-word">
                    <Icon name=icon />
                    {word}
                </span>
                <span class="tile-figure">
                    {move || figure.get().map_or_else(|| view! { <span class="bone"></span> }.into_any(), IntoAny::into_any)}
                </span>
                <span class="tile-note">{move || note.get().unwrap_or_else(|| "\u{a0}".into())}</span>
            </A>
        }
    };
    view! { <div class="tiles">{TILES.into_iter().enumerate().map(tile).collect_view()}</div> }
}

#[component]
fn NewestDeadLetters() -> impl IntoView {
    let answer = feed(
        || (),
        |()| {
            client::list_failed_jobs(ListFailedJobsRequest {
                page_size: 8,
                view: JobView::Basic.into(),
                ..ListFailedJobsRequest::default()
            })
        },
    );
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"Newest dead letters"</h2>
                <div class="card-actions">
                    <A href="/dead-letters">"All"</A>
                </div>
            </header>
            <Listing
                list=List::of(answer, |answer| LetterRow::all(&answer.jobs), |job| job.id.clone())
                columns=LETTER_COLUMNS
                row=|id, job| view! { <Letter id job /> }.into_any()
                empty=|| {
                    view! {
                        <Empty icon="letters" title="No dead letters">
                            <p>"Jobs land here when they fail max_retries times."</p>
                        </Empty>
                    }
                }
                grey=5
                class=BRIEF
                frame="scroll-x"
            />
        </section>
    }
}

#[component]
fn Letter(id: String, job: Memo<LetterRow>) -> impl IntoView {
    let open = opens(id::job_page(&id));
    let error = move || job.with(|job| visible(&job.error).into_owned());
    view! {
        <tr class="opens" on:click=open.clone() on:auxclick=open>
            <td class="lead">
                <JobLink id />
            </td>
            <td class="cut error-text mono" title=error>
                <JobText text=Signal::derive(error) />
            </td>
            <td class="state">
                <Ago ms=Signal::derive(move || job.with(|job| job.failed)) />
            </td>
        </tr>
    }
}

#[component]
fn WorkerIds(counts: Feed<GetMetricsResponse>) -> impl IntoView {
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"worker_ids"</h2>
                <div class="card-actions">
                    <A href="/workers">"Workers"</A>
                </div>
            </header>
            <Listing
                list=List::part(counts, WorkerIdRow::all, |it| it.worker_id.clone())
                columns=WORKER_ID_COLUMNS
                row=|worker_id, it| view! { <OneWorkerId worker_id it /> }.into_any()
                empty=|| {
                    view! {
                        <Empty icon="workers" title="No worker_id yet">
                            <p>"Each appears with its first job or worker."</p>
                        </Empty>
                    }
                }
                grey=5
                class=BRIEF
                frame="scroll-x"
            />
        </section>
    }
}

/// Row of a worker_id and, while it is paused, a row below it that says so.
#[component]
fn OneWorkerId(worker_id: String, it: Memo<WorkerIdRow>) -> impl IntoView {
    let (jobs, letters) = it.with_untracked(|it| (it.list("/jobs"), it.list("/dead-letters")));
    let (open, name, title) = (opens(jobs.clone()), worker_id.clone(), visible(&worker_id).into_owned());
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
    let pause = Memo::new(move |_| it.with(|it| it.pause.clone()));
    let paused = Memo::new(move |_| pause.with(Option::is_some));
    view! {
        <tr class="opens" class:explained=paused on:click=open.clone() on:auxclick=open>
            <td class="lead cut mono" title=title>
                <A href=jobs><JobText text=name /></A>
            </td>
            <td class="num" data-label="Pending">{move || it.with(|it| it.pending.clone())}</td>
            <td class="num" data-label="Running">{move || it.with(|it| it.running.clone())}</td>
            <td class="num" data-label="Failed">{failed}</td>
            <td class="num" data-label="Oldest waits">{move || it.with(|it| it.oldest_waits.clone())}</td>
            <td class="num" data-label="Sessions">{move || it.with(|it| it.sessions.clone())}</td>
            <td class="state switch">
                <PauseSwitch worker_id paused small=true />
            </td>
        </tr>
        <Show when=move || paused.get()>
            <tr class="explains">
                <td colspan="7">
                    <PausedLine pause />
                </td>
            </tr>
        </Show>
    }
}
