//! Jobs page: a list of jobs, newest first or by status, a page at a time.

use std::collections::BTreeSet;

use jobqueue_shared::{
    filter::parse,
    proto::v1::{CountJobsRequest, JobView, ListJobsRequest},
};
use leptos::prelude::*;
use leptos_router::{NavigateOptions, components::A, hooks::use_navigate};

use super::{filters::from_url, operations::AllThatMatch};
use crate::{
    browser::{dom, trail::Trails},
    calls::client,
    components::{
        atoms::{Ago, JobLink, Pill},
        commands::saved_views::{SaveView, ViewList},
        filter_field::FilterField,
        heading::Heading,
        job_text::JobText,
        listing::{
            Column::{self, Below, Number, Text},
            List, Listing,
        },
        notice::Empty,
        search_line::SearchLine,
        table::opens,
    },
    feeds::{
        counts_feed::CountsFeed,
        live::{Live, feed},
        search::search,
    },
    model::{
        filter::{Filter, SIZES},
        id,
        job::JobRow,
        query::{self, Known, TABS},
        search::{Found, Part},
        text::or_dash,
        visible::visible,
    },
};

const PATH: &str = "/jobs";

const COLUMNS: &[Column] = &[
    Text("Task"),
    Text("worker_id"),
    Text("Job"),
    Text("Status"),
    Text("Time"),
    Number("Attempts"),
    Text("Changed"),
    Below("Error"),
];

#[component]
pub fn Jobs() -> impl IntoView {
    let filter = from_url();
    let text = Memo::new(move |_| filter.with(Filter::text));
    let search = search(filter, async |filter: Filter| {
        let (at, token) = query::page(&filter.page, dom::now());
        // The search field says what is wrong with a text that is not understood.
        let Ok(conditions) = parse(&filter.text(), at) else { return Ok(Part::default()) };
        let request = ListJobsRequest {
            filter: Some(conditions),
            page_token: token.to_owned(),
            page_size: filter.page_size() as i32,
            view: JobView::Basic.into(),
            ..ListJobsRequest::default()
        };
        let part = Part::from(client::list_jobs(request).await?);
        Ok(Part { next: query::page_token(at, &part.next), ..part })
    });
    let page = search.found;
    let jobs = List::paged(page, |found| JobRow::all(&found.jobs), |job| job.id.clone(), Found::next_page);
    let worker_ids = CountsFeed::get().worker_ids();
    let known = Memo::new(move |_| {
        let tasks: BTreeSet<String> = page.data.with(|found| {
            found.iter().flat_map(|it| &it.jobs).map(|job| job.task.clone()).filter(|task| !task.is_empty()).collect()
        });
        Known { worker_ids: worker_ids.get(), tasks: tasks.into_iter().collect() }
    });
    let navigate = use_navigate();
    let go = Callback::new(move |text: String| {
        let url = filter.with_untracked(|filter| filter.with_text(&text).url(PATH));
        navigate(&url, NavigateOptions::default());
    });
    Trails::get().note("Jobs", PATH, jobs.keys());
    view! {
        <div class="page-head">
            <Heading title="Jobs" />
            <div class="actions">
                <PageSize filter />
                <SaveView />
                <A href="/submit" attr:class="button primary">"Submit job"</A>
                <AllThatMatch filter />
            </div>
        </div>
        <ViewList path=PATH />
        <FilterField text known go />
        <Tabs filter text />
        <SearchLine search />
        <Listing
            list=jobs
            columns=COLUMNS
            row=|id, job| view! { <Row id job /> }.into_any()
            empty=move || view! { <Nothing filter more=search.is_incomplete() /> }
            grey=12
            class="table cards jobs"
            pages=Some((PATH, filter))
        />
    }
}

/// Links to the jobs of each status that pass the rest of the filter, with their numbers.
#[component]
fn Tabs(filter: Memo<Filter>, text: Memo<String>) -> impl IntoView {
    let beside = Memo::new(move |_| text.with(|text| query::with_status(text, "")));
    let counts = feed(
        move || beside.get(),
        async |text: String| {
            let conditions = query::beside_status(&text, dom::now()).unwrap_or_default();
            let answer = client::count_jobs(CountJobsRequest { filter: Some(conditions), by_status: true }).await?;
            Ok(query::tab_counts(&answer))
        },
    );
    let current = Memo::new(move |_| text.with(|text| query::tab(text)));
    let tab = move |(at, (word, name)): (usize, (&'static str, &'static str))| {
        let href = move || {
            let text = text.with(|text| query::with_status(text, word));
            filter.with(|filter| filter.with_text(&text).url(PATH))
        };
        let number = move || counts.data.with(|counts| counts.as_ref().map(|counts| counts[at].clone()));
        view! {
            <a href=href aria-current=move || (current.get() == Some(word)).then_some("page")>
                {name} " " <span class="tab-count">{number}</span>
            </a>
        }
    };
    view! { <nav class="tabs" aria-label="Status">{TABS.into_iter().enumerate().map(tab).collect_view()}</nav> }
}

#[component]
fn PageSize(filter: Memo<Filter>) -> impl IntoView {
    let navigate = use_navigate();
    let choose = move |event| {
        let chosen = Filter { size: event_target_value(&event), page: String::new(), ..filter.get_untracked() };
        navigate(&chosen.url(PATH), NavigateOptions::default());
    };
    let option = move |size: u32| {
        view! {
            <option value=size.to_string() selected=move || filter.with(Filter::page_size) == size>
                {size}
            </option>
        }
    };
    view! {
        <div class="page-size">
            <label for="page-size">"Jobs per page"</label>
            <select id="page-size" class="input" on:change=choose>
                {SIZES.map(option).into_iter().collect_view()}
            </select>
        </div>
    }
}

#[component]
fn Row(id: String, job: Memo<JobRow>) -> impl IntoView {
    let live = Live::get();
    let open = opens(id::job_page(&id));
    let look = Memo::new(move |_| job.with(|job| job.status).look(live.now.get()));
    let pace = Memo::new(move |_| job.with(|job| job.pace).words(live.now.get()));
    let task = move || job.with(|job| visible(&job.task).into_owned());
    let worker_id = move || job.with(|job| visible(&job.worker_id).into_owned());
    let error = move || job.with(|job| visible(&job.error).into_owned());
    view! {
        <tr class="opens" on:click=open.clone() on:auxclick=open>
            <td data-label="Task" class="cut" title=task>
                <JobText text=Signal::derive(move || or_dash(&task())) />
            </td>
            <td data-label="worker_id" class="cut mono" title=worker_id>
                <JobText text=Signal::derive(worker_id) />
            </td>
            <td data-label="Job" class="lead small">
                <JobLink id />
            </td>
            <td data-label="Status" class="state">
                <Pill look />
            </td>
            <td data-label="Time">{move || or_dash(&pace.get())}</td>
            <td data-label="Attempts" class="num">
                {move || job.with(|job| job.attempts.clone())}
            </td>
            <td data-label="Changed">
                <Ago ms=Signal::derive(move || job.with(|job| job.changed)) />
            </td>
            <td
                data-label="Error"
                class="below cut error-text mono"
                class:has-error=move || job.with(|job| !job.error.is_empty())
                title=error
            >
                <JobText text=Signal::derive(error) />
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
