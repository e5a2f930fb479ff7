//! Table of sessions.

use leptos::prelude::*;
use leptos_router::components::A;

use crate::components::{
    atoms::{Ago, Pill, SessionLink},
    job_text::JobText,
    listing::{
        Column::{self, Text},
        List, Listing,
    },
    table::opens,
};
use crate::model::{id, queues::queue, session::SessionRow, visible::visible};

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

/// Sessions of many worker_ids or, with `of_one`, of one, which is no column then.
#[component]
pub fn SessionTable(
    list: List<SessionRow>,
    #[prop(into)] empty: ViewFn,
    frame: &'static str,
    #[prop(optional)] of_one: bool,
) -> impl IntoView {
    view! {
        <Listing
            list
            columns=if of_one { &COLUMNS[1..] } else { COLUMNS }
            row=move |id, session| view! { <Row id session of_one /> }.into_any()
            empty
            grey=4
            class=if of_one { "table sessions cards" } else { "table cards" }
            frame
        />
    }
}

#[component]
fn Row(id: String, session: Memo<SessionRow>, of_one: bool) -> impl IntoView {
    let worker_id = session.with_untracked(|it| it.worker_id.clone());
    let page = queue::page(&worker_id);
    let open = opens(id::session_page(&id));
    let look = Memo::new(move |_| session.with(|it| it.look));
    let tasks = move || session.with(|it| visible(&it.tasks).into_owned());
    let host = move || session.with(|it| visible(&it.host).into_owned());
    let version = move || session.with(|it| visible(&it.version).into_owned());
    let load = move || session.with(SessionRow::load);
    let group = Memo::new(move |_| session.with(|it| it.group.clone()));
    view! {
        <Show when=move || !group.with(String::is_empty)>
            <tr class="group">
                <th scope="rowgroup" colspan=COLUMNS.len() - usize::from(of_one)>
                    <JobText text=group />
                </th>
            </tr>
        </Show>
        <tr class="opens" on:click=open.clone() on:auxclick=open>
            {(!of_one)
                .then(|| {
                    view! {
                        <td data-label="worker_id" class="lead mono cut">
                            <A href=page><JobText text=worker_id /></A>
                        </td>
                    }
                })}
            <td data-label="State" class="state">
                <Pill look />
            </td>
            <td data-label="Session" class:lead=of_one>
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
