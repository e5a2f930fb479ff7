//! Dead letters page: shows why jobs have failed for good, and retries one or many of them.

use std::{collections::BTreeSet, sync::Arc};

use jobqueue_shared::proto::v1::{JobView, ListFailedJobsRequest};
use leptos::prelude::*;

use super::{
    filters::{FilterBar, from_url},
    operations::AllThatMatch,
};
use crate::{
    browser::trail::Trails,
    calls::{
        bulk_retry::{BULK_KEY, BulkRetry, retry_one},
        client,
        in_flight::job_key,
        operator_actions::OperatorActions,
    },
    components::{
        action::ActionButton,
        atoms::{Ago, JobLink},
        confirm::{Confirm, Question},
        heading::Heading,
        job_text::JobText,
        listing::{
            Column::{self, Below, Controls, Number, Text},
            List, Listing,
        },
        notice::Empty,
        search_line::SearchLine,
        table::opens,
    },
    feeds::search::search,
    model::{
        filter::Filter,
        id,
        job::LetterRow,
        number::{count, plural},
        search::{Found, Part},
        text::or_dash,
        visible::visible,
    },
};

const PATH: &str = "/dead-letters";

const COLUMNS: &[Column] = &[
    Text("Job"),
    Text("Task"),
    Text("worker_id"),
    Below("Reason"),
    Below("Error"),
    Number("Attempts"),
    Text("Failed"),
    Controls("Actions"),
];

