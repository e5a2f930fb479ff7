//! Fields of the form of a new operation, each bound to its value in the draft.

use jobqueue_shared::proto::v1::operation_spec::Kind;
use leptos::prelude::*;

use crate::{
    components::field::{Complaints, Field, TextField, control_id, described_by},
    model::{
        operation::verb,
        operation_draft::{KINDS, OperationDraft},
    },
};

fn bind(
    form: RwSignal<OperationDraft>,
    field: fn(&mut OperationDraft) -> &mut String,
) -> (Signal<String>, Callback<String>) {
    let get = Signal::derive(move || field(&mut form.get()).clone());
    let set = Callback::new(move |text: String| form.update(|form| *field(form) = text));
    (get, set)
}

/// Kind of the operation, and its jobs.
#[component]
pub(super) fn What(form: RwSignal<OperationDraft>) -> impl IntoView {
    let kind = Memo::new(move |_| form.with(OperationDraft::kind));
    let complaints = expect_context::<Complaints>();
    let (filter, set_filter) = bind(form, |form| &mut form.filter);
    let (priority, set_priority) = bind(form, |form| &mut form.priority);
    let (run_at, set_run_at) = bind(form, |form| &mut form.run_at);
    let takes = move || match kind.get() {
        Kind::Retry => "Takes failed and cancelled jobs. Each becomes pending with no attempt used; its history stays.",
        Kind::Cancel => "Takes pending and running jobs. Workers of running jobs are told to stop.",
        Kind::Delete => "Takes done, failed and cancelled jobs. Nothing of them is left; this cannot be undone.",
        Kind::SetPriority => "Takes pending jobs.",
        Kind::Reschedule | Kind::Unspecified => "Takes pending jobs. A time that has passed means now.",
    };
    view! {
        <Field name="kind" label="What to do">
            <select
                id=control_id("kind")
                class="input"
                aria-describedby="kind-takes"
                on:change=move |event| form.update(|form| form.kind = event_target_value(&event))
            >
                {KINDS
                    .into_iter()
                    .map(|it| {
                        view! {
                            <option value=it.as_str_name() selected=move || kind.get() == it>
                                {verb(it)}
                            </option>
                        }
                    })
                    .collect_view()}
            </select>
            <p class="help" id="kind-takes">{takes}</p>
        </Field>
        <Field
            name="filter"
            label="To which jobs"
            help="Such as worker:mail task:email,sms status:failed error:timeout age:<2h. Empty: all that it takes."
            wide=true
        >
            <input
                id=control_id("filter")
                class="input mono"
                autocomplete="off"
                spellcheck="false"
                aria-invalid=move || complaints.of("filter").map(|_| "true")
                aria-describedby=described_by("filter", true)
                prop:value=filter
                on:input=move |event| set_filter.run(event_target_value(&event))
            />
        </Field>
        <Show when=move || kind.get() == Kind::SetPriority>
            <TextField
                name="priority"
                label="New priority"
                help="0 to 9; lower runs first."
                numeric=true
                value=priority
                set=set_priority
            />
        </Show>
        <Show when=move || kind.get() == Kind::Reschedule>
            <TextField
                name="run_at"
                label="New run_at"
                help="In this browser's time zone; up to a year ahead."
                kind="datetime-local"
                value=run_at
                set=set_run_at
            />
        </Show>
    }
}

/// Why it is done, and how carefully.
#[component]
pub(super) fn Care(form: RwSignal<OperationDraft>) -> impl IntoView {
    let is_retry = Memo::new(move |_| form.with(OperationDraft::kind) == Kind::Retry);
    let text = move |name: &'static str,
                     label: &'static str,
                     help: &'static str,
                     placeholder: &'static str,
                     numeric: bool,
                     field: fn(&mut OperationDraft) -> &mut String| {
        let (value, set) = bind(form, field);
        view! { <TextField name label help placeholder numeric value set /> }
    };
    view! {
        {text("reason", "Reason", "Kept with the operation, for everybody who asks later.", "", false, |form| &mut form.reason)}
        {text("rate", "Jobs per second", "Empty: as fast as it goes.", "no limit", true, |form| &mut form.rate)}
        <Show when=move || is_retry.get()>
            <fieldset>
                <legend>"Stop when jobs fail again"</legend>
                <div class="grid-2">
                    {text(
                        "canary",
                        "Try first",
                        "That many jobs are retried first; the rest waits for their outcome.",
                        "no canary",
                        true,
                        |form| &mut form.canary,
                    )}
                    {text(
                        "canary_stop_percent",
                        "Stop if more of them fail, in %",
                        "Empty: a single failure stops it.",
                        "0",
                        true,
                        |form| &mut form.canary_stop_percent,
                    )}
                    {text(
                        "stop_percent",
                        "Stop if more of all fail, in %",
                        "Judged by a sample while the operation runs.",
                        "never",
                        true,
                        |form| &mut form.stop_percent,
                    )}
                </div>
            </fieldset>
        </Show>
    }
}
