//! Fields of the submit form, each bound to its value in the draft.

use leptos::prelude::*;

use crate::{
    browser::dom,
    components::{
        field::{Complaints, Field, TextField, control_id, described_by},
        icon::Icon,
    },
    feeds::live::Live,
    model::{
        draft::{self, Check, Draft, When},
        json, time,
    },
};

fn bind(form: RwSignal<Draft>, field: fn(&mut Draft) -> &mut String) -> (Signal<String>, Callback<String>) {
    let get = Signal::derive(move || field(&mut form.get()).clone());
    let set = Callback::new(move |text: String| form.update(|form| *field(form) = text));
    (get, set)
}

#[component]
pub fn Address(form: RwSignal<Draft>) -> impl IntoView {
    let (worker_id, set_worker_id) = bind(form, |form| &mut form.worker_id);
    let (task, set_task) = bind(form, |form| &mut form.task);
    view! {
        <div class="grid-2">
            <TextField
                name="worker_id"
                label="worker_id"
                help="Whose job it is: the name that its workers were started with."
                placeholder="worker-1a"
                list="worker-ids"
                value=worker_id
                set=set_worker_id
            />
            <TextField
                name="task"
                label="Task"
                help="Picks the handler. Empty: the payload's top-level \"task\"."
                placeholder="email"
                list="recent-tasks"
                value=task
                set=set_task
            />
        </div>
    }
}

/// Field for the payload, which is checked while it is typed.
#[component]
pub fn Payload(form: RwSignal<Draft>) -> impl IntoView {
    let name = "payload_json";
    let complaints = expect_context::<Complaints>();
    let text = Memo::new(move |_| form.with(|form| form.payload_json.clone()));
    let check = Memo::new(move |_| text.with(|text| draft::check(text)));
    let said = move || match check.get() {
        Check::Empty => view! { <span>"JSON, at most 256 KiB and 64 levels deep"</span> }.into_any(),
        Check::Valid(text) => view! { <span class="good"><Icon name="check" />{text}</span> }.into_any(),
        Check::Wrong(text) => {
            view! { <span class="error"><Icon name="warning" />"The payload "{text}</span> }.into_any()
        }
    };
    let tidy = move |_| {
        form.update(|form| {
            form.payload_json = json::indented(&form.payload_json);
        });
    };
    view! {
        <Field name=name label="Payload" wide=true>
            <textarea
                id=control_id(name)
                class="input mono"
                rows="9"
                spellcheck="false"
                autocomplete="off"
                placeholder="{\"task\": \"email\", \"to\": \"someone@example.com\"}"
                aria-invalid=move || (complaints.of(name).is_some() || matches!(check.get(), Check::Wrong(_))).then_some("true")
                aria-describedby=format!("payload-check {}", described_by(name, false))
                prop:value=text
                on:input=move |event| form.update(|form| form.payload_json = event_target_value(&event))
            ></textarea>
            <div class="check">
                <p id="payload-check" class="help" role="status" aria-live="polite">
                    {said}
                </p>
                <Show when=move || matches!(check.get(), Check::Valid(_))>
                    <button type="button" class="button quiet" on:click=tidy>
                        "Indent"
                    </button>
                </Show>
            </div>
        </Field>
    }
}

#[component]
pub fn Options(form: RwSignal<Draft>, many: Memo<bool>) -> impl IntoView {
    let text = move |name: &'static str,
                     label: &'static str,
                     help: &'static str,
                     placeholder: &'static str,
                     numeric: bool,
                     field: fn(&mut Draft) -> &mut String| {
        let (value, set) = bind(form, field);
        view! { <TextField name label help placeholder numeric value set /> }
    };
    let (key, set_key) = bind(form, |form| &mut form.idempotency_key);
    view! {
        <div class="grid-2">
            <div class="with-button" class:absent=move || many.get()>
                <TextField
                    name="idempotency_key"
                    label="Idempotency key"
                    help="The same key and request give the same job, until 24 h after it finished."
                    placeholder="none"
                    value=key
                    set=set_key
                />
                <button
                    type="button"
                    class="button"
                    on:click=move |_| set_key.run(uuid::Uuid::new_v4().to_string())
                >
                    "New key"
                </button>
            </div>
            {text(
                "priority",
                "Priority",
                "0 to 9; lower runs first.",
                "5",
                true,
                |form| &mut form.priority,
            )}
        </div>
        <Starts form />
        <div class="grid-2">
            {text(
                "max_retries",
                "max_retries",
                "How many attempts there are in all, up to 100; 0 means one.",
                "3",
                true,
                |form| &mut form.max_retries,
            )}
            {text(
                "attempt_timeout",
                "Attempt timeout",
                "How long one attempt may take, such as 30s, 5m or 1h 30m.",
                "no limit",
                false,
                |form| &mut form.attempt_timeout,
            )}
        </div>
        <fieldset>
            <legend>"Delay between attempts"</legend>
            <div class="grid-4">
                {text("retry_policy.initial", "First", "", "5s", false, |form| &mut form.initial)}
                {text("retry_policy.factor", "Then times", "", "2", true, |form| &mut form.factor)}
                {text("retry_policy.max", "At most", "", "1h", false, |form| &mut form.max)}
                {text("retry_policy.jitter", "Jitter, 0 to 1", "", "0.2", true, |form| &mut form.jitter)}
            </div>
        </fieldset>
    }
}

/// Choice of the time to start: now, after a delay, or at a given time.
#[component]
fn Starts(form: RwSignal<Draft>) -> impl IntoView {
    let when = Memo::new(move |_| form.with(|form| form.when));
    let choice = move |value: When, word: &'static str| {
        view! {
            <label class="choice">
                <input
                    type="radio"
                    name="when"
                    prop:checked=move || when.get() == value
                    on:change=move |_| form.update(|form| form.when = value)
                />
                {word}
            </label>
        }
    };
    let (delay, set_delay) = bind(form, |form| &mut form.delay);
    let (run_at, set_run_at) = bind(form, |form| &mut form.run_at);
    let live = Live::get();
    // Computed by the server's clock, which decides when the job runs.
    let means = move || {
        let now = live.now.get();
        let zone = Some(dom::time_zone()).filter(|zone| !zone.is_empty()).map(|zone| format!(", {zone}"));
        let clock = format!("The server's clock says {}{}", dom::browser_time(now), zone.unwrap_or_default());
        match dom::parse_local(&run_at.get()) {
            None => format!("{clock}."),
            Some(at) if at <= now => format!("{clock}: the job runs at once."),
            Some(at) => format!("{clock}: the job runs {}.", time::relative(at, now)),
        }
    };
    view! {
        <fieldset>
            <legend>"Runs"</legend>
            <div class="choices">
                {choice(When::Now, "As soon as possible")} {choice(When::Delay, "After a delay")}
                {choice(When::At, "At a time")}
            </div>
            <Show when=move || when.get() == When::Delay>
                <TextField
                    name="delay"
                    label="Delay"
                    help="Such as 30s, 5m or 1h 30m; up to a year."
                    placeholder="10m"
                    value=delay
                    set=set_delay
                />
            </Show>
            <Show when=move || when.get() == When::At>
                <TextField
                    name="run_at"
                    label="Run at"
                    help="In this browser's time zone; up to a year ahead."
                    kind="datetime-local"
                    value=run_at
                    set=set_run_at
                />
                <p class="help" id="run-at-means">{means}</p>
            </Show>
        </fieldset>
    }
}
