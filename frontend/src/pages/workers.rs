//! Workers page: the live sessions, and those that ended within the last day.

use leptos::prelude::*;
use leptos_router::components::A;

use super::filters::{FilterBar, from_url};
use crate::{
    browser::dom,
    calls::client,
    components::{
        atoms::CopyButton, heading::Heading, job_text::JobText, listing::List, notice::Empty,
        queues::session_table::SessionTable,
    },
    feeds::live::feed,
    model::{
        filter::Filter,
        session::{self, SessionRow},
        shell_quote,
        visible::isolated,
    },
};

#[component]
pub fn Workers() -> impl IntoView {
    let filter = from_url();
    let answer = feed(move || filter.get().worker_id, client::all_workers);
    let sessions = List::of(answer, SessionRow::all, |it| it.id.clone());
    let live = Memo::new(move |_| answer.data.with(|data| data.as_ref().map(session::live)));
    view! {
        <p class="crumb">
            <A href="/queues">"Queues"</A>
        </p>
        <div class="page-head">
            <Heading title="Workers" />
            <p class="muted">{live}</p>
        </div>
        <FilterBar path="/workers" filter failure=answer.failure with_task=false />
        <SessionTable list=sessions empty=move || view! { <NoWorkers filter /> } frame="card scroll-x wide" />
    }
}

/// Notice for an empty list, with a command that starts a worker of the worker_id in the filter.
#[component]
fn NoWorkers(filter: Memo<Filter>) -> impl IntoView {
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