#[component]
pub fn DeadLetters() -> impl IntoView {
    let filter = from_url();
    let search = search(filter, async |filter: Filter| {
        let answer = client::list_failed_jobs(ListFailedJobsRequest {
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
    let jobs = List::paged(page, |found| LetterRow::all(&found.jobs), |job| job.id.clone(), Found::next_page);
    let keys = jobs.keys();
    Trails::get().note("Dead letters", PATH, keys);
    let selected = RwSignal::new(BTreeSet::<String>::new());
    // Only jobs on the page can be selected, so that nobody retries jobs that they do not see.
    Effect::new(move |_| {
        let keys = keys.get();
        let gone = |id: &String| !keys.contains(id);
        if selected.with_untracked(|all| all.iter().any(gone)) {
            selected.update(|all| all.retain(|id| !gone(id)));
        }
    });
    view! {
        <div class="page-head">
            <Heading title="Dead letters" />
            <AllThatMatch filter failed=true />
        </div>
        <FilterBar path=PATH filter failure=page.failure />
        <SearchLine search />
        <Selection selected />
        <Listing
            list=jobs
            columns=COLUMNS
            select=move || view! { <SelectAll keys selected /> }
            row=move |id, job| view! { <Row id job selected /> }.into_any()
            empty=move || view! { <Nothing filter more=search.is_incomplete() /> }
            grey=10
            class="table cards letters"
            pages=Some((PATH, filter))
        />
    }
}

#[component]
fn Nothing(filter: Memo<Filter>, more: Signal<bool>) -> impl IntoView {
    move || {
        let (title, text) = if more.get() {
            ("None found yet", "Older dead letters have not been searched.")
        } else if filter.get().is_set() {
            ("No dead letters", "None fits these filters.")
        } else {
            ("No dead letters", "Jobs land here when they fail max_retries times.")
        };
        view! {
            <Empty icon="letters" title=title>
                <p>{text}</p>
            </Empty>
        }
    }
}

/// Heading of the column of check boxes, with one that selects all jobs on the page.
#[component]
fn SelectAll(keys: Memo<Vec<String>>, selected: RwSignal<BTreeSet<String>>) -> impl IntoView {
    let number = Memo::new(move |_| keys.with(Vec::len));
    let all = Memo::new(move |_| number.get() > 0 && number.get() == selected.with(BTreeSet::len));
    let toggle = move |_| {
        let on = !all.get_untracked();
        selected.update(|set| {
            set.clear();
            if on {
                set.extend(keys.get_untracked());
            }
        });
    };
    view! {
        <th scope="col" class="pick">
            <label>
                <input
                    type="checkbox"
                    aria-label="Select all on this page"
                    prop:checked=all
                    prop:indeterminate=move || !all.get() && !selected.with(BTreeSet::is_empty)
                    on:change=toggle
                />
                <span class="only-narrow" aria-hidden="true">"Select all"</span>
            </label>
        </th>
    }
}

/// Number of selected dead letters, and the buttons for them.
#[component]
fn Selection(selected: RwSignal<BTreeSet<String>>) -> impl IntoView {
    let chosen = Memo::new(move |_| selected.with(|all| i32::try_from(all.len()).unwrap_or(i32::MAX)));
    let (confirm, actions, bulk) = (Confirm::get(), OperatorActions::get(), BulkRetry::get());
    let busy = actions.in_flight.busy(BULK_KEY.to_owned());
    let retry = move || {
        let ids: Vec<String> = selected.get_untracked().into_iter().collect();
        let letters = plural(chosen.get_untracked(), "dead letter", "dead letters");
        confirm.ask(Question {
            title: format!("Retry {letters}?"),
            text: "Each goes back to pending with a fresh attempt budget. Its history stays.".into(),
            action: format!("Retry {letters}"),
            destroys: false,
            input: "",
            then: Arc::new(move |_| bulk.start(actions, ids.clone())),
        });
    };
    view! {
        <Show when=move || { chosen.get() > 0 }>
            <div class="selection" role="region" aria-label="Selection">
                <span>{move || count(chosen.get())}" selected"</span>
                <ActionButton
                    class="button primary"
                    icon="retry"
                    word=Signal::derive(move || format!("Retry {}", count(chosen.get())))
                    busy_word="Retrying…"
                    busy
                    press=retry
                />
                <button type="button" class="button" on:click=move |_| selected.update(BTreeSet::clear)>
                    "Clear selection"
                </button>
            </div>
        </Show>
    }
}

#[component]
fn Row(id: String, job: Memo<LetterRow>, selected: RwSignal<BTreeSet<String>>) -> impl IntoView {
    let actions = OperatorActions::get();
    let open = opens(id::job_page(&id));
    let busy = actions.in_flight.busy(job_key(&id));
    let (retried, toggled, checked) = (id.clone(), id.clone(), id.clone());
    let retry = move || retry_one(actions, retried.clone());
    let toggle = move |_| {
        selected.update(|all| {
            if !all.remove(&toggled) {
                all.insert(toggled.clone());
            }
        });
    };
    let checked = Memo::new(move |_| selected.with(|all| all.contains(&checked)));
    let short = id::short(&id);
    let (select, put_back) = (format!("Select job {short}"), format!("Retry job {short}"));
    let task = move || job.with(|job| visible(&job.task).into_owned());
    let worker_id = move || job.with(|job| visible(&job.worker_id).into_owned());
    let error = move || job.with(|job| visible(&job.error).into_owned());
    view! {
        <tr class="opens" class:chosen=checked on:click=open.clone() on:auxclick=open>
            <td class="pick">
                <label>
                    <input
                        type="checkbox"
                        aria-label=select
                        prop:checked=checked
                        on:change=toggle
                    />
                </label>
            </td>
            <td data-label="Job" class="lead">
                <JobLink id />
            </td>
            <td data-label="Task" class="cut" title=task>
                <JobText text=Signal::derive(move || or_dash(&task())) />
            </td>
            <td data-label="worker_id" class="cut mono" title=worker_id>
                <JobText text=Signal::derive(worker_id) />
            </td>
            <td data-label="Reason" class="below">{move || job.with(|job| job.reason)}</td>
            <td data-label="Error" class="below cut error-text mono" title=error>
                <JobText text=Signal::derive(error) />
            </td>
            <td data-label="Attempts" class="num">
                {move || job.with(|job| job.attempts.clone())}
            </td>
            <td data-label="Failed">
                <Ago ms=Signal::derive(move || job.with(|job| job.failed)) />
            </td>
            <td class="act">
                <ActionButton
                    class="button quiet"
                    icon="retry"
                    word="Retry"
                    busy_word="Retrying…"
                    label=put_back
                    busy
                    press=retry
                />
            </td>
        </tr>
    }
}
