//! Page of one queue: the jobs and the sessions of one worker_id.

use leptos::prelude::*;
use leptos_router::{components::A, hooks::use_params_map};

use crate::{
    browser::dom,
    calls::client,
    components::{
        atoms::CopyButton,
        chart::{Throughput, throughput_of},
        heading::Heading,
        job_text::JobText,
        letters::NewestDeadLetters,
        listing::List,
        notice::{Empty, Trouble},
        pause::{PauseSwitch, PausedLine},
        queues::attention::QueueConcerns,
        queues::session_table::SessionTable,
        tiles::Tiles,
    },
    feeds::{counts_feed::CountsFeed, live::feed},
    model::{
        filter::Filter,
        queues::queue::of_segment,
        session::{self, SessionRow},
        shell_quote,
        throughput::{Minute, Span},
    },
};

/// Maximum number of sessions on the page; all are on the page of the workers.
const SESSIONS: usize = 50;

#[component]
pub fn QueuePage() -> impl IntoView {
    let params = use_params_map();
    let id = Memo::new(move |_| params.with(|params| params.get("id")).unwrap_or_default());
    move || view! { <OneQueue worker_id=of_segment(&id.get()) /> }
}

#[component]
fn OneQueue(worker_id: String) -> impl IntoView {
    let feed = CountsFeed::get();
    let counts = feed.of_worker_id(worker_id.clone());
    let has_counts = Memo::new(move |_| feed.0.data.with(Option::is_some));
    let unknown = Memo::new(move |_| has_counts.get() && counts.with(Option::is_none));
    let pause = feed.pause_of(worker_id.clone());
    let paused = Memo::new(move |_| pause.with(Option::is_some));
    let span = RwSignal::new(Span::Hour);
    let throughput = throughput_of(worker_id.clone(), span);
    let minutes = Memo::new(move |_| throughput.data.with(|data| data.as_ref().map(Minute::all)).unwrap_or_default());
    let (copied, switched, concerned) = (worker_id.clone(), worker_id.clone(), worker_id.clone());
    let (counted, held) = (worker_id.clone(), worker_id.clone());
    view! {
        <p class="crumb">
            <A href="/queues">"Queues"</A>
        </p>
        <div class="page-head">
            <Heading title=worker_id.clone() />
            <CopyButton text=Callback::new(move |()| copied.clone()) label="Copy worker_id" />
            <div class="actions">
                <A href=Filter::of_worker_id(&worker_id).url("/jobs") attr:class="button">"Its jobs"</A>
                <PauseSwitch worker_id=switched paused />
            </div>
        </div>
        <Trouble failure=feed.0.failure has_data=has_counts />
        <Show when=move || unknown.get()>
            <p class="notice">"This worker_id has no jobs and no worker. It appears in lists with its first one."</p>
        </Show>
        <Show when=move || paused.get()>
            <div class="notice warn">
                <PausedLine pause />
            </div>
        </Show>
        <QueueConcerns worker_id=concerned />
        <Tiles worker_id=counted counts minutes span />
        <Trouble failure=throughput.failure has_data=Signal::stored(true) />
        <Throughput minutes span />
        <Sessions worker_id=held />
        <NewestDeadLetters worker_id />
    }
}

/// Sessions of the worker_id, those of one host together.
#[component]
fn Sessions(worker_id: String) -> impl IntoView {
    let asked = worker_id.clone();
    let answer = feed(move || asked.clone(), client::all_workers);
    let live = Memo::new(move |_| answer.data.with(|data| data.as_ref().map(session::live)));
    let list = List::of(answer, |list| SessionRow::by_host(list, SESSIONS), |it| it.id.clone());
    let all = Filter::of_worker_id(&worker_id).url("/workers");
    let command = shell_quote::start_worker(&worker_id, &dom::origin());
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"Workers"</h2>
                <span class="muted">{live}</span>
                <div class="card-actions">
                    <A href=all>"All sessions"</A>
                </div>
            </header>
            <SessionTable
                list
                empty=move || {
                    let (shown, copied) = (command.clone(), command.clone());
                    view! {
                        <Empty icon="workers" title="No worker was connected within the last day">
                            <p>"Start one, here with the built-in demonstration as its handler:"</p>
                            <p class="command">
                                <code>
                                    <JobText text=shown />
                                </code>
                                <CopyButton text=Callback::new(move |()| copied.clone()) label="Copy command" />
                            </p>
                        </Empty>
                    }
                }
                frame="scroll-x wide"
                of_one=true
            />
        </section>
    }
}
