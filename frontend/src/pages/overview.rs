//! Overview page: counts, throughput, the newest dead letters, the worker_ids.

use jobqueue_shared::{
    proto::v1::{
        GetMetricsResponse, GetThroughputRequest, Job, JobView, ListFailedJobsRequest, WorkerIdMetrics,
        get_throughput_response::Minute,
    },
    time::{duration_ms, timestamp_ms},
};
use leptos::prelude::*;
use leptos_router::components::A;

use crate::{
    api,
    components::{
        atoms::{Ago, JobLink},
        chart::Throughput,
        heading::Heading,
        icon::Icon,
        notice::{Empty, Trouble},
        pause::{Pause, PauseSwitch, PausedLine},
        shell::Metrics,
        table::{Skeleton, opens},
    },
    live::feed,
    model::{
        filter::Filter,
        number::{count, plural},
        span,
    },
    rows::rows,
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

/// Note on the pending jobs: the age of the oldest runnable one, and how many are scheduled or retrying.
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
        |()| {
            api::list_failed_jobs(ListFailedJobsRequest {
                page_size: 8,
                view: JobView::Basic.into(),
                ..ListFailedJobsRequest::default()
            })
        },
    );
    let list = move || letters.data.with(|data| data.as_ref().map(|data| data.jobs.clone())).unwrap_or_default();
    let jobs = rows(list, |job| job.id.clone());
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
            <Show when=move || letters.is_loading() || !jobs.is_empty()>
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
                        <For each=move || jobs.keys() key=Clone::clone let:id>
                            <LetterRow job=jobs.row(id.clone()) id />
                        </For>
                    </tbody>
                </table>
            </Show>
            <Show when=move || has_data.get() && jobs.is_empty()>
                <Empty icon="letters" title="No dead letters">
                    <p>"Jobs land here when they fail max_retries times."</p>
                </Empty>
            </Show>
        </section>
    }
}

#[component]
fn LetterRow(job: Memo<Job>, id: String) -> impl IntoView {
    let open = opens(format!("/jobs/{id}"));
    let error = move || job.with(|job| job.last_error.clone());
    let failed = move || job.with(|job| job.finished_at.as_ref().map(timestamp_ms));
    view! {
        <tr class="opens" on:click=open>
            <td class="lead">
                <JobLink id />
            </td>
            <td class="cut error-text mono" title=error>
                {error}
            </td>
            <td class="state">
                <Ago ms=Signal::derive(failed) />
            </td>
        </tr>
    }
}

#[component]
fn WorkerIds(data: RwSignal<Option<GetMetricsResponse>>) -> impl IntoView {
    let known = Memo::new(move |_| data.with(Option::is_some));
    let list = move || data.with(|data| data.as_ref().map(|data| data.worker_ids.clone())).unwrap_or_default();
    let rows = rows(list, |it: &WorkerIdMetrics| it.worker_id.clone());
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"worker_ids"</h2>
                <div class="card-actions">
                    <A href="/workers">"Workers"</A>
                </div>
            </header>
            <Show
                when=move || !known.get() || !rows.is_empty()
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
                            <Show when=move || !known.get()>
                                <Skeleton columns=7 rows=5 />
                            </Show>
                            <For each=move || rows.keys() key=Clone::clone let:worker_id>
                                <WorkerIdRow it=rows.row(worker_id.clone()) worker_id />
                            </For>
                        </tbody>
                    </table>
                </div>
            </Show>
        </section>
    }
}

#[component]
fn WorkerIdRow(it: Memo<WorkerIdMetrics>, worker_id: String) -> impl IntoView {
    let of = |path: &str| Filter { worker_id: worker_id.clone(), ..Filter::default() }.url(path);
    let (jobs, letters) = (of("/jobs"), of("/dead-letters"));
    let (open, name, title) = (opens(jobs.clone()), worker_id.clone(), worker_id.clone());
    let any_failed = Memo::new(move |_| it.with(|it| it.failed > 0));
    let failed = move || {
        if any_failed.get() {
            let href = letters.clone();
            view! { <A href=href attr:class="text-failed">{move || it.with(|it| count(it.failed))}</A> }.into_any()
        } else {
            "0".into_any()
        }
    };
    let pause = Memo::new(move |_| it.with(Pause::of));
    let paused = Memo::new(move |_| pause.with(Option::is_some));
    let waits = move || {
        it.with(|it| it.oldest_runnable_age.as_ref().map_or("–".into(), |age| span::coarse(duration_ms(age))))
    };
    view! {
        <tr class="opens" class:explained=paused on:click=open>
            <td class="lead cut mono" title=title>
                <A href=jobs>{name}</A>
            </td>
            <td class="num" data-label="Pending">{move || it.with(|it| count(it.pending))}</td>
            <td class="num" data-label="Running">{move || it.with(|it| count(it.running))}</td>
            <td class="num" data-label="Failed">{failed}</td>
            <td class="num" data-label="Oldest waits">{waits}</td>
            <td class="num" data-label="Sessions">{move || it.with(|it| count(it.sessions))}</td>
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
