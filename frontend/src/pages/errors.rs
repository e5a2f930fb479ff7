//! Errors page: groups of failed attempts with the same error, and their state.

use leptos::{ev::SubmitEvent, prelude::*};
use leptos_router::{
    NavigateOptions,
    components::A,
    hooks::{use_navigate, use_query_map},
};

use crate::{
    calls::client,
    components::{
        atoms::{Ago, Pill},
        heading::Heading,
        icon::Icon,
        job_text::JobText,
        listing::{
            Column::{self, Number, Text},
            List, Listing,
        },
        notice::Empty,
        spark::Spark,
        table::opens,
    },
    feeds::live::feed_paced,
    model::{
        error_group::{self, CHOICES, ErrorFilter, GroupRow, ORDERS, WINDOWS},
        number::count,
        visible::visible,
    },
};

const COLUMNS: &[Column] = &[
    Text("Error"),
    Text("State"),
    Text("Trend"),
    Number("Failed attempts"),
    Number("Dead letters"),
    Text("First seen"),
    Text("Last seen"),
];

/// Numbers of groups that the list shows, one after the other.
const SIZES: [i32; 3] = [50, 100, 200];
/// Pause between two requests. Counts by the minute need no more.
const EVERY_MS: u32 = 5_000;

#[component]
pub fn Errors() -> impl IntoView {
    let query = use_query_map();
    let filter = Memo::new(move |_| query.with(|query| ErrorFilter::read(|name| query.get(name))));
    let size = RwSignal::new(SIZES[0]);
    let answer = feed_paced(
        move || (filter.get(), size.get()),
        |(filter, size)| client::list_error_groups(filter.request(size)),
        |_| EVERY_MS,
    );
    let groups = List::of(answer, GroupRow::all, |group| group.id.clone());
    let total = Memo::new(move |_| answer.data.with(|data| data.as_ref().map(error_group::total)));
    let more =
        Memo::new(move |_| answer.data.with(|data| data.as_ref().is_some_and(|data| !data.next_page_token.is_empty())));
    let larger = move || SIZES.into_iter().find(|it| *it > size.get());
    view! {
        <div class="page-head">
            <Heading title="Errors" />
            <p class="muted" role="status">{total}</p>
            <A href="/dead-letters" attr:class="button">"All dead letters"</A>
        </div>
        <Choices filter />
        <Listing
            list=groups
            columns=COLUMNS
            row=|id, group| view! { <Row id group /> }.into_any()
            empty=move || view! { <Nothing filter /> }
            grey=8
            class="table cards errors"
        />
        <Show when=move || more.get()>
            {move || match larger() {
                Some(next) => view! {
                    <div class="pager">
                        <button type="button" class="button" on:click=move |_| size.set(next)>
                            {format!("Show up to {next}")}
                        </button>
                    </div>
                }
                .into_any(),
                None => view! { <p class="muted">"More than are shown: choose a worker_id or a state."</p> }.into_any(),
            }}
        </Show>
    }
}

#[component]
fn Nothing(filter: Memo<ErrorFilter>) -> impl IntoView {
    move || {
        let filter = filter.get();
        let (title, text) = if filter.is_narrow() {
            ("No errors", "None fits these filters.")
        } else if filter.state == "all" {
            ("No errors", "Attempts that fail, time out or lose their worker are grouped here by their error.")
        } else {
            ("No error is open", "Ignored and resolved ones are under “All”.")
        };
        view! {
            <Empty icon="check" title=title>
                <p>{text}</p>
            </Empty>
        }
    }
}

/// Which groups are shown, in which order, and the window of the counts. All of it is in the URL.
#[component]
fn Choices(filter: Memo<ErrorFilter>) -> impl IntoView {
    let navigate = use_navigate();
    let go = Callback::new(move |filter: ErrorFilter| navigate(&filter.url(), NavigateOptions::default()));
    let select = move |id: &'static str,
                       label: &'static str,
                       options: Vec<(&'static str, &'static str)>,
                       get: fn(&mut ErrorFilter) -> &mut String| {
        let value = move || get(&mut filter.get()).clone();
        let options = options.into_iter().map(move |(option, word)| {
            view! { <option value=option selected=move || value() == option>{word}</option> }
        });
        view! {
            <div class="field">
                <label for=id>{label}</label>
                <select
                    id=id
                    class="input"
                    prop:value=value
                    on:change=move |event| {
                        let mut filter = filter.get_untracked();
                        *get(&mut filter) = event_target_value(&event);
                        go.run(filter);
                    }
                >
                    {options.collect_view()}
                </select>
            </div>
        }
    };
    view! {
        <form class="filters" on:submit=|event: SubmitEvent| event.prevent_default()>
            <div class="field">
                <label for="errors-worker">"worker_id"</label>
                <input
                    id="errors-worker"
                    class="input"
                    list="worker-ids"
                    placeholder="All"
                    autocomplete="off"
                    spellcheck="false"
                    maxlength="100"
                    prop:value=move || filter.get().worker_id
                    on:change=move |event| {
                        let worker_id = event_target_value(&event).trim().to_owned();
                        go.run(ErrorFilter { worker_id, ..filter.get_untracked() });
                    }
                />
            </div>
            {select("errors-state", "State", CHOICES.map(|it| (it.0, it.1)).to_vec(), |filter| &mut filter.state)}
            {select("errors-window", "Time", WINDOWS.map(|it| (it.0, it.1)).to_vec(), |filter| &mut filter.window)}
            {select("errors-order", "Order", ORDERS.map(|it| (it.0, it.1)).to_vec(), |filter| &mut filter.order)}
            <Show when=move || filter.get() != ErrorFilter::default()>
                <button type="button" class="button" on:click=move |_| go.run(ErrorFilter::default())>
                    <Icon name="close" />
                    "Clear filters"
                </button>
            </Show>
        </form>
    }
}

#[component]
fn Row(id: String, group: Memo<GroupRow>) -> impl IntoView {
    let page = error_group::group_page(&id);
    let open = opens(page.clone());
    let text = move |get: fn(&GroupRow) -> &String| move || group.with(|group| visible(get(group)).into_owned());
    let title = text(|group| &group.title);
    let (task, worker_ids) = (text(|group| &group.task), text(|group| &group.worker_ids));
    let look = Memo::new(move |_| group.with(|group| group.look));
    view! {
        <tr class="opens" on:click=open.clone() on:auxclick=open>
            <td data-label="Error" class="lead error-title">
                <A href=page attr:class="mono line" attr:title=title>
                    <JobText text=Signal::derive(title) />
                </A>
                <span class="muted line" title=worker_ids>
                    <Show when=move || group.with(|group| !group.task.is_empty())>
                        <JobText text=Signal::derive(task) />
                        " · "
                    </Show>
                    <JobText text=Signal::derive(worker_ids) />
                </span>
            </td>
            <td data-label="State" class="state">
                <Pill look />
            </td>
            <td data-label="Trend">
                <Spark counts=Signal::derive(move || group.with(|group| group.counts.clone())) />
            </td>
            <td data-label="Failed attempts" class="num">{move || group.with(|group| count(group.in_window))}</td>
            <td data-label="Dead letters" class="num">{move || group.with(|group| count(group.dead_letters))}</td>
            <td data-label="First seen">
                <Ago ms=Signal::derive(move || group.with(|group| group.first_seen)) />
            </td>
            <td data-label="Last seen">
                <Ago ms=Signal::derive(move || group.with(|group| group.last_seen)) />
            </td>
        </tr>
    }
}
