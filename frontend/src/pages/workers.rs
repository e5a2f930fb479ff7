//! Workers page: the live sessions, and those that ended within the last day.

use jobqueue_shared::{
    proto::v1::{WorkerSession, worker_session::State},
    time::{duration_ms, timestamp_ms},
};
use leptos::prelude::*;
use leptos_router::components::A;

use super::filters::{FilterBar, from_url};
use crate::{
    api,
    components::{
        atoms::{Ago, CopyButton, Pill, SessionLink, or_dash},
        heading::Heading,
        notice::{Empty, Trouble},
        table::{Skeleton, opens},
    },
    dom,
    live::feed,
    model::{filter::Filter, number::plural, shell_quote, span, status},
    rows::rows,
};

#[component]
pub fn Workers() -> impl IntoView {
    let filter = from_url();
    let list = feed(move || filter.get().worker_id, api::all_workers);
    let sessions =
        Memo::new(move |_| list.data.with(|data| data.as_ref().map(|data| data.sessions.clone())).unwrap_or_default());
    let rows = rows(move || sessions.get(), |it| it.session_id.clone());
    let has_data = Memo::new(move |_| list.data.with(Option::is_some));
    let live = move || {
        let live = sessions.with(|all| {
            let live = all.iter().filter(|it| matches!(it.state(), State::Live | State::Draining)).count();
            plural(i32::try_from(live).unwrap_or(i32::MAX), "live session", "live sessions")
        });
        has_data.get().then_some(live)
    };
    view! {
        <div class="page-head">
            <Heading title="Workers" />
            <p class="muted">{live}</p>
        </div>
        <FilterBar path="/workers" filter failure=list.failure with_task=false />
        <Trouble failure=Signal::derive(move || list.trouble_of_list()) has_data />
        <Show when=move || list.is_loading() || !rows.is_empty()>
            <div class="card scroll-x always">
                <table class="table cards" aria-busy=move || list.busy.get().to_string()>
                    <thead>
                        <tr>
                            <th scope="col">"worker_id"</th>
                            <th scope="col">"State"</th>
                            <th scope="col">"Session"</th>
                            <th scope="col">"Running"</th>
                            <th scope="col">"Host"</th>
                            <th scope="col">"Version"</th>
                            <th scope="col">"Tasks"</th>
                            <th scope="col">"Started"</th>
                            <th scope="col">"Last heartbeat"</th>
                        </tr>
                    </thead>
                    <tbody>
                        <Show when=move || list.is_loading()>
                            <Skeleton columns=9 rows=4 />
                        </Show>
                        <For each=move || rows.keys() key=Clone::clone let:id>
                            <Row it=rows.row(id.clone()) id />
                        </For>
                    </tbody>
                </table>
            </div>
        </Show>
        <Show when=move || has_data.get() && rows.is_empty()>
            <Nothing filter />
        </Show>
    }
}

#[component]
fn Row(it: Memo<WorkerSession>, id: String) -> impl IntoView {
    let worker_id = it.with_untracked(|it| it.worker_id.clone());
    let jobs = Filter { worker_id: worker_id.clone(), ..Filter::default() }.url("/jobs");
    let open = opens(format!("/workers/{id}"));
    let look = Memo::new(move |_| it.with(|it| status::session(it.state())));
    let tasks = move || it.with(|it| or_dash(&it.tasks.join(", ")));
    let host =
        move || it.with(|it| format!("{}, pid {}", if it.host.is_empty() { "unknown" } else { &it.host }, it.pid));
    let heartbeat = move || {
        let lease = it.with(|it| it.lease_time.as_ref().map_or(0, duration_ms));
        format!("Its lease of {} is extended by each", span::exact(lease))
    };
    let load = move |between: &str| it.with(|it| format!("{}{between}{}", it.running, it.slots));
    view! {
        <tr class="opens" on:click=open>
            <td data-label="worker_id" class="lead mono cut">
                <A href=jobs attr:title="Its jobs">{worker_id}</A>
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
                        max=move || it.with(|it| it.slots.max(1))
                        value=move || it.with(|it| it.running)
                        aria-label=move || format!("{} slots in use", load(" of "))
                    ></meter>
                    {move || load(" of ")}
                </span>
            </td>
            <td data-label="Host" class="cut" title=host>
                {host}
            </td>
            <td data-label="Version" class="cut">
                {move || it.with(|it| it.version.clone())}
            </td>
            <td data-label="Tasks" class="cut" title=tasks>
                {tasks}
            </td>
            <td data-label="Started">
                <Ago ms=Signal::derive(move || it.with(|it| it.started_at.as_ref().map(timestamp_ms))) />
            </td>
            <td data-label="Last heartbeat" title=heartbeat>
                <Ago ms=Signal::derive(move || it.with(|it| it.last_heartbeat_at.as_ref().map(timestamp_ms))) />
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
        let title = if worker_id.is_empty() { "No workers".to_owned() } else { format!("No worker named {worker_id}") };
        view! {
            <Empty icon="workers" title=title>
                <p>"None was connected within the last day. Start one, here with the built-in demonstration as its handler:"</p>
                <p class="command">
                    <code>{shown}</code>
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
