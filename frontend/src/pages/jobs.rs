//! Jobs page: a list of jobs, newest first or by status, a page at a time.

use jobqueue_shared::proto::v1::{JobView, ListJobsRequest};
use leptos::prelude::*;
use leptos_router::components::A;

use super::{
    filters::{FilterBar, from_url},
    operations::AllThatMatch,
};
use crate::{
    browser::trail::Trails,
    calls::client,
    components::{
        atoms::{Ago, JobLink, Pill},
        commands::saved_views::{SaveView, ViewList},
        heading::Heading,
        job_text::JobText,
        listing::{
            Column::{self, Number, Text},
            List, Listing,
        },
        notice::Empty,
        search_line::SearchLine,
        table::opens,
    },
    feeds::{live::Live, search::search},
    model::{
        filter::Filter,
        id,
        job::JobRow,
        search::{Found, Part},
        text::or_dash,
        visible::visible,
    },
};

const PATH: &str = "/jobs";

const COLUMNS: &[Column] = &[
    Text("Job"),
    Text("Status"),
    Text("Task"),
    Text("worker_id"),
    Number("Attempts"),
    Number("Priority"),
    Text("Runs"),
    Text("Changed"),
];

#[component]
pub fn Jobs() -> impl IntoView {
    let filter = from_url();
    let search = search(filter, async |filter: Filter| {
        let answer = client::list_jobs(ListJobsRequest {
            status: filter.status().into(),
            worker_id: filter.worker_id,
            task: filter.task,
            page_token: filter.page,
            page_size: 0,
            view: JobView::Basic.into(),
            filter: None,
        });
        answer.await.map(Part::from)
    });
    let page = search.found;
    let jobs = List::paged(page, |found| JobRow::all(&found.jobs), |job| job.id.clone(), Found::next_page);
    Trails::get().note("Jobs", PATH, jobs.keys());
    view! {
        <div class="page-head">
            <Heading title="Jobs" />
            <div class="actions">
                <SaveView />
                <A href="/submit" attr:class="button primary">"Submit job"</A>
                <AllThatMatch filter />
            </div>
        </div>
        <ViewList path=PATH />
        <FilterBar path=PATH filter failure=page.failure with_status=true />
        <SearchLine search />
        <Listing
            list=jobs
            columns=COLUMNS
            row=|id, job| view! { <Row id job /> }.into_any()
            empty=move || view! { <Nothing filter more=search.is_incomplete() /> }
            grey=12
            pages=Some((PATH, filter))
        />
    }
}

#[component]
fn Row(id: String, job: Memo<JobRow>) -> impl IntoView {
    let live = Live::get();
    let open = opens(id::job_page(&id));
    let look = Memo::new(move |_| job.with(|job| job.status).look(live.now.get()));
    let task = move || job.with(|job| visible(&job.task).into_owned());
    let worker_id = move || job.with(|job| visible(&job.worker_id).into_owned());
    view! {
        <tr class="opens" on:click=open.clone() on:auxclick=open>
            <td data-label="Job" class="lead">
                <JobLink id />
            </td>
            <td data-label="Status" class="state">
                <Pill look />
            </td>
            <td data-label="Task" class="cut" title=task>
                <JobText text=Signal::derive(move || or_dash(&task())) />
            </td>
            <td data-label="worker_id" class="cut mono" title=worker_id>
                <JobText text=Signal::derive(worker_id) />
            </td>
            <td data-label="Attempts" class="num">
                {move || job.with(|job| job.attempts.clone())}
            </td>
            <td data-label="Priority" class="num">
                {move || job.with(|job| job.priority)}
            </td>
            <td data-label="Runs">
                <Ago ms=Signal::derive(move || job.with(|job| job.runs)) />
            </td>
            <td data-label="Changed">
                <Ago ms=Signal::derive(move || job.with(|job| job.changed)) />
            </td>
        </tr>
    }
}

#[component]
fn Nothing(filter: Memo<Filter>, #[prop(into)] more: Signal<bool>) -> impl IntoView {
    move || {
        if more.get() {
            return view! {
                <Empty icon="jobs" title="None found yet">
                    <p>"Older jobs have not been searched."</p>
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
