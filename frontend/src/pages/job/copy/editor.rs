//! Editor of a copy: a dialog with the job's payload and options, that shows what changes before anything is sent.

use jobqueue_shared::proto::v1::{Job, JobChanges};
use leptos::{ev::SubmitEvent, html, prelude::*};
use leptos_router::{
    NavigateOptions,
    components::A,
    hooks::{use_location, use_navigate},
};
use wasm_bindgen::JsCast as _;
use web_sys::HtmlTextAreaElement;

use super::copy;
use crate::{
    browser::dom,
    calls::{
        client::{Failure, Kind},
        in_flight::job_key,
        operator_actions::OperatorActions,
    },
    components::{
        field::{Complaints, Field, TextField, control_id, described_by},
        icon::Icon,
        job_text::JobText,
    },
    model::{
        copy::{
            diff::Line,
            edit::{Difference, Edit, FIELDS},
        },
        draft::Complaint,
        id, json,
        number::{length, plural},
        text::or_dash,
    },
};

const PAYLOAD: &str = "changes.payload_json";

/// Dialog for the copy of a job; open while `job` is set.
#[component]
pub fn CopyEditor(job: RwSignal<Option<Job>>) -> impl IntoView {
    let dialog = NodeRef::<html::Dialog>::new();
    Effect::new(move |_| {
        let Some(dialog) = dialog.get() else { return };
        if job.with(Option::is_some) && !dialog.open() {
            let _ = dialog.show_modal();
        }
    });
    let close = move || dialog.get_untracked().into_iter().for_each(|dialog| dialog.close());
    // Navigation closes the dialog, which is about the previous page.
    let at = use_location();
    Effect::new(move |before: Option<()>| {
        at.pathname.with(|_| ());
        if before.is_some() {
            close();
        }
    });
    view! {
        <dialog class="dialog wide" node_ref=dialog aria-labelledby="copy-title" on:close=move |_| job.set(None)>
            {move || job.get().map(|job| view! { <Form job close=Callback::new(move |()| close()) /> })}
        </dialog>
    }
}

#[component]
fn Form(job: Job, close: Callback<()>) -> impl IntoView {
    let actions = OperatorActions::get();
    let navigate = use_navigate();
    let original = StoredValue::new(Edit::of(&job));
    let edit = RwSignal::new(original.get_value());
    let complaints = RwSignal::new(Vec::<Complaint>::new());
    let failure = RwSignal::new(None::<Failure>);
    // Changes that were sent last, and their key: the same changes sent again make no second copy.
    let sent = StoredValue::new(None::<(JobChanges, String)>);
    provide_context(Complaints(complaints));
    let job_id = StoredValue::new(job.id);
    let busy = actions.in_flight.busy(job_key(&job_id.get_value()));
    let differences = Memo::new(move |_| edit.with(|edit| original.with_value(|original| edit.differences(original))));

    let refuse = move |wrong: Vec<Complaint>| {
        complaints.set(wrong.clone());
        let first = FIELDS.iter().find(|name| wrong.iter().any(|(field, _)| field == *name));
        let Some(first) = first else { return dom::focus("copy-failure") };
        dom::focus(&control_id(first));
        let problem = edit.with_untracked(|edit| json::problem(&edit.payload));
        if let Some(problem) = problem.filter(|_| *first == PAYLOAD) {
            place_caret(problem.offset);
        }
    };
    let submit = move |event: SubmitEvent| {
        event.prevent_default();
        if busy.get_untracked() {
            return;
        }
        let changes = edit.with_untracked(|edit| original.with_value(|original| edit.changes(original)));
        let changes = match changes {
            Ok(changes) => changes,
            Err(wrong) => return refuse(wrong),
        };
        complaints.set(vec![]);
        failure.set(None);
        let key = sent
            .get_value()
            .filter(|(last, _)| *last == changes)
            .map_or_else(|| uuid::Uuid::new_v4().to_string(), |(_, key)| key);
        sent.set_value(Some((changes.clone(), key.clone())));
        let navigate = navigate.clone();
        copy(actions, job_id.get_value(), changes, key, move |answer| match answer {
            Ok(copy) => {
                actions.toasts.good(format!("Submitted the copy {}", id::short(&copy.job_id)));
                // The person may have closed the dialog meanwhile.
                if edit.try_get_untracked().is_some() {
                    close.run(());
                    navigate(&id::job_page(&copy.job_id), NavigateOptions::default());
                }
            }
            Err(refusal) if edit.try_get_untracked().is_some() => {
                failure.set(Some(refusal.clone()));
                refuse(refusal.fields);
            }
            Err(refusal) => actions.toasts.bad(format!("Not copied: {}", refusal.message)),
        });
    };
    let word = move || match (busy.get(), differences.with(Vec::len)) {
        (true, _) => "Submitting…".to_owned(),
        (false, 0) => "Submit an exact copy".to_owned(),
        (false, n) => format!("Submit copy with {}", plural(length(n), "change", "changes")),
    };
    view! {
        <form class="form" novalidate="" on:submit=submit>
            <div>
                <h2 id="copy-title">"Edit and rerun"</h2>
                <p class="muted">"A new job is submitted. This one stays as it is."</p>
            </div>
            <Fields edit />
            <section class="changes" aria-label="Changes">
                <h3>"What changes"</h3>
                {move || view! { <Changes differences=differences.get() /> }}
            </section>
            <div id="copy-failure" tabindex="-1" role="status" aria-live="polite">
                {move || failure.get().map(refused)}
            </div>
            <div class="dialog-actions">
                <button type="button" class="button" on:click=move |_| close.run(())>
                    "Keep as it is"
                </button>
                <button
                    type="submit"
                    class="button primary"
                    aria-busy=move || busy.get().to_string()
                    aria-disabled=move || busy.get().then_some("true")
                >
                    {word}
                </button>
            </div>
        </form>
    }
}

