//! Page of one session of a worker: its state, its data, and the jobs that it holds, or held when it ended.

use jobqueue_shared::{
    proto::v1::{GetWorkerRequest, GetWorkerResponse, HeldJob, WorkerSession, worker_session::State},
    time::duration_ms,
};
use leptos::prelude::*;
use leptos_router::{components::A, hooks::use_params_map};

use crate::{
    api,
    components::{
        atoms::{CopyButton, JobLink, Pill, or_dash},
        facts::{self, Rows, text, time},
        heading::Heading,
        icon::Icon,
        notice::{Empty, Trouble},
        pause::{PauseSwitch, PausedLine, pause_of},
        table::opens,
    },
    live::{Feed, feed},
    model::{filter::Filter, session, span, status},
    rows::rows,
};

/// Maximum number of jobs that the server lists for a session.
const MOST: usize = 500;

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
        feed(move || asked.clone(), |session_id| api::get_worker(GetWorkerRequest { session_id }));
    let session = Memo::new(move |_| answer.data.with(|data| data.as_ref().and_then(|data| data.session.clone())));
    let jobs = Memo::new(move |_| answer.data.get().map(|data| data.jobs).unwrap_or_default());
    let (gone, trouble) = (Memo::new(move |_| answer.is_gone()), Signal::derive(move || answer.trouble()));
    let there = Memo::new(move |_| session.with(Option::is_some));
    let shown = Signal::derive(move || session.get().unwrap_or_default());
    let copied = id.clone();
    view! {
        <p class="crumb">
            <A href="/workers">"Workers"</A>
        </p>
        <div class="page-head">
            <Heading title=id mono=true />
            <CopyButton text=Callback::new(move |()| copied.clone()) label="Copy session id" />
        </div>
        <Show when=move || gone.get()>
            <Empty icon="question" title="No session has this id">
                <p>"Sessions are kept for a day after they end. " <A href="/workers">"See all workers"</A> "."</p>
            </Empty>
        </Show>
        <Trouble failure=trouble has_data=there />
        <Show when=move || answer.is_loading()>
            <div class="card">
                <div class="card-body"><span class="bone tall"></span></div>
            </div>
        </Show>
        <Show when=move || there.get()>
            <Summary session=shown />
            <Facts session=shown />
            <Jobs session=shown jobs />
        </Show>
    }
}

/// State and worker_id, an explanation of the state, and whether the worker_id is paused.
#[component]
fn Summary(session: Signal<WorkerSession>) -> impl IntoView {
    let state = Memo::new(move |_| session.with(WorkerSession::state));
    let worker_id = session.with_untracked(|session| session.worker_id.clone());
    let pause = pause_of(worker_id.clone());
    let paused = Memo::new(move |_| pause.with(Option::is_some));
    let jobs = Filter { worker_id: worker_id.clone(), ..Filter::default() }.url("/jobs");
    let (name, switched) = (worker_id.clone(), worker_id);
    view! {
        <div class="summary">
            <Pill look=Signal::derive(move || status::session(state.get())) />
            <span>
                <span class="muted">"worker_id "</span>
                <A href=jobs attr:class="mono" attr:title="Its jobs">
                    {name}
                </A>
            </span>
            <span class="push">
                <PauseSwitch worker_id=switched paused />
            </span>
        </div>
        <div
            class="notice"
            class:bad=move || state.get() == State::Lost
            class:warn=move || state.get() == State::Expired
        >
            <Icon name="flag" />
            <p>{move || session.with(session::explain)}</p>
        </div>
        <Show when=move || paused.get()>
            <div class="notice warn">
                <PausedLine pause />
            </div>
        </Show>
    }
}

#[component]
fn Facts(session: Signal<WorkerSession>) -> impl IntoView {
    let slots = move || {
        session.with(|session| {
            if session::is_over(session.state()) {
                session.slots.to_string()
            } else {
                format!("{} of {} in use", session.running.min(session.slots), session.slots)
            }
        })
    };
    let process = |session: &WorkerSession| match session.pid {
        0 => String::new(),
        pid => format!("pid {pid}"),
    };
    let lease = |session: &WorkerSession| span::exact(session.lease_time.as_ref().map_or(0, duration_ms));
    let lease_end = Signal::derive(move || session.with(session::lease_end));
    let facts = vec![
        ("Host".into(), text(move || session.with(|it| it.host.clone()))),
        ("Process".into(), text(move || session.with(process))),
        ("Version".into(), text(move || session.with(|it| it.version.clone()))),
        ("Tasks".into(), text(move || session.with(|it| it.tasks.join(", ")))),
        ("Slots".into(), text(slots)),
        ("Lease".into(), text(move || session.with(lease))),
        ("Started".into(), time(move || session.with(|it| it.started_at))),
        ("Last heartbeat".into(), time(move || session.with(|it| it.last_heartbeat_at))),
        (lease_end, time(move || session.with(|it| it.expires_at))),
        ("Ended".into(), time(move || session.with(|it| it.ended_at))),
    ];
    facts::card(Rows::Five, facts)
}

#[component]
fn Jobs(session: Signal<WorkerSession>, jobs: Memo<Vec<HeldJob>>) -> impl IntoView {
    let state = Memo::new(move |_| session.with(WorkerSession::state));
    let rows = rows(move || jobs.get(), |job| job.job_id.clone());
    let tally = move || {
        jobs.with(|jobs| match jobs.len() {
            0 => String::new(),
            MOST => format!("The first {MOST}: {}", session::tally(jobs)),
            _ => session::tally(jobs),
        })
    };
    view! {
        <section class="card">
            <header class="card-head">
                <h2>{move || session::jobs_title(state.get())}</h2>
                <span class="muted">{tally}</span>
            </header>
            <Show
                when=move || !jobs.with(Vec::is_empty)
                fallback=move || {
                    view! {
                        <Empty icon="jobs" title=if session::is_over(state.get()) { "It held no job" } else { "It holds no job" }>
                            <p>"What it has finished is in the list of jobs."</p>
                        </Empty>
                    }
                }
            >
                <div class="scroll-x">
                    <table class="table cards">
                        <thead>
                            <tr>
                                <th scope="col">"Job"</th>
                                <th scope="col">"Task"</th>
                                <th scope="col">"In this session"</th>
                                <th scope="col">"Now"</th>
                            </tr>
                        </thead>
                        <tbody>
                            <For each=move || rows.keys() key=Clone::clone let:id>
                                <Row job=rows.row(id.clone()) id state />
                            </For>
                        </tbody>
                    </table>
                </div>
            </Show>
        </section>
    }
}

#[component]
fn Row(job: Memo<HeldJob>, id: String, state: Memo<State>) -> impl IntoView {
    let open = opens(format!("/jobs/{id}"));
    let part = Memo::new(move |_| job.with(|job| session::part(job, state.get())));
    let present = Memo::new(move |_| job.with(session::present));
    let task = move || job.with(|job| or_dash(&job.task));
    view! {
        <tr class="opens" on:click=open>
            <td class="lead">
                <JobLink id />
            </td>
            <td data-label="Task" class="cut" title=task>
                {task}
            </td>
            <td data-label="In this session">
                <Pill look=Signal::derive(move || part.get().0) />
                " "
                <span class="muted">{move || part.get().1}</span>
            </td>
            <td data-label="Now" class="state">
                <Pill look=present />
            </td>
        </tr>
    }
}
