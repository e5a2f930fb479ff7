//! Timeline of a job, newest first: the runs and how each ended, refused outcomes, operator actions.

use leptos::prelude::*;

use super::atoms::{Ago, Pill, SessionLink};
use crate::{
    model::{
        number::count,
        span, status,
        timeline::{self, Line, Text},
    },
    rows::rows,
};

/// Number of lines that are shown until the person asks for all.
const SHOWN: usize = 40;

#[component]
pub fn Timeline(
    /// Lines of the timeline, newest first.
    lines: Memo<Vec<Line>>,
) -> impl IntoView {
    let all = RwSignal::new(false);
    let oldest = Memo::new(move |before: Option<&Option<Key>>| {
        lines.with(|lines| {
            let shown = timeline::shown(lines, before.and_then(Option::as_ref), SHOWN);
            lines.get(..shown).and_then(<[Line]>::last).map(|line| line.key.clone())
        })
    });
    let cut =
        Memo::new(move |_| lines.with(|lines| oldest.with(|oldest| timeline::shown(lines, oldest.as_ref(), SHOWN))));
    let folded = Memo::new(move |_| !all.get() && cut.get() < lines.with(Vec::len));
    let rows = rows(
        move || {
            let mut lines = lines.get();
            if folded.get() {
                lines.truncate(cut.get());
            }
            lines
        },
        |line| format!("{:?}", line.key),
    );
    view! {
        <ol class="timeline" aria-label="Timeline, newest first">
            <For each=move || rows.keys.get() key=Clone::clone let:key>
                <Event line=rows.row(key) />
            </For>
        </ol>
        <Show when=move || folded.get()>
            <div class="more">
                <button type="button" class="button" on:click=move |_| all.set(true)>
                    {move || format!("Show all {} events", count(i64::try_from(lines.with(Vec::len)).unwrap_or(i64::MAX)))}
                </button>
            </div>
        </Show>
    }
}

type Key = (Vec<u8>, u32);

#[component]
fn Event(line: Memo<Line>) -> impl IntoView {
    // Only a progress line changes: its fraction, time and message.
    let Line { kind, run_no, session_id, host, took, progress, .. } = line.get_untracked();
    let look = status::event(kind);
    let percent = move || line.with(|line| line.progress.clone());
    let at = move || line.with(|line| line.at);
    let head = move || {
        view! {
            <Pill look=look />
            {(run_no > 0).then(|| view! { <span class="muted">"run "{run_no}</span> })}
            {progress.is_some().then(|| view! { <span>{percent}</span> })}
            {took.map(|took| view! { <span>"after "{span::exact(took)}</span> })}
            <Session session_id=session_id.clone() host=host.clone() />
            <Ago ms=Signal::derive(at) />
        }
    };
    let code = timeline::is_error(kind);
    let text = Memo::new(move |_| line.with(|line| line.text.clone()));
    let body = move || match text.get() {
        Text::None => view! { <div class="event-line">{head()}</div> }.into_any(),
        Text::Short(text) => view! {
            <div class="event-line">{head()}</div>
            <p class="event-text" class:code-text=code>
                {text}
            </p>
        }
        .into_any(),
        Text::Folded { first, all } => view! {
            <details>
                <summary>
                    <span class="event-line">{head()}</span>
                    <span class="event-text folded" class:code-text=code>
                        {first}
                    </span>
                </summary>
                <pre class="code" tabindex="0" aria-label="The whole text">{all}</pre>
            </details>
        }
        .into_any(),
    };
    view! { <li class=format!("event {}", look.tone)>{body}</li> }
}

#[component]
fn Session(session_id: String, host: String) -> impl IntoView {
    (!session_id.is_empty()).then(|| {
        view! {
            <span class="muted">
                {if host.is_empty() { "session ".to_owned() } else { format!("{host}, session ") }}
                <SessionLink id=session_id />
            </span>
        }
    })
}
