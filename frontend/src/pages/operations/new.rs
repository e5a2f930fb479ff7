//! Form of a new operation. It counts the jobs first, shows some of them, and only then offers to start: with a key, so
//! that a press that is repeated, or whose answer is lost, starts nothing twice.

mod fields;

use jobqueue_shared::proto::v1::{OperationDryRun, OperationSpec, StartOperationRequest};
use leptos::{ev::SubmitEvent, prelude::*};
use leptos_router::{
    NavigateOptions,
    hooks::{use_navigate, use_query_map},
};

use self::fields::{Care, What};
use crate::{
    browser::dom,
    calls::{
        client::{self, Failure, Kind as FailureKind},
        in_flight::InFlight,
        operator_actions::OperatorActions,
    },
    components::{
        action::ActionButton,
        atoms::{JobLink, Pill},
        field::{Complaints, control_id},
        heading::Heading,
        icon::Icon,
        job_text::JobText,
        notice::Empty,
    },
    feeds::live::Live,
    model::{
        draft::Complaint,
        job::JobRow,
        number::plural,
        operation::{self, verb},
        operation_draft::{FIELDS, OperationDraft, field_of},
        text::or_dash,
        visible::visible,
    },
};

const KEPT: &str = "operation-draft";
/// Keys of the calls that count the jobs, and that start the operation.
const COUNTING: &str = "count for an operation";
const STARTING: &str = "start of an operation";

/// Draft, with the key of its start: as long as nothing is changed, a repeated start is the same one.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct Kept {
    draft: OperationDraft,
    request_id: String,
}

/// Count of the jobs of a draft.
#[derive(Clone, Debug, PartialEq)]
struct Counted {
    of: OperationDraft,
    number: i32,
    is_floor: bool,
    samples: Vec<JobRow>,
}

impl Counted {
    fn words(&self) -> String {
        let jobs = plural(self.number, "job", "jobs");
        if self.is_floor { format!("more than {jobs}") } else { jobs }
    }
}

#[derive(Clone, Copy)]
struct Form {
    draft: RwSignal<OperationDraft>,
    request_id: StoredValue<String>,
    complaints: RwSignal<Vec<Complaint>>,
    counted: RwSignal<Option<Counted>>,
    /// Why the last call did nothing; "" = it did what it should.
    failure: RwSignal<String>,
}

impl Form {
    /// The form as it was left in this tab, or for the jobs that the address names.
    fn new() -> Self {
        let query = use_query_map();
        let named = query.with_untracked(|query| query.get("filter").or_else(|| query.get("kind")).is_some());
        let Kept { mut draft, mut request_id } = dom::kept::<Kept>(KEPT).unwrap_or_default();
        if named {
            let text = |name: &str| query.with_untracked(|query| query.get(name)).unwrap_or_default();
            let asked = OperationDraft { kind: text("kind"), filter: text("filter"), ..OperationDraft::default() };
            if (asked.kind(), &asked.filter) != (draft.kind(), &draft.filter) {
                draft = asked;
                request_id = String::new();
            }
        }
        if request_id.is_empty() {
            request_id = uuid::Uuid::new_v4().to_string();
        }
        let form = Self {
            draft: RwSignal::new(draft),
            request_id: StoredValue::new(request_id),
            complaints: RwSignal::new(vec![]),
            counted: RwSignal::new(None),
            failure: RwSignal::new(String::new()),
        };
        // The draft is kept in the session storage of the tab, so that a reload loses nothing. Another draft is another
        // operation.
        Effect::new(move |before: Option<OperationDraft>| {
            let draft = form.draft.get();
            if before.is_some_and(|before| before != draft) {
                form.request_id.set_value(uuid::Uuid::new_v4().to_string());
            }
            dom::keep(KEPT, &Kept { draft: draft.clone(), request_id: form.request_id.get_value() });
            draft
        });
        form
    }

    /// The spec of a draft; complains about what cannot be sent.
    fn spec(self, draft: &OperationDraft) -> Option<OperationSpec> {
        match draft.spec(dom::now(), dom::parse_local) {
            Ok(spec) => {
                self.complaints.set(vec![]);
                Some(spec)
            }
            Err(fields) => {
                let message = "Some fields cannot be sent as they are".into();
                self.refuse(Failure { kind: FailureKind::Refused, message, fields, job_id: None });
                None
            }
        }
    }

    /// Shows a failure, and leads to the first field that it is about.
    fn refuse(self, failure: Failure) {
        let fields: Vec<_> =
            failure.fields.into_iter().map(|(name, text)| (field_of(&name).to_owned(), text)).collect();
        let first = FIELDS.iter().find(|name| fields.iter().any(|(it, _)| it == *name));
        let focused = first.map_or_else(|| "operation-failure".to_owned(), |name| control_id(name));
        self.complaints.set(fields);
        // The fields say what is wrong with them.
        let message = if first.is_some() { "See the marked fields".into() } else { failure.message };
        self.failure.set(message);
        dom::focus(&focused);
    }

    fn count(self, in_flight: InFlight) {
        let draft = self.draft.get_untracked();
        let Some(spec) = self.spec(&draft.to_count()) else { return };
        self.failure.set(String::new());
        in_flight.run(vec![COUNTING.to_owned()], async move {
            let request = StartOperationRequest { spec: Some(spec), dry_run: true, request_id: String::new() };
            let answer = client::start_operation(request).await;
            // The page may be gone, or its form may be about other jobs by now.
            let now = self.draft.try_get_untracked().map(|draft| draft.question());
            if now != Some(draft.question()) {
                return;
            }
            match answer {
                Ok(answer) => {
                    self.counted.set(Some(counted(draft, &answer.dry_run.unwrap_or_default())));
                    dom::focus("operation-count");
                }
                Err(failure) => self.refuse(failure),
            }
        });
    }
}

