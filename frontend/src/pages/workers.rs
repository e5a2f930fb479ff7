//! Workers page: the live sessions, and those that ended within the last day.

use leptos::prelude::*;
use leptos_router::components::A;

use super::filters::{FilterBar, from_url};
use crate::{
    browser::dom,
    calls::client,
    components::{
        atoms::{Ago, CopyButton, Pill, SessionLink},
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
        id,
        session::{self, SessionRow},
        shell_quote,
        visible::{isolated, visible},
    },
};

const COLUMNS: &[Column] = &[
    Text("worker_id"),
    Text("State"),
    Text("Session"),
    Text("Running"),
    Text("Host"),
    Text("Version"),
    Text("Tasks"),
    Text("Started"),
    Text("Last heartbeat"),
];

#[component]
pub fn Workers() -> impl IntoView {
    let filter = from_url();
    let answer = feed(move || filter.get().worker_id, client::all_workers);
    let sessions = List::of(answer, SessionRow::all, |it| it.id.clone());
    let live = Memo::new(move |_| answer.data.with(|data| data.as_ref().map(session::live)));
    view! {
        <div class="page-head">
            <Heading title="Workers" />
            <p class="muted">{live}</p>
        </div>
        <FilterBar path="/workers" filter failure=answer.failure with_task=false />
        <Listing
            list=sessions
            columns=COLUMNS
            row=|id, session| view! { <Row id session /> }.into_any()
            empty=move || view! { <Nothing filter /> }
            grey=4
            frame="card scroll-x wide"
        />
    }
}

#[component]
fn Row(id: String, session: Memo<SessionRow>) -> impl IntoView {
    let (worker_id, jobs) = session.with_untracked(|it| (it.worker_id.clone(), it.jobs()));
    let title = format!("Jobs of {}", visible(&worker_id));
    let open = opens(id::session_page(&id));
    let look = Memo::new(move |_| session.with(|it| it.look));
    let tasks = move || session.with(|it| visible(&it.tasks).into_owned());
    let host = move || session.with(|it| visible(&it.host).into_owned());
    let version = move || session.with(|it| visible(&it.version).into_owned());
    let load = move || session.with(SessionRow::load);
    view! {
        <tr class="opens" on:click=open.clone() on:auxclick=open>
            <td data-label="worker_id" class="lead mono cut">
                <A href=jobs attr:title=title><JobText text=worker_id /></A>
            </td>
            <td data-label="State" class="state">
                <Pill look />
            </td>
            <td data-label="Session">
                <SessionLink id />
            </td>
            <td data-label="Running">
                <span class="load">
                    <meter
                        min="0"
                        max=move || session.with(|it| it.slots.max(1))
                        value=move || session.with(|it| it.running)
                        aria-label=move || format!("{} slots in use", load())
                    ></meter>
                    {load}
                </span>
            </td>
            <td data-label="Host" class="cut" title=host>
                <JobText text=Signal::derive(host) />
            </td>
            <td data-label="Version" class="cut" title=version>
                <JobText text=Signal::derive(version) />
            </td>
            <td data-label="Tasks" class="cut" title=tasks>
                <JobText text=Signal::derive(tasks) />
            </td>
            <td data-label="Started">
                <Ago ms=Signal::derive(move || session.with(|it| it.started)) />
            </td>
            <td data-label="Last heartbeat" title=move || session.with(|it| it.lease.clone())>
                <Ago ms=Signal::derive(move || session.with(|it| it.heartbeat)) />
            </td>
        </tr>
    }
}

/// Notice for an empty list, with a command that starts a worker of the worker_id in the filter.
#[component]
fn Nothing(filter: Memo<Filter>) -> impl IntoView {
    move || {
        let worker_id = filter.get().worker_id;
        let name = if worker_id.is_empty() { "worker-1a" } else { &worker_id };
        let command = shell_quote::start_worker(name, &dom::origin());
        let shown = command.clone();
        let title = if worker_id.is_empty() {
            "No workers".to_owned()
        } else {
            format!("No worker named {}", isolated(&worker_id))
        };
        view! {
            <Empty icon="workers" title=title>
                <p>"None was connected within the last day. Start one, here with the built-in demonstration as its handler:"</p>
                <p class="command">
                    <code><JobText text=shown /></code>
                    <CopyButton text=Callback::new(move |()| command.clone()) label="Copy command" />
                </p>
                <p>
                    "For work of your own replace " <code>"--simulate"</code> " by " <code>"--exec TASK=COMMAND"</code> " or "
                    <code>"--http TASK=URL"</code> "."
                </p>
            </Empty>
        }
    }
}