fn place_caret(offset: u32) {
    let area = document().get_element_by_id(&control_id(PAYLOAD));
    if let Some(area) = area.and_then(|it| it.dyn_into::<HtmlTextAreaElement>().ok()) {
        let _ = area.set_selection_range(offset, offset + 1);
    }
}

#[component]
fn Fields(edit: RwSignal<Edit>) -> impl IntoView {
    let complaints = expect_context::<Complaints>();
    let field = move |name: &'static str,
                      label: &'static str,
                      help: &'static str,
                      placeholder: &'static str,
                      list: &'static str,
                      field: fn(&mut Edit) -> &mut String| {
        let value = Signal::derive(move || field(&mut edit.get()).clone());
        let set = Callback::new(move |text: String| edit.update(|edit| *field(edit) = text));
        view! { <TextField name label help placeholder list value set /> }
    };
    let payload = Memo::new(move |_| edit.with(|edit| edit.payload.clone()));
    let problem = Memo::new(move |_| payload.with(|payload| json::problem(payload)));
    let said = move || match problem.get() {
        None => view! { <span class="good"><Icon name="check" />"Valid JSON"</span> }.into_any(),
        Some(it) => {
            let text = format!("Line {}, column {}: {}", it.line, it.column, it.text);
            view! { <span class="error"><Icon name="warning" />{text}</span> }.into_any()
        }
    };
    view! {
        <div class="grid-2">
            {field("changes.worker_id", "worker_id", "", "", "worker-ids", |it| &mut it.worker_id)}
            {field("changes.task", "Task", "", "from the payload", "", |it| &mut it.task)}
        </div>
        <Field name=PAYLOAD label="Payload" wide=true>
            <textarea
                id=control_id(PAYLOAD)
                class="input mono"
                rows="10"
                spellcheck="false"
                autocomplete="off"
                aria-invalid=move || (complaints.of(PAYLOAD).is_some() || problem.with(Option::is_some)).then_some("true")
                aria-describedby=format!("copy-check {}", described_by(PAYLOAD, false))
                prop:value=payload
                on:input=move |event| edit.update(|edit| edit.payload = event_target_value(&event))
            ></textarea>
            <p id="copy-check" class="help" role="status" aria-live="polite">
                {said}
            </p>
        </Field>
        <div class="grid-4">
            {field("changes.priority", "Priority", "", "", "", |it| &mut it.priority)}
            {field("changes.max_retries", "Attempts", "", "", "", |it| &mut it.max_retries)}
            {field("changes.attempt_timeout", "Attempt timeout", "", "no limit", "", |it| &mut it.attempt_timeout)}
            {field("changes.delay", "Delay", "", "none", "", |it| &mut it.delay)}
        </div>
    }
}

#[component]
fn Changes(differences: Vec<Difference>) -> impl IntoView {
    if differences.is_empty() {
        return view! { <p class="muted">"Nothing: the copy is exact."</p> }.into_any();
    }
    let one = |difference| match difference {
        Difference::Field { name, before, after } => view! {
            <p>
                {name}": "<del><JobText text=or_dash(before.trim()) /></del>" → "
                <ins><JobText text=or_dash(after.trim()) /></ins>
            </p>
        }
        .into_any(),
        Difference::Payload(lines) => view! {
            <p>"Payload:"</p>
            <pre class="code diff" tabindex="0" aria-label="Changes of the payload">
                {lines.into_iter().map(line).collect_view()}
            </pre>
        }
        .into_any(),
    };
    differences.into_iter().map(one).collect_view().into_any()
}

fn line(line: Line) -> AnyView {
    match line {
        Line::Same(text) => view! { <span class="same">"  "<JobText text />"\n"</span> }.into_any(),
        Line::Removed(text) => view! { <del>"- "<JobText text />"\n"</del> }.into_any(),
        Line::Added(text) => view! { <ins>"+ "<JobText text />"\n"</ins> }.into_any(),
        Line::Skipped(n) => {
            view! { <span class="muted">{format!("… {}\n", plural(length(n), "equal line", "equal lines"))}</span> }
                .into_any()
        }
    }
}

fn refused(failure: Failure) -> impl IntoView {
    let advice = match failure.kind {
        Kind::Away => " Nothing is lost. Submitting again makes no second copy.",
        _ if failure.fields.iter().any(|(field, _)| FIELDS.contains(&field.as_str())) => " See the marked fields.",
        _ => "",
    };
    view! {
        <div class="notice bad" role="alert">
            <Icon name="warning" />
            <p>
                <strong>"Not submitted: "{failure.message}"."</strong>
                {advice}
                {failure
                    .job_id
                    .map(|job_id| view! { " " <A href=id::job_page(&job_id)>"See that job"</A> })}
            </p>
        </div>
    }
}
