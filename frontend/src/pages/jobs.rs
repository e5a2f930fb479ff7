//! All jobs, newest first or by status, a page at a time.

use jobqueue_shared::{
    proto::v1::{Job, ListJobsRequest},
    time::timestamp_ms,
};
use leptos::prelude::*;
use leptos_router::components::A;
use prost::Message as _;

use super::filters::{FilterBar, from_url};
use crate::{
    api,
    components::{
        heading::Heading,
        notice::{Empty, Trouble},
        pager::Pager,
        small::{Ago, JobLink, Pill},
        table::{Skeleton, opens},
    },
    live::{Live, feed},
    model::{filter::Filter, status},
};

const PATH: &str = "/jobs";

#[component]
pub fn Jobs() -> impl IntoView {
    let filter = from_url();
    let page = feed(
        move || filter.get(),
        |filter: Filter| {
            api::list_jobs(ListJobsRequest {
                status: filter.status().into(),
                worker_id: filter.worker_id,
                task: filter.task,
                page_token: filter.page,
                page_size: 0,
            })
        },
    );
    let jobs = Memo::new(move |_| page.data.get().map(|data| data.jobs).unwrap_or_default());
    let next = Memo::new(move |_| page.data.get().map(|data| data.next_page_token).unwrap_or_default());
    let has_data = Memo::new(move |_| page.data.with(Option::is_some));
    view! {
        <div class="page-head">
            <Heading title="Jobs" />
            <A href="/submit" attr:class="button primary">"Submit job"</A>
        </div>
        <FilterBar path=PATH filter with_status=true />
        <Trouble failure=page.failure has_data />
        <Show when=move || page.is_loading() || !jobs.with(Vec::is_empty)>
            <div class="card scroll-x" class:busy=move || page.busy.get()>
                <table class="table cards" aria-busy=move || page.busy.get().to_string()>
                    <thead>
                        <tr>
                            <th scope="col">"Job"</th>
                            <th scope="col">"Status"</th>
                            <th scope="col">"Task"</th>
                            <th scope="col">"worker_id"</th>
                            <th scope="col" class="num">"Attempts"</th>
                            <th scope="col" class="num">"Priority"</th>
                            <th scope="col">"Runs"</th>
                            <th scope="col">"Changed"</th>
                        </tr>
                    </thead>
                    <tbody>
                        <Show when=move || page.is_loading()>
                            <Skeleton columns=8 rows=12 />
                        </Show>
                        <For each=move || jobs.get() key=|job| job.encode_to_vec() let:job>
                            <Row job />
                        </For>
                    </tbody>
                </table>
            </div>
        </Show>
        <Show when=move || has_data.get() && jobs.with(Vec::is_empty)>
            <Nothing filter more=Signal::derive(move || !next.get().is_empty()) />
        </Show>
        <Pager path=PATH filter next />
    }
}

#[component]
fn Row(job: Job) -> impl IntoView {
    let live = Live::get();
    let open = opens(format!("/jobs/{}", job.id));
    let due = job.run_at.as_ref().map(timestamp_ms);
    let started = job.started_at.as_ref().map(timestamp_ms);
    let updated = job.updated_at.as_ref().map(timestamp_ms);
    let attempts = status::attempts(&job);
    let (id, task, worker_id, priority) = (job.id.clone(), job.task.clone(), job.worker_id.clone(), job.priority);
    let look = Memo::new(move |_| status::job(&job, live.now.get()));
    view! {
        <tr class="opens" on:click=open>
            <td data-label="Job" class="lead">
                <JobLink id />
            </td>
            <td data-label="Status" class="state">
                <Pill look />
            </td>
            <td data-label="Task" class="cut" title=task.clone()>
                {if task.is_empty() { "–".to_owned() } else { task.clone() }}
            </td>
            <td data-label="worker_id" class="cut mono" title=worker_id.clone()>
                {worker_id.clone()}
            </td>
            <td data-label="Attempts" class="num">
                {attempts}
            </td>
            <td data-label="Priority" class="num">
                {priority}
            </td>
            <td data-label="Runs">
                <Ago ms=started.or(due) />
            </td>
            <td data-label="Changed">
                <Ago ms=updated />
            </td>
        </tr>
    }
}

#[component]
fn Nothing(filter: Memo<Filter>, #[prop(into)] more: Signal<bool>) -> impl IntoView {
    move || {
        if more.get() {
            return view! {
                <Empty icon="jobs" title="None on this page">
                    <p>"There may be some on the older ones."</p>
                </Empty>
            }
            .into_any();
        }
        if filter.get().is_set() {
            return view! {
                <Empty icon="jobs" title="No job fits these filters">
                    <p>"Clear them to see all jobs."</p>
                </Empty>
            }
            .into_any();
        }
        view! {
            <Empty icon="jobs" title="No jobs yet">
                <p>
                    "They appear here as soon as a program submits them. " <A href="/submit">"Submit the first one"</A>
                    "."
                </p>
            </Empty>
        }
        .into_any()
    }
}
