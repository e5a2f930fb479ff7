//! Operations page: what was done to many jobs at once, and what is being done.

mod new;
mod one;

use jobqueue_shared::proto::v1::{ListOperationsRequest, ListOperationsResponse};
use leptos::prelude::*;
use leptos_router::components::A;

pub use self::{new::NewOperation, one::OperationPage};
use super::filters::from_url;
use crate::{
    calls::client,
    components::{
        atoms::{Ago, Pill},
        heading::Heading,
        job_text::JobText,
        listing::{
            Column::{self, Text},
            List, Listing,
        },
        notice::Empty,
        table::opens,
    },
    feeds::live::feed,
    model::{
        filter::Filter,
        operation::{self, OperationRow},
        operation_draft,
        visible::visible,
    },
};

const PATH: &str = "/operations";

const COLUMNS: &[Column] =
    &[Text("Operation"), Text("State"), Text("Jobs"), Text("Reason"), Text("Progress"), Text("Started")];

#[component]
pub fn Operations() -> impl IntoView {
    let filter = from_url();
    let answer = feed(
        move || filter.get().page,
        |page_token| client::list_operations(ListOperationsRequest { page_token, page_size: 0 }),
    );
    let operations = List::paged(answer, OperationRow::all, |it| it.id.clone(), next_page);
    view! {
        <div class="page-head">
            <Heading title="Operations" />
            <A href="/operations/new" attr:class="button primary">"New operation"</A>
        </div>
        <Listing
            list=operations
            columns=COLUMNS
            row=|id, operation| view! { <Row id operation /> }.into_any()
            empty=nothing
            grey=6
            pages=Some((PATH, filter))
        />
    }
}

fn next_page(answer: &ListOperationsResponse) -> &String {
    &answer.next_page_token
}

fn nothing() -> impl IntoView {
    view! {
        <Empty icon="operations" title="No operations">
            <p>
                "An operation retries, cancels or changes all jobs that match a filter. "
                <A href="/operations/new">"Start one"</A> "."
            </p>
        </Empty>
    }
}

#[component]
fn Row(id: String, operation: Memo<OperationRow>) -> impl IntoView {
    let open = opens(operation::page(&id));
    let look = Memo::new(move |_| operation::state(operation.with(|it| it.state)));
    let filter = move || operation.with(|it| filter_words(&it.filter));
    let reason = move || operation.with(|it| visible(&it.reason).into_owned());
    view! {
        <tr class="opens" on:click=open.clone() on:auxclick=open>
            <td data-label="Operation" class="lead">
                <A href=operation::page(&id)>{move || operation.with(|it| operation::verb(it.kind))}</A>
            </td>
            <td data-label="State" class="state">
                <Pill look />
            </td>
            <td data-label="Jobs" class="cut mono" title=filter>
                <JobText text=Signal::derive(filter) />
            </td>
            <td data-label="Reason" class="cut" title=reason>
                <JobText text=Signal::derive(reason) />
            </td>
            <td data-label="Progress">
                <Progress operation />
            </td>
            <td data-label="Started">
                <Ago ms=Signal::derive(move || operation.with(|it| it.started)) />
            </td>
        </tr>
    }
}

/// Link from a list to an operation on all jobs that it finds, on whatever page they are.
#[component]
pub fn AllThatMatch(
    filter: Memo<Filter>,
    /// True in the list of dead letters.
    #[prop(optional)]
    failed: bool,
) -> impl IntoView {
    let href = move || {
        let filter = filter.get();
        let status = if failed { "failed".to_owned() } else { filter.status.clone() };
        operation_draft::page(&Filter { status, ..filter }.text())
    };
    view! { <A href=href attr:class="button">"Act on all that match…"</A> }
}

/// Text form of a filter for people.
fn filter_words(filter: &str) -> String {
    if filter.is_empty() { "all jobs".to_owned() } else { visible(filter).into_owned() }
}

/// Bar and numbers of an operation's progress.
#[component]
fn Progress(operation: Memo<OperationRow>) -> impl IntoView {
    let of = Memo::new(move |_| operation.with(|it| it.of.unwrap_or_default()));
    let done = Memo::new(move |_| operation.with(|it| it.done));
    let words = Memo::new(move |_| operation.with(|it| it.counts.clone()));
    view! {
        <span class="op-progress">
            // Without anything to do there is nothing to show: an empty bar would say that all of it is left.
            <progress max=move || of.get().max(1) value=move || if of.get() == 0 { 1 } else { done.get() } aria-label=words></progress>
            <span>{words}</span>
        </span>
    }
}