fn counted(of: OperationDraft, it: &OperationDryRun) -> Counted {
    Counted { of, number: it.count, is_floor: it.is_floor, samples: JobRow::all(&it.samples) }
}

#[component]
pub fn NewOperation() -> impl IntoView {
    let form = Form::new();
    provide_context(Complaints(form.complaints));
    let actions = OperatorActions::get();
    let counting = actions.in_flight.busy(COUNTING.to_owned());
    // A count is about the jobs that it has counted, and no others.
    let counted = Memo::new(move |_| {
        let question = form.draft.with(OperationDraft::question);
        form.counted.get().filter(|counted| counted.of.question() == question)
    });
    let has_jobs = Memo::new(move |_| counted.with(|counted| counted.as_ref().is_some_and(|it| it.number > 0)));
    let start = Callback::new({
        let navigate = use_navigate();
        move |()| {
            let Some(spec) = form.spec(&form.draft.get_untracked()) else { return };
            let request =
                StartOperationRequest { spec: Some(spec), dry_run: false, request_id: form.request_id.get_value() };
            let navigate = navigate.clone();
            actions.in_flight.run(vec![STARTING.to_owned()], async move {
                let answer = client::start_operation(request).await;
                let is_here = form.draft.try_get_untracked().is_some();
                match answer.map(|answer| answer.operation.unwrap_or_default()) {
                    Ok(operation) if is_here => {
                        dom::keep(KEPT, &Kept::default());
                        navigate(&operation::page(&operation.id), NavigateOptions::default());
                    }
                    Ok(_) => actions.toasts.good("The operation has started"),
                    Err(failure) if is_here => form.refuse(failure),
                    Err(failure) => actions.toasts.bad(format!("The operation has not started: {}", failure.message)),
                }
            });
        }
    });
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        form.count(actions.in_flight);
    };
    view! {
        <div class="page-head">
            <Heading title="New operation" />
        </div>
        <form class="submit" novalidate="" on:submit=submit>
            <div class="card card-body form">
                <What form=form.draft />
                <div class="form-actions">
                    <button
                        type="submit"
                        class="button primary"
                        aria-busy=move || counting.get().to_string()
                        aria-disabled=move || counting.get().then_some("true")
                    >
                        <Icon name="search" />
                        {move || if counting.get() { "Counting…" } else { "Count the jobs" }}
                    </button>
                </div>
            </div>
            <div id="operation-count" tabindex="-1" role="status" aria-live="polite">
                {move || counted.with(|counted| counted.as_ref().map(found))}
            </div>
            <Show when=move || has_jobs.get()>
                <Start form counted start />
            </Show>
            <div id="operation-failure" tabindex="-1" role="alert">
                {move || {
                    let message = form.failure.get();
                    (!message.is_empty())
                        .then(|| {
                            view! {
                                <div class="notice bad">
                                    <Icon name="warning" />
                                    <p>{message}"."</p>
                                </div>
                            }
                        })
                }}
            </div>
        </form>
    }
}

/// Result of the count.
fn found(counted: &Counted) -> AnyView {
    if counted.number == 0 {
        return view! {
            <Empty icon="jobs" title="No job matches">
                <p>"Nothing would be changed. Another filter may find what you mean."</p>
            </Empty>
        }
        .into_any();
    }
    view! {
        <section class="card">
            <header class="card-head">
                <h2>{format!("{} match", capital(&counted.words()))}</h2>
                <span class="muted">"some of them:"</span>
            </header>
            <ul class="op-samples">
                {counted.samples.iter().cloned().map(|job| view! { <Sample job /> }).collect_view()}
            </ul>
        </section>
    }
    .into_any()
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[component]
fn Sample(job: JobRow) -> impl IntoView {
    let status = job.status;
    let live = Live::get();
    let (task, worker_id) = (or_dash(&visible(&job.task)), visible(&job.worker_id).into_owned());
    view! {
        <li>
            <Pill look=Memo::new(move |_| status.look(live.now.get())) />
            <JobText text=task />
            <span class="mono"><JobText text=worker_id /></span>
            <JobLink id=job.id />
        </li>
    }
}

/// Second half of the form: why, how carefully, and the button that starts it. It names what will happen to how many.
#[component]
fn Start(form: Form, counted: Memo<Option<Counted>>, start: Callback<()>) -> impl IntoView {
    let busy = InFlight::get().busy(STARTING.to_owned());
    let kind = Memo::new(move |_| form.draft.with(OperationDraft::kind));
    let word = Signal::derive(move || {
        let jobs = counted.with(|counted| counted.as_ref().map_or_else(|| "jobs".to_owned(), Counted::words));
        match kind.get() {
            it @ jobqueue_shared::proto::v1::operation_spec::Kind::SetPriority => format!("{} of {jobs}", verb(it)),
            it => format!("{} {jobs}", verb(it)),
        }
    });
    let class = Memo::new(move |_| if operation::destroys(kind.get()) { "button danger" } else { "button primary" });
    view! {
        <div class="card card-body form">
            <Care form=form.draft />
            <div class="form-actions">
                {move || {
                    view! {
                        <ActionButton
                            class=class.get()
                            icon="operations"
                            word
                            busy_word="Starting…"
                            busy
                            press=move || start.run(())
                        />
                    }
                }}
            </div>
        </div>
    }
}
