//! Timeline of a job, newest first: the runs and how each ended, refused outcomes, operator actions. Equal attempts in a
//! row are folded.

use std::collections::BTreeSet;

use leptos::prelude::*;

use super::{
    atoms::{Ago, Pill, SessionLink},
    job_text::JobText,
};
use crate::{
    feeds::rows::rows,
    model::{
        number::{count, length},
        span, status,
        timeline::{self, Line, Text},
        timeline_fold::{self, Content, Entry, Fold},
    },
};

/// Number of entries that are shown until the person asks for all.
const SHOWN: usize = 40;

#[component]
pub fn Timeline(
    /// Lines of the timeline, newest first.
    lines: Memo<Vec<Line>>,
) -> impl IntoView {
    let all = RwSignal::new(false);
    // Keys of the opened folds.
    let open = RwSignal::new(BTreeSet::<String>::new());
    let entries = Memo::new(move |_| lines.with(|lines| open.with(|open| timeline_fold::entries(lines, open))));
    let oldest = Memo::new(move |before: Option<&Option<String>>| {
        entries.with(|entries| {
            let shown = timeline_fold::shown(entries, before.and_then(Option::as_ref), SHOWN);
            entries.get(..shown).and_then(<[Entry]>::last).map(|entry| entry.key.clone())
        })
    });
    let cut = Memo::new(move |_| {
        entries.with(|entries| oldest.with(|oldest| timeline_fold::shown(entries, oldest.as_ref(), SHOWN)))
    });
    let folded = Memo::new(move |_| !all.get() && cut.get() < entries.with(Vec::len));
    let rows = rows(
        move || {
            let mut entries = entries.get();
            if folded.get() {
                entries.truncate(cut.get());
            }
            entries
        },
        |entry| entry.key.clone(),
    );
    view! {
        <ol class="timeline" aria-label="Timeline, newest first">
            <For each=move || rows.keys.get() key=Clone::clone let:key>
                <Item key=key.clone() entry=rows.row(key) open />
            </For>
        </ol>
        <Show when=move || folded.get()>
            <div class="more">
                <button type="button" class="button" on:click=move |_| all.set(true)>
                    {move || format!("Show all {} events", count(length(lines.with(Vec::len))))}
                </button>
            </div>
        </Show>
    }
}

/// Entry of the timeline: a line, or a fold. An entry never changes from one to the other.
#[component]
fn Item(key: String, entry: Memo<Entry>, open: RwSignal<BTreeSet<String>>) -> impl IntoView {
    if entry.with_untracked(|entry| matches!(entry.content, Content::Fold(_))) {
        let fold = Memo::new(move |_| match entry.get().content {
            Content::Fold(fold) => fold,
            Content::Line(_) => Fold::default(),
        });
        return view! { <MoreLikeThis key fold open /> }.into_any();
    }
    let line = Memo::new(move |_| match entry.get().content {
        Content::Line(line) => line,
        Content::Fold(_) => Line::default(),
    });
    view! { <Event line /> }.into_any()
}

/// Fold of equal attempts: their number, the times of the first and the last one, and the button that shows them.
#[component]
fn MoreLikeThis(key: String, fold: Memo<Fold>, open: RwSignal<BTreeSet<String>>) -> impl IntoView {
    let toggle = move |_| {
        open.update(|open| {
            if !open.remove(&key) {
                open.insert(key.clone());
            }
        });
    };
    let is_open = Memo::new(move |_| fold.with(|fold| fold.is_open));
    let words = move || fold.with(|fold| format!("{} more like this", count(length(fold.attempts))));
    view! {
        <li class="event fold">
            <div class="event-line">
                <button
                    type="button"
                    class="button quiet"
                    aria-expanded=move || is_open.get().to_string()
                    on:click=toggle
                >
                    <span class="fold-mark" aria-hidden="true"></span>
                    {words}
                </button>
                <span class="fold-times">
                    "from " <Ago ms=Signal::derive(move || fold.with(|fold| fold.first)) /> " to "
                    <Ago ms=Signal::derive(move || fold.with(|fold| fold.last)) />
                </span>
            </div>
        </li>
    }
}

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
            <Ago ms=Signal::derive(at) full=true />
        }
    };
    let code = timeline::is_error(kind);
    let text = Memo::new(move |_| line.with(|line| line.text.clone()));
    let body = move || match text.get() {
        Text::None => view! { <div class="event-line">{head()}</div> }.into_any(),
        Text::Short(text) => view! {
            <div class="event-line">{head()}</div>
            <p class="event-text" class:code-text=code>
                <JobText text />
            </p>
        }
        .into_any(),
        Text::Folded { first, all } => view! {
            <details>
                <summary>
                    <span class="event-line">{head()}</span>
                    <span class="event-text folded" class:code-text=code>
                        <JobText text=first />
                    </span>
                </summary>
                <pre class="code" tabindex="0" aria-label="The whole text"><JobText text=all /></pre>
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
                {(!host.is_empty()).then(|| view! { <JobText text=host /> ", " })}
                "session "
                <SessionLink id=session_id />
            </span>
        }
    })
}
