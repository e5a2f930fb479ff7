//! Page of one job: its status, its data, its timeline, and the actions on it.

mod actions;
mod copy;
mod explain;
pub mod feeds;

use jobqueue_shared::proto::v1::{GetJobResponse, GetTimelineResponse, job::Status};
use leptos::prelude::*;
use leptos_router::{components::A, hooks::use_params_map};

use self::{
    actions::Actions,
    copy::{editor::CopyEditor, lineage::Lineage},
    explain::Why,
    feeds::{JobFeeds, job_feeds},
};
use crate::{
    browser::trail::Trails,
    components::{
        alike::Alike,
        atoms::{Ago, Pill},
        detail::Detail,
        heading::Name,
        icon::Icon,
        job_text::JobText,
        json_panel::JsonPanel,
        life_bar::LifeBar,
        notice::{Empty, Trouble},
        property_list::PropertyList,
        timeline::Timeline,
    },
    feeds::live::{Feed, Live},
    model::{
        id,
        job::{self, Letter, Progress},
        life::Life,
        lineage, timeline,
    },
};

#[component]
pub fn JobPage() -> impl IntoView {
    let params = use_params_map();
    let id = Memo::new(move |_| params.with(|params| params.get("id")).unwrap_or_default());
    // Another id makes another page, on which nothing of the last job stays.
    move || view! { <OneJob id=id.get() /> }
}

#[component]
fn OneJob(id: String) -> impl IntoView {
    let JobFeeds { job: answer, timeline } = job_feeds(id.clone());
    let known = Memo::new(move |_| {
        answer.data.with(|data| data.as_ref().and_then(|data| data.job.as_ref()).map(job::JobPage::of))
    });
    let job = Memo::new(move |_| known.get().unwrap_or_default());
    let there = Memo::new(move |_| known.with(Option::is_some));
    let waits = Memo::new(move |_| job.with(|job| job.waits) && !answer.is_gone());
    let payload = Memo::new(move |_| job.with(|job| job.payload.clone()));
    let result = Memo::new(move |_| job.with(|job| job.result.clone()));
    let lineage =
        Memo::new(move |_| answer.data.with(|data| data.as_ref().map(lineage::Lineage::of)).unwrap_or_default());
    let name = Name {
        task: Memo::new(move |_| job.with(|job| job.task.clone())),
        worker_id: Memo::new(move |_| job.with(|job| job.worker_id.clone())),
    };
    let edited = RwSignal::new(None);
    let trails = Trails::get();
    let (listed, followed) = (id.clone(), id.clone());
    let back = Signal::derive(move || trails.list(&listed).unwrap_or_else(|| ("/jobs".into(), "Jobs".into())));
    let acted = id.clone();
    let (payload_file, result_file) = (format!("{id}-payload.json"), format!("{id}-result.json"));
    view! {
        <Detail
            back
            beside=move || view! { <Neighbours id=followed.clone() /> }
            name=Some(name)
            id
            copy="Copy id"
            answer
            there
            gone=move || gone_note(there.get())
            actions=move || {
                let allowed = Memo::new(move |_| job.with(|job| job.actions));
                view! { <Actions id=acted.clone() allowed answer edited /> }
            }
        >
            <Summary job />
            <Lineage lineage />
            <Show when=move || waits.get()>
                <Why job />
            </Show>
            <LifeOf answer timeline />
            <PropertyList properties=Memo::new(move |_| job.with(|job| job.properties.clone())) />
            <div class="columns even">
                <JsonPanel title="Payload" text=payload file=payload_file.clone() empty="The payload is empty." />
                <JsonPanel title="Result" text=result file=result_file.clone() empty="The job has returned nothing." />
            </div>
            <History timeline />
        </Detail>
        <CopyEditor job=edited />
    }
}

/// Life of the job, which goes on with the clock until it has finished.
#[component]
fn LifeOf(answer: Feed<GetJobResponse>, timeline: Feed<GetTimelineResponse>) -> impl IntoView {
    let live = Live::get();
    let goes_on = Memo::new(move |_| {
        let status = answer.data.with(|data| Some(data.as_ref()?.job.as_ref()?.status()));
        matches!(status, Some(Status::Pending | Status::Running))
    });
    let now = Memo::new(move |_| if goes_on.get() { live.now.get() } else { 0 });
    let life = Memo::new(move |_| {
        answer.data.with(|answer| {
            timeline.data.with(|timeline| {
                let (job, timeline) = (answer.as_ref()?.job.as_ref()?, timeline.as_ref()?);
                Some(Life::of(job, &timeline.events, now.get()))
            })
        })
    });
    let drawn = Memo::new(move |_| life.get().unwrap_or_default());
    view! {
        <Show when=move || life.with(Option::is_some)>
            <LifeBar life=drawn />
        </Show>
    }
}

