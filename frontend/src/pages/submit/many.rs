//! Many jobs at once: lines of JSON, pasted or from a file, their preview, and the progress of their submission.

use leptos::{ev, html, prelude::*, task::spawn_local};
use leptos_router::components::A;
use wasm_bindgen_futures::JsFuture;

use crate::{
    calls::many_submit::ManySubmit,
    components::{
        field::{Complaints, Field, control_id, described_by},
        icon::Icon,
        job_text::JobText,
    },
    model::{
        draft::Draft,
        filter::Filter,
        json,
        many::{lines::Lines, report::Report},
        number::{bytes, count, length, plural},
    },
    toast::Toasts,
};

pub const NAME: &str = "lines";
/// Maximum size in bytes of a file.
const FILE: f64 = 64.0 * 1024.0 * 1024.0;
/// Number of lines in the preview.
const SHOWN: usize = 3;

/// Field for the lines, with what is wrong with them, or the first of them as they are understood.
#[component]
pub fn ManyLines(form: RwSignal<Draft>, lines: Memo<Lines>) -> impl IntoView {
    let toasts = Toasts::get();
    let complaints = expect_context::<Complaints>();
    let file = NodeRef::<html::Input>::new();
    let text = Memo::new(move |_| form.with(|form| form.lines.clone()));
    let chosen = move |_: ev::Event| {
        let Some(input) = file.get_untracked() else { return };
        let Some(chosen) = input.files().and_then(|files| files.get(0)) else { return };
        if chosen.size() > FILE {
            return toasts.bad("The file is larger than 64 MiB");
        }
        spawn_local(async move {
            match JsFuture::from(chosen.text()).await.ok().and_then(|text| text.as_string()) {
                Some(text) => drop(form.try_update(|form| form.lines = text)),
                None => toasts.bad("The file cannot be read"),
            }
            // Emptied, so that a file can be chosen twice in a row.
            input.set_value("");
        });
    };
    let said = move || {
        lines.with(|lines| match lines.problem() {
            _ if lines.is_empty() => {
                view! { <span>"One JSON value in each line, up to 10,000 lines"</span> }.into_any()
            }
            Some(problem) => view! { <span class="error"><Icon name="warning" />{problem}"."</span> }.into_any(),
            None => {
                let size = bytes(lines.jobs.iter().map(|line| line.payload.len()).sum());
                let words = format!("{}, {size}", plural(length(lines.jobs.len()), "job", "jobs"));
                view! { <span class="good"><Icon name="check" />{words}</span> }.into_any()
            }
        })
    };
    view! {
        <Field name=NAME label="Payloads, one in each line" wide=true>
            <textarea
                id=control_id(NAME)
                class="input mono unwrapped"
                rows="9"
                wrap="off"
                spellcheck="false"
                autocomplete="off"
                placeholder="{\"to\": \"ada@example.com\"}\n{\"to\": \"bob@example.com\"}"
                aria-invalid=move || {
                    (complaints.of(NAME).is_some() || lines.with(|lines| lines.problem().is_some())).then_some("true")
                }
                aria-describedby=format!("lines-check {}", described_by(NAME, false))
                prop:value=text
                on:input=move |event| form.update(|form| form.lines = event_target_value(&event))
            ></textarea>
            <div class="check">
                <p id="lines-check" class="help" role="status" aria-live="polite">
                    {said}
                </p>
            </div>
        </Field>
        <div class="field">
            <label for="lines-file">"Or from a file"</label>
            <input
                id="lines-file"
                type="file"
                accept=".jsonl,.ndjson,.json,.txt,application/json,text/plain"
                node_ref=file
                on:change=chosen
            />
        </div>
        {move || lines.with(wrong_lines)}
        {move || lines.with(preview)}
    }
}

fn wrong_lines(lines: &Lines) -> Option<AnyView> {
    if lines.wrong.is_empty() {
        return None;
    }
    let more = lines.wrong_count - lines.wrong.len();
    let each = |(number, problem): &(usize, String)| {
        view! { <li><strong>"Line "{*number}</strong>" "<JobText text=problem.clone() /></li> }
    };
    Some(
        view! {
            <div class="notice bad">
                <Icon name="warning" />
                <ul class="plain">
                    {lines.wrong.iter().map(each).collect_view()}
                    {(more > 0).then(|| view! { <li>"and "{count(length(more))}" more"</li> })}
                </ul>
            </div>
        }
        .into_any(),
    )
}

fn preview(lines: &Lines) -> Option<AnyView> {
    if lines.jobs.is_empty() {
        return None;
    }
    let each = |line: &crate::model::many::lines::Line| {
        view! {
            <li>
                <span class="muted">"Line "{line.number}</span>
                <pre class="code" tabindex="0" aria-label=format!("Line {}", line.number)>
                    <JobText text=json::indented(&line.payload) />
                </pre>
            </li>
        }
    };
    let title = match lines.jobs.len() {
        n if n > SHOWN => format!("The first {SHOWN} of {}", count(length(n))),
        _ => "Preview".to_owned(),
    };
    Some(
        view! {
            <section class="preview">
                <h3>{title}</h3>
                <ol class="plain">{lines.jobs.iter().take(SHOWN).map(each).collect_view()}</ol>
            </section>
        }
        .into_any(),
    )
}

/// Progress of the run that is under way, or its report.
#[component]
pub fn ManyReport(worker_id: Memo<String>) -> impl IntoView {
    let many = ManySubmit::get();
    let is_over = Memo::new(move |_| many.report.with(|report| report.as_ref().map(|report| report.is_over)));
    let settled = move || many.report.with(|report| report.as_ref().map_or(0, Report::settled));
    let total = move || many.report.with(|report| report.as_ref().map_or(1, |report| report.total));
    let words = move || format!("{} of {}", count(length(settled())), count(length(total())));
    move || match is_over.get() {
        None => None,
        Some(false) => Some(
            view! {
                <div class="notice sending">
                    <div>
                        <p>"Submitting: "{words}</p>
                        <progress max=total value=settled aria-label="Submitting"></progress>
                    </div>
                    <button type="button" class="button" on:click=move |_| many.is_stopped.set(true)>
                        {move || if many.is_stopped.get() { "Stopping…" } else { "Stop" }}
                    </button>
                </div>
            }
            .into_any(),
        ),
        Some(true) => many.report.get_untracked().map(|report| told(&report, &worker_id.get_untracked())),
    }
}

fn told(report: &Report, worker_id: &str) -> AnyView {
    let complete = report.is_complete();
    let (class, icon) = if complete { ("notice good", "check") } else { ("notice bad", "warning") };
    let jobs = Filter::of_worker_id(worker_id).url("/jobs");
    view! {
        <div class=class>
            <Icon name=icon />
            <div>
                <p>
                    <strong>{report.summary()}"."</strong>
                    " " <A href=jobs>"See the jobs"</A>
                </p>
                {report.rest().into_iter().map(|line| view! { <p><JobText text=line /></p> }).collect_view()}
                {report
                    .can_go_on()
                    .then(|| view! { <p>"Submit again to go on: what has been submitted is not submitted twice."</p> })}
            </div>
        </div>
    }
    .into_any()
}
