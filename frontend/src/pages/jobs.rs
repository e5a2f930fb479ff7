//! Jobs page: a list of jobs, newest first or by status, a page at a time.

use jobqueue_shared::{
    proto::v1::{Job, JobView, ListJobsRequest},
    time::timestamp_ms,
};
use leptos::prelude::*;
use leptos_router::components::A;

use super::filters::{FilterBar, from_url};
use crate::{
    api,
    components::{
        atoms::{Ago, JobLink, Pill, or_dash},
        heading::Heading,
        notice::{Empty, Trouble},
        pager::Pager,
        table::{Skeleton, Turning, opens},
    },
    live::{Live, feed},
    model::{filter::Filter, status},
    rows::rows,
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
                view: JobView::Basic.into(),
            })
        },
    );
    let jobs = rows(
        move || page.data.with(|data| data.as_ref().map(|data| data.jobs.clone())).unwrap_or_default(),
        |job| job.id.clone(),
    );
    let next = Memo::new(move |before: Option<&String>| {
        if page.is_loading() {
            return before.cloned().unwrap_or_default();
        }
        page.data.with(|data| data.as_ref().map(|data| data.next_page_token.clone())).unwrap_or_default()
    });
    let turning = Turning::get();
    let has_data = Memo::new(move |_| page.data.with(Option::is_some));
    // While another page loads, the skeleton has as many rows as the last page: nothing moves under the pointer.
    let outline = Memo::new(
        move |before: Option<&usize>| {
            if page.is_loading() { before.copied().unwrap_or(12) } else { jobs.len().max(1) }
        },
    );
    view! {
        <div class="page-head">
            <Heading title="Jobs" />
            <A href="/submit" attr:class="button primary">"Submit job"</A>
        </div>
        <FilterBar path=PATH filter failure=page.failure with_status=true />
        <Trouble failure=Signal::derive(move || page.trouble_of_list()) has_data />
        <Show when=move || page.is_loading() || !jobs.is_empty()>
            <div class="card scroll-x" class:settling=move || turning.is_under_way()>
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
                            <Skeleton columns=8 rows=outline />
                        </Show>
                        <For each=move || jobs.keys() key=Clone::clone let:id>
                            <Row job=jobs.row(id.clone()) id />
                        </For>
                    </tbody>
                </table>
            </div>
        </Show>
        <Show when=move || has_data.get() && jobs.is_empty()>
            <Nothing filter more=Signal::derive(move || !next.get().is_empty()) />
        </Show>
        <Pager path=PATH filter next busy=page.busy />
    }
}

#[component]
fn Row(job: Memo<Job>, id: String) -> impl IntoView {
    let live = Live::get();
    let open = opens(format!("/jobs/{id}"));
    let runs = move || job.with(|job| job.started_at.as_ref().or(job.run_at.as_ref()).map(timestamp_ms));
    let updated = move || job.with(|job| job.updated_at.as_ref().map(timestamp_ms));
    let look = Memo::new(move |_| job.with(|job| status::job(job, live.now.get())));
    let task = move || job.with(|job| job.task.clone());
    let worker_id = move || job.with(|job| job.worker_id.clone());
    view! {
        <tr class="opens" on:click=open>
            <td data-label="Job" class="lead">
                <JobLink id />
            </td>
            <td data-label="Status" class="state">
                <Pill look />
            </td>
            <td data-label="Task" class="cut" title=task>
                {move || or_dash(&task())}
            </td>
            <td data-label="worker_id" class="cut mono" title=worker_id>
                {worker_id}
            </td>
            <td data-label="Attempts" class="num">
                {move || job.with(status::attempts)}
            </td>
            <td data-label="Priority" class="num">
                {move || job.with(|job| job.priority)}
            </td>
            <td data-label="Runs">
                <Ago ms=Signal::derive(runs) />
            </td>
            <td data-label="Changed">
                <Ago ms=Signal::derive(updated) />
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