/// Links to the jobs before and after this one in the list that the person came from.
#[component]
fn Neighbours(id: String) -> impl IntoView {
    let trails = Trails::get();
    let place = Memo::new(move |_| trails.place(&id));
    let link = |id: Option<String>, word: &'static str, rel: &'static str| {
        id.map(|id| view! { <A href=id::job_page(&id) attr:rel=rel>{word}</A> })
    };
    move || {
        place.get().map(|place| {
            view! {
                <span class="neighbours">
                    {link(place.previous, "Previous", "prev")}
                    <span class="muted">{format!("{} of {} in the list", place.number, place.of)}</span>
                    {link(place.next, "Next", "next")}
                </span>
            }
        })
    }
}

#[component]
fn History(timeline: Feed<GetTimelineResponse>) -> impl IntoView {
    let lines = Memo::new(move |_| {
        timeline.data.with(|data| data.as_ref().map(|data| timeline::lines(&data.events))).unwrap_or_default()
    });
    let has_data = Memo::new(move |_| timeline.data.with(Option::is_some));
    // The page shows already that the job is gone.
    let trouble = Signal::derive(move || timeline.trouble());
    view! {
        <section class="card">
            <header class="card-head">
                <h2>"Timeline"</h2>
            </header>
            <Trouble failure=trouble has_data />
            <Show when=move || timeline.is_loading()>
                <div class="card-body"><span class="bone tall"></span></div>
            </Show>
            <Timeline lines />
        </section>
    }
}

fn gone_note(was_there: bool) -> impl IntoView {
    let title = if was_there { "This job has been deleted" } else { "No job has this id" };
    let text = if was_there {
        "What is shown below was known before."
    } else {
        "It may have been deleted, or be older than the time that finished jobs are kept."
    };
    view! {
        <Empty icon="question" title=title>
            <p>{text} " " <A href="/jobs">"See all jobs"</A> "."</p>
        </Empty>
    }
}

/// Status, task and worker_id, and the notices that a person should see first.
#[component]
fn Summary(job: Memo<job::JobPage>) -> impl IntoView {
    let live = Live::get();
    let look = Memo::new(move |_| job.with(|job| job.status).look(live.now.get()));
    let letter = Memo::new(move |_| job.with(|job| job.letter.clone()));
    let note = Memo::new(move |_| job.with(|job| job.note.clone()));
    let progress = Memo::new(move |_| job.with(|job| job.progress.clone()));
    // Task and worker_id never change: as memos they keep a refresh from building these links again.
    let task = Memo::new(move |_| job.with(|job| job.task.clone()));
    let worker_id = Memo::new(move |_| job.with(|job| job.worker_id.clone()));
    let of_task = Memo::new(move |_| job.with(job::JobPage::same_task));
    let of_worker_id = Memo::new(move |_| job.with(job::JobPage::same_worker_id));
    view! {
        <div class="summary">
            <Pill look />
            <Show when=move || !task.with(String::is_empty)>
                <span>
                    <span class="muted">"task "</span>
                    <A href=move || of_task.get()><JobText text=task /></A>
                </span>
            </Show>
            <span>
                <span class="muted">"worker_id "</span>
                <A href=move || of_worker_id.get() attr:class="mono">
                    <JobText text=worker_id />
                </A>
            </span>
        </div>
        {move || letter.get().map(letter_notice)}
        {move || Some(note.get()).filter(|note| !note.is_empty()).map(note_notice)}
        <Show when=move || progress.with(Option::is_some)>
            <ProgressLine progress />
        </Show>
    }
}

fn letter_notice(Letter { reason, error, group }: Letter) -> impl IntoView {
    view! {
        <div class="notice bad">
            <Icon name="cross" />
            <div>
                <p>
                    <strong>"Dead letter: "{reason}"."</strong>
                    " It runs again only when a person retries it."
                </p>
                {(!error.is_empty())
                    .then(|| view! { <pre class="inline-error" tabindex="0" aria-label="Last error"><JobText text=error /></pre> })}
                {(!group.is_empty()).then(|| view! { <Alike group /> })}
            </div>
        </div>
    }
}

fn note_notice(note: String) -> impl IntoView {
    view! {
        <div class="notice">
            <Icon name="flag" />
            <p><JobText text=note /></p>
        </div>
    }
}

#[component]
fn ProgressLine(progress: Memo<Option<Progress>>) -> impl IntoView {
    let percent = Memo::new(move |_| progress.with(|it| it.as_ref().map_or(0.0, |it| it.percent)));
    let message =
        Signal::derive(move || progress.with(|it| it.as_ref().map(|it| it.message.clone())).unwrap_or_default());
    let at = move || progress.with(|it| it.as_ref()?.at);
    view! {
        <div class="progress">
            <progress max="100" value=move || percent.get() aria-label="Progress"></progress>
            <span>{move || percent.get()}" %"</span>
            <span class="muted"><JobText text=message /></span>
            <Ago ms=Signal::derive(at) full=true />
        </div>
    }
}
