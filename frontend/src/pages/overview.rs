//! How the queue is doing: counts, throughput, the newest dead letters, the worker_ids.

use jobqueue_shared::{
    proto::v1::{
        GetMetricsResponse, GetThroughputRequest, Job, ListFailedJobsRequest, WorkerIdMetrics,
        get_throughput_response::Minute,
    },
    time::{duration_ms, timestamp_ms},
};
use leptos::prelude::*;
use leptos_router::components::A;
use prost::Message as _;

use crate::{
    api,
    components::{
        chart::Throughput,
        frame::Metrics,
        heading::Heading,
        icon::Icon,
        notice::{Empty, Trouble},
        pause::{Pause, PauseButton, PausedLine, ResumeButton},
        small::{Ago, JobLink},
        table::{Skeleton, opens},
    },
    live::feed,
    model::{
        filter::Filter,
        number::{count, plural},
        span,
    },
};

#[component]
pub fn Overview() -> impl IntoView {
    let Metrics(metrics) = Metrics::get();
    let throughput = feed(|| (), |()| api::get_throughput(GetThroughputRequest::default()));
    let minutes = Memo::new(move |_| throughput.data.get().map(|data| data.minutes).unwrap_or_default());
    let has_metrics = Memo::new(move |_| metrics.data.with(Option::is_some));
    view! {
        <div class="page-head">
            <Heading title="Overview" />
            <A href="/submit" attr:class="button primary">"Submit job"</A>
        </div>
        <Trouble failure=metrics.failure has_data=has_metrics />
        <Tiles data=metrics.data minutes />
        <Trouble failure=throughput.failure has_data=Signal::stored(true) />
        <Throughput minutes />
        <div class="columns">
            <NewestDeadLetters />
            <WorkerIds data=metrics.data />
        </div>
    }
}

#[component]
fn Tiles(data: RwSignal<Option<GetMetricsResponse>>, minutes: Memo<Vec<Minute>>) -> impl IntoView {
    let hour =
        move |what: fn(&Minute) -> i32| minutes.with(|all| all.iter().map(|it| i64::from(what(it))).sum::<i64>());
    let tile = move |href: &'static str,
                     tone: &'static str,
                     icon: &'static str,
                     word: &'static str,
                     figure: fn(&GetMetricsResponse) -> i32,
                     note: Box<dyn Fn(&GetMetricsResponse) -> String + Send + Sync>| {
        let figure = Memo::new(move |_| data.with(|data| data.as_ref().map(figure)));
        let note = Memo::new(move |_| data.with(|data| data.as_ref().map(&note)));
        view! {
            <A href=href attr:class=format!("tile {tone}")>
                <span class="tile-word">
                    <Icon name=icon />
                    {word}
                </span>
                <span class="tile-figure">
                    {move || figure.get().map_or_else(|| view! { <span class="bone"></span> }.into_any(), |n| count(n).into_any())}
                </span>
                <span class="tile-note">{move || note.get().unwrap_or_else(|| "\u{a0}".into())}</span>
            </A>
        }
    };
    view! {
        <div class="tiles">
            {tile("/jobs", "all", "jobs", "Total", |it| it.total, Box::new(move |_| {
                format!("+{} submitted in 1 h", count(hour(|it| it.submitted)))
            }))}
            {tile("/jobs?status=pending", "pending", "circle", "Pending", |it| it.pending, Box::new(waiting))}
            {tile("/jobs?status=running", "running", "play", "Running", |it| it.running, Box::new(|it| {
                match it.sessions {
                    0 => "no worker is connected".to_owned(),
                    sessions => format!("{} live", plural(sessions, "session", "sessions")),
                }
            }))}
            {tile("/jobs?status=done", "done", "check", "Done", |it| it.done, Box::new(move |_| {
                format!("+{} in 1 h", count(hour(|it| it.done)))
            }))}
            {tile("/dead-letters", "failed", "cross", "Failed", |it| it.failed, Box::new(move |_| {
                format!("+{} in 1 h", count(hour(|it| it.failed)))
            }))}
        </div>
    }
}

/// What the pending jobs wait for.
fn waiting(metrics: &GetMetricsResponse) -> String {
    let mut parts = vec![];
    if let Some(age) = &metrics.oldest_runnable_age {
        parts.push(format!("oldest {}", span::coarse(duration_ms(age))));
    }
    if metrics.scheduled > 0 {
        parts.push(format!("{} scheduled", count(metrics.scheduled)));
    }
    if metrics.retrying > 0 {
        parts.push(format!("{} retrying", count(metrics.retrying)));
    }
    if parts.is_empty() { "none waits".into() } else { parts.join(" · ") }
}

