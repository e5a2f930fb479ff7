//! Page of one session of a worker: its state, its data, and the jobs that it holds, or held when it ended.

use jobqueue_shared::proto::v1::{GetWorkerRequest, GetWorkerResponse};
use leptos::prelude::*;
use leptos_router::{components::A, hooks::use_params_map};

use crate::{
    calls::client,
    components::{
        atoms::{JobLink, Pill},
        detail::Detail,
        icon::Icon,
        job_text::JobText,
        listing::{
            Column::{self, Text},
            List, Listing,
        },
        notice::Empty,
        pause::{PauseSwitch, PausedLine},
        property_list::PropertyList,
        table::opens,
    },
    feeds::{
        counts_feed::CountsFeed,
        live::{Feed, feed},
    },
    model::{
        id,
        session::{HeldRow, SessionPage},
        visible::visible,
    },
};

const COLUMNS: &[Column] = &[Text("Job"), Text("Task"), Text("In this session"), Text("Now")];

#[component]
pub fn WorkerPage() -> impl IntoView {
    let params = use_params_map();
    let id = Memo::new(move |_| params.with(|params| params.get("id")).unwrap_or_default());
    move || view! { <OneWorker id=id.get() /> }
}

#[component]
fn OneWorker(id: String) -> impl IntoView {
    let asked = id.clone();
    let answer: Feed<GetWorkerResponse> =
        feed(move || asked.clone(), |session_id| client::get_worker(GetWorkerRequest { session_id }));
    let known = Memo::new(move |_| answer.data.with(|data| data.as_ref().and_then(SessionPage::of)));
    let session = Memo::new(move |_| known.get().unwrap_or_default());
    view! {
        <Detail
            back=("/workers".to_owned(), "Workers".to_owned())
            id
            copy="Copy session id"
            answer
            there=Memo::new(move |_| known.with(Option::is_some))
            gone=gone_note
        >
            <Summary session />
            <PropertyList properties=Memo::new(move |_| session.with(|session| session.properties.clone())) />
            <Jobs answer session />
        </Detail>
    }
}

fn gone_note() -> impl IntoView {
    view! {
        <Empty icon="question" title="No session has this id">
            <p>"Sessions are kept for a day after they end. " <A href="/workers">"See all workers"</A> "."</p>
        </Empty>
    }
}

/// State and worker_id, an explanation of the state, and whether the worker_id is paused.
#[component]
fn Summary(session: Memo<SessionPage>) -> impl IntoView {
    let (worker_id, jobs) = session.with_untracked(|session| (session.worker_id.clone(), session.jobs()));
    let look = Memo::new(move |_| session.with(|session| session.look));
    let tone = Memo::new(move |_| session.with(|session| session.tone));
    let pause = CountsFeed::get().pause_of(worker_id.clone());
    let paused = Memo::new(move |_| pause.with(Option::is_some));
    let (name, switched) = (worker_id.clone(), worker_id);
    view! {
        <div class="summary">
            <Pill look />
            <span>
                <span class="muted">"worker_id "</span>
                <A href=jobs attr:class="mono" attr:title="Its jobs">
                    <JobText text=name />
                </A>
            </span>
            <span class="push">
                <PauseSwitch worker_id=switched paused />
            </span>
        </div>
        <div class="notice" class:bad=move || tone.get() == "bad" class:warn=move || tone.get() == "warn">
            <Icon name="flag" />
            <p>{move || session.with(|session| session.explanation.clone())}</p>
        </div>
        <Show when=move || paused.get()>
            <div class="notice warn">
                <PausedLine pause />
            </div>
        </Show>
    }
}

#[component]
fn Jobs(answer: Feed<GetWorkerResponse>, session: Memo<SessionPage>) -> impl IntoView {
    let jobs = List::part(answer, HeldRow::all, |job| job.id.clone());
    let title = Memo::new(move |_| session.with(|session| session.jobs_title));
    let none = Memo::new(move |_| session.with(|session| session.no_jobs));
    view! {
        <section class="card">
            <header class="card-head">
                <h2>{title}</h2>
                <span class="muted">{move || session.with(|session| session.tally.clone())}</span>
            </header>
            <Listing
                list=jobs
                columns=COLUMNS
                row=|id, job| view! { <Row id job /> }.into_any()
                empty=move || {
                    move || {
                        view! {
                            <Empty icon="jobs" title=none.get()>
                                <p>"What it has finished is in the list of jobs."</p>
                            </Empty>
                        }
                    }
                }
                grey=4
                frame="scroll-x"
            />
        </section>
    }
}

#[component]
fn Row(id: String, job: Memo<HeldRow>) -> impl IntoView {
    let open = opens(id::job_page(&id));
    let task = move || job.with(|job| visible(&job.task).into_owned());
    view! {
        <tr class="opens" on:click=open.clone() on:auxclick=open>
            <td class="lead">
                <JobLink id />
            </td>
            <td data-label="Task" class="cut" title=task>
                <JobText text=Signal::derive(task) />
            </td>
            <td data-label="In this session">
                <Pill look=Memo::new(move |_| job.with(|job| job.part)) />
                " "
                <span class="muted">{move || job.with(|job| job.why)}</span>
            </td>
            <td data-label="Now" class="state">
                <Pill look=Memo::new(move |_| job.with(|job| job.present)) />
            </td>
        </tr>
    }
}
