//! The sessions of the workers: the live ones, and those that ended within the last day.

use jobqueue_shared::{
    proto::v1::{ListWorkersRequest, WorkerSession, worker_session::State},
    time::{duration_ms, timestamp_ms},
};
use leptos::prelude::*;
use leptos_router::components::A;
use prost::Message as _;

use super::filters::{FilterBar, from_url};
use crate::{
    api,
    components::{
        heading::Heading,
        notice::{Empty, Trouble},
        small::{Ago, CopyButton, Pill, SessionLink},
        table::{Skeleton, opens},
    },
    dom,
    live::feed,
    model::{filter::Filter, number::plural, span, status},
};

#[component]
pub fn Workers() -> impl IntoView {
    let filter = from_url();
    let list = feed(
        move || filter.get().worker_id,
        |worker_id| api::list_workers(ListWorkersRequest { worker_id, ..ListWorkersRequest::default() }),
    );
    let sessions = Memo::new(move |_| list.data.get().map(|data| data.sessions).unwrap_or_default());
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
        <FilterBar path="/workers" filter with_task=false />
        <Trouble failure=list.failure has_data />
        <Show when=move || list.is_loading() || !sessions.with(Vec::is_empty)>
            <div class="card scroll-x always" class:busy=move || list.busy.get()>
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
                        <For each=move || sessions.get() key=|it| it.encode_to_vec() let:it>
                            <Row it />
                        </For>
                    </tbody>
                </table>
            </div>
        </Show>
        <Show when=move || has_data.get() && sessions.with(Vec::is_empty)>
            <Nothing filter />
        </Show>
    }
}

#[component]
fn Row(it: WorkerSession) -> impl IntoView {
    let jobs = Filter { worker_id: it.worker_id.clone(), ..Filter::default() }.url("/jobs");
    let open = opens(format!("/workers/{}", it.session_id));
    let (name, state) = (it.worker_id.clone(), status::session(it.state()));
    let tasks = if it.tasks.is_empty() { "–".to_owned() } else { it.tasks.join(", ") };
    let host = format!("{}, pid {}", if it.host.is_empty() { "unknown" } else { &it.host }, it.pid);
    let lease = it.lease_time.as_ref().map_or(0, duration_ms);
    let heartbeat = format!("Its lease of {} is extended by each", span::exact(lease));
    view! {
        <tr class="opens" on:click=open>
            <td data-label="worker_id" class="lead mono cut">
                <A href=jobs attr:title="Its jobs">{name}</A>
            </td>
            <td data-label="State" class="state">
                <Pill look=state />
            </td>
            <td data-label="Session">
                <SessionLink id=it.session_id.clone() />
            </td>
            <td data-label="Running">
                <span class="load">
                    <meter
                        min="0"
                        max=it.slots.max(1)
                        value=it.running
                        aria-label=format!("{} of {} slots in use", it.running, it.slots)
                    ></meter>
                    {format!("{} of {}", it.running, it.slots)}
                </span>
            </td>
            <td data-label="Host" class="cut" title=host.clone()>
                {host.clone()}
            </td>
            <td data-label="Version" class="cut">
                {it.version.clone()}
            </td>
            <td data-label="Tasks" class="cut" title=tasks.clone()>
                {tasks.clone()}
            </td>
            <td data-label="Started">
                <Ago ms=it.started_at.as_ref().map(timestamp_ms) />
            </td>
            <td data-label="Last heartbeat" title=heartbeat>
                <Ago ms=it.last_heartbeat_at.as_ref().map(timestamp_ms) />
            </td>
        </tr>
    }
}

#[component]
fn Nothing(filter: Memo<Filter>) -> impl IntoView {
    let worker_id = filter.get_untracked().worker_id;
    let name = if worker_id.is_empty() { "worker-1a".to_owned() } else { worker_id.clone() };
    let command = format!("jobqueue-worker --worker-id {name} --server {}", dom::origin());
    let shown = command.clone();
    let title = if worker_id.is_empty() { "No workers".to_owned() } else { format!("No worker named {worker_id}") };
    view! {
        <Empty icon="workers" title=title>
            <p>"None was connected within the last day. Start one:"</p>
            <p class="command">
                <code>{shown}</code>
                <CopyButton text=Callback::new(move |()| command.clone()) label="Copy command" />
            </p>
        </Empty>
    }
}