#[component]
fn NewestDeadLetters() -> impl IntoView {
    let letters = feed(
        || (),
        |()| api::list_failed_jobs(ListFailedJobsRequest { page_size: 8, ..ListFailedJobsRequest::default() }),
    );
    let jobs = Memo::new(move |_| letters.data.get().map(|data| data.jobs).unwrap_or_default());
    let has_data = Memo::new(move |_| letters.data.with(Option::is_some));
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"Newest dead letters"</h2>
                <div class="card-actions">
                    <A href="/dead-letters">"All"</A>
                </div>
            </header>
            <Trouble failure=letters.failure has_data />
            <Show when=move || letters.is_loading() || !jobs.with(Vec::is_empty)>
                <table class="table brief cards">
                    <thead>
                        <tr>
                            <th scope="col">"Job"</th>
                            <th scope="col">"Error"</th>
                            <th scope="col">"Failed"</th>
                        </tr>
                    </thead>
                    <tbody>
                        <Show when=move || letters.is_loading()>
                            <Skeleton columns=3 rows=5 />
                        </Show>
                        <For each=move || jobs.get() key=|job| job.encode_to_vec() let:job>
                            <LetterRow job />
                        </For>
                    </tbody>
                </table>
            </Show>
            <Show when=move || has_data.get() && jobs.with(Vec::is_empty)>
                <Empty icon="letters" title="No dead letters">
                    <p>"Jobs land here when they fail max_retries times."</p>
                </Empty>
            </Show>
        </section>
    }
}

#[component]
fn LetterRow(job: Job) -> impl IntoView {
    let open = opens(format!("/jobs/{}", job.id));
    view! {
        <tr class="opens" on:click=open>
            <td class="lead">
                <JobLink id=job.id.clone() />
            </td>
            <td class="cut error-text mono" title=job.last_error.clone()>
                {job.last_error.clone()}
            </td>
            <td class="state">
                <Ago ms=job.finished_at.as_ref().map(timestamp_ms) />
            </td>
        </tr>
    }
}

#[component]
fn WorkerIds(data: RwSignal<Option<GetMetricsResponse>>) -> impl IntoView {
    let rows = Memo::new(move |_| data.get().map(|data| data.worker_ids));
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"worker_ids"</h2>
                <div class="card-actions">
                    <A href="/workers">"Workers"</A>
                </div>
            </header>
            <Show
                when=move || rows.with(|rows| rows.as_ref().is_none_or(|rows| !rows.is_empty()))
                fallback=|| {
                    view! {
                        <Empty icon="workers" title="No worker_id yet">
                            <p>"Each appears with its first job or worker."</p>
                        </Empty>
                    }
                }
            >
                <div class="scroll-x">
                    <table class="table brief cards">
                        <thead>
                            <tr>
                                <th scope="col">"worker_id"</th>
                                <th scope="col" class="num">"Pending"</th>
                                <th scope="col" class="num">"Running"</th>
                                <th scope="col" class="num">"Failed"</th>
                                <th scope="col" class="num">"Oldest waits"</th>
                                <th scope="col" class="num">"Sessions"</th>
                                <th scope="col">
                                    <span class="unseen">"Pause"</span>
                                </th>
                            </tr>
                        </thead>
                        <tbody>
                            <Show when=move || rows.with(Option::is_none)>
                                <Skeleton columns=7 rows=5 />
                            </Show>
                            <For each=move || rows.get().unwrap_or_default() key=|it| it.encode_to_vec() let:it>
                                <WorkerIdRow it />
                            </For>
                        </tbody>
                    </table>
                </div>
            </Show>
        </section>
    }
}

#[component]
fn WorkerIdRow(it: WorkerIdMetrics) -> impl IntoView {
    let of = |path: &str| Filter { worker_id: it.worker_id.clone(), ..Filter::default() }.url(path);
    let jobs = of("/jobs");
    let open = opens(jobs.clone());
    let name = it.worker_id.clone();
    let failed = if it.failed > 0 {
        view! { <A href=of("/dead-letters") attr:class="text-failed">{count(it.failed)}</A> }.into_any()
    } else {
        "0".into_any()
    };
    let pause = Pause::of(&it);
    let button = if pause.is_some() {
        view! { <ResumeButton worker_id=it.worker_id.clone() small=true /> }.into_any()
    } else {
        view! { <PauseButton worker_id=it.worker_id.clone() small=true /> }.into_any()
    };
    let waits = it.oldest_runnable_age.as_ref().map(|age| span::coarse(duration_ms(age)));
    view! {
        <tr class="opens" class:explained=pause.is_some() on:click=open>
            <td class="lead cut mono" title=it.worker_id.clone()>
                <A href=jobs>{name}</A>
            </td>
            <td class="num" data-label="Pending">{count(it.pending)}</td>
            <td class="num" data-label="Running">{count(it.running)}</td>
            <td class="num" data-label="Failed">{failed}</td>
            <td class="num" data-label="Oldest waits">{waits.unwrap_or_else(|| "–".into())}</td>
            <td class="num" data-label="Sessions">{count(it.sessions)}</td>
            <td class="state switch">{button}</td>
        </tr>
        {pause
            .map(|pause| {
                view! {
                    <tr class="explains">
                        <td colspan="7">
                            <PausedLine pause />
                        </td>
                    </tr>
                }
            })}
    }
}
