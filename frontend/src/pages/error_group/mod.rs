//! Page of one error group: what fails, since when and where, its dead letters, and what people decided about it.

mod actions;
mod letters;
mod remarks;

use jobqueue_shared::proto::v1::{GetErrorGroupRequest, error_group::Window};
use leptos::prelude::*;
use leptos_router::{components::A, hooks::use_params_map};

use self::{actions::Actions, letters::Letters, remarks::Remarks};
use crate::{
    calls::client,
    components::{
        atoms::{Ago, CopyButton, JobLink, Pill},
        error_chart::ErrorChart,
        heading::Heading,
        job_text::JobText,
        listing::{
            Column::{self, Number, Text},
            List, Listing,
        },
        notice::{Empty, Trouble},
    },
    feeds::live::feed_paced,
    model::{
        error_group::{self, GroupPage, WINDOWS, WorkerIdRow},
        number::{count, plural},
        visible::visible,
    },
};

/// Pause between two requests, in milliseconds.
const EVERY_MS: u32 = 5_000;

const WORKER_ID_COLUMNS: &[Column] =
    &[Text("worker_id"), Number("Failed attempts"), Number("Dead letters"), Text("Last seen")];

#[component]
pub fn ErrorGroupPage() -> impl IntoView {
    let params = use_params_map();
    let id = Memo::new(move |_| params.with(|params| params.get("id")).unwrap_or_default());
    // Another id makes another page, on which nothing of the last group stays.
    move || view! { <OneGroup id=id.get() /> }
}

#[component]
fn OneGroup(id: String) -> impl IntoView {
    let window = RwSignal::new(Window::Day);
    let asked = id.clone();
    let answer = feed_paced(
        move || window.get(),
        move |window| client::get_error_group(GetErrorGroupRequest { id: asked.clone(), window: window.into() }),
        |_| EVERY_MS,
    );
    // Another window is another answer; until it is there, the page keeps what it has.
    let known = Memo::new(move |before: Option<&Option<GroupPage>>| {
        let now = answer.data.with(|data| data.as_ref().and_then(GroupPage::of));
        now.or_else(|| before.cloned().flatten())
    });
    let there = Memo::new(move |_| known.with(Option::is_some));
    let group = Memo::new(move |_| known.get().unwrap_or_default());
    let slots = Memo::new(move |before: Option<&Vec<error_group::Slot>>| {
        let now = answer.data.with(|data| data.as_ref().map(error_group::slots));
        now.unwrap_or_else(|| before.cloned().unwrap_or_default())
    });
    let worker_ids = List::part(answer, WorkerIdRow::all, |row| row.worker_id.clone());
    let is_gone = Memo::new(move |_| answer.is_gone() || answer.failure.with(|failure| refuses_id(failure.as_ref())));
    let trouble = Signal::derive(move || if is_gone.get() { None } else { answer.trouble() });
    let title = Memo::new(move |_| group.with(|group| group.title.clone()));
    let shown_id = StoredValue::new(id);
    view! {
        <p class="crumb">
            <A href="/errors">"Errors"</A>
        </p>
        <Show when=move || is_gone.get() && !there.get()>
            <Heading title="Error group" />
            <Empty icon="question" title="No error group has this id">
                <p>
                    "It may have been removed: groups without dead letters go 90 days after their last failure. "
                    <A href="/errors">"See all errors"</A>
                    "."
                </p>
            </Empty>
        </Show>
        <Trouble failure=trouble has_data=there />
        <Show when=move || !there.get() && trouble.with(Option::is_none) && !is_gone.get()>
            <div class="card">
                <div class="card-body"><span class="bone tall"></span></div>
            </div>
        </Show>
        <Show when=move || there.get()>
            <div class="page-head error-head">
                <Heading title=title.get_untracked() mono=true />
            </div>
            <Summary group />
            <Actions id=shown_id.get_value() group />
            <ErrorChart slots>
                <Windows window />
            </ErrorChart>
            <Sample group />
            <div class="columns">
                <section class="card">
                    <header class="card-head">
                        <h2>"worker_ids"</h2>
                    </header>
                    <Listing
                        list=worker_ids
                        columns=WORKER_ID_COLUMNS
                        row=|worker_id, row| view! { <WorkerId worker_id row /> }.into_any()
                        empty=|| ()
                        grey=2
                        frame="scroll-x"
                    />
                </section>
                <Remarks id=shown_id.get_value() group />
            </div>
            <Letters id=shown_id.get_value() />
        </Show>
    }
}

/// Whether the server found the id of the address to be none.
fn refuses_id(failure: Option<&(i64, client::Failure)>) -> bool {
    failure.is_some_and(|(_, failure)| failure.fields.iter().any(|(field, _)| field == "id"))
}

/// State, task, and the figures of the group.
#[component]
fn Summary(group: Memo<GroupPage>) -> impl IntoView {
    let look = Memo::new(move |_| group.with(|group| error_group::look(group.state)));
    let task = Memo::new(move |_| group.with(|group| group.task.clone()));
    let until = Memo::new(move |_| group.with(|group| group.ignored_until));
    let left = Memo::new(move |_| group.with(|group| group.ignored_attempts));
    let figure = move |name: &'static str, value: fn(&GroupPage) -> String| {
        view! { <span><strong>{move || group.with(value)}</strong>" "<span class="muted">{name}</span></span> }
    };
    view! {
        <div class="summary">
            <Pill look />
            <Show when=move || until.get().is_some()>
                <span>"open again " <Ago ms=until /></span>
            </Show>
            {move || left.get().map(|left| format!("open again after {}", plural(left, "failed attempt", "failed attempts")))}
            <Show when=move || !task.with(String::is_empty)>
                <span>
                    <span class="muted">"task "</span>
                    <JobText text=task />
                </span>
            </Show>
            {figure("failed attempts", |group| count(group.attempts))}
            {figure("dead letters", |group| count(group.dead_letters))}
            {figure("waiting for another attempt", |group| group.retrying.clone())}
            <span>
                <span class="muted">"first seen "</span>
                <Ago ms=Signal::derive(move || group.with(|group| group.first_seen)) />
            </span>
            <span>
                <span class="muted">"last seen "</span>
                <Ago ms=Signal::derive(move || group.with(|group| group.last_seen)) />
            </span>
        </div>
    }
}

#[component]
fn Windows(window: RwSignal<Window>) -> impl IntoView {
    let button = move |(_, word, choice): (&'static str, &'static str, Window)| {
        view! {
            <button
                type="button"
                class="button quiet"
                aria-pressed=move || (window.get() == choice).to_string()
                on:click=move |_| window.set(choice)
            >
                {word}
            </button>
        }
    };
    view! {
        <div class="windows" role="group" aria-label="Time shown">
            {WINDOWS.into_iter().map(button).collect_view()}
        </div>
    }
}

/// The newest error in full, and its job.
#[component]
fn Sample(group: Memo<GroupPage>) -> impl IntoView {
    let error = Memo::new(move |_| group.with(|group| group.sample.clone()));
    let job = Memo::new(move |_| group.with(|group| group.sample_job.clone()));
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"Newest error"</h2>
                {move || {
                    let id = Some(job.get()).filter(|id| !id.is_empty())?;
                    Some(view! { <span class="muted">"of job " <JobLink id /></span> })
                }}
                <div class="card-actions">
                    <CopyButton text=Callback::new(move |()| error.get_untracked()) label="Copy error" word="Copy" />
                </div>
            </header>
            <pre class="sample" tabindex="0" aria-label="Newest error">
                {move || {
                    let text = error.get();
                    if text.is_empty() { "The attempt failed without an error text.".to_owned() } else { lines(&text) }
                }}
            </pre>
        </section>
    }
}

/// Text of several lines whose other control characters are shown as symbols.
fn lines(text: &str) -> String {
    text.lines().map(|line| visible(&line.replace('\t', "    ")).into_owned()).collect::<Vec<_>>().join("\n")
}

#[component]
fn WorkerId(worker_id: String, row: Memo<WorkerIdRow>) -> impl IntoView {
    let href = row.with_untracked(WorkerIdRow::jobs);
    let name = visible(&worker_id).into_owned();
    view! {
        <tr>
            <td data-label="worker_id" class="lead mono cut" title=name>
                <A href=href><JobText text=worker_id /></A>
            </td>
            <td data-label="Failed attempts" class="num">{move || row.with(|row| count(row.attempts))}</td>
            <td data-label="Dead letters" class="num">{move || row.with(|row| count(row.dead_letters))}</td>
            <td data-label="Last seen">
                <Ago ms=Signal::derive(move || row.with(|row| row.last_seen)) />
            </td>
        </tr>
    }
}
