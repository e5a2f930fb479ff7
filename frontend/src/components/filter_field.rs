//! Search field of a list: the terms of its filter as chips, and an input for further ones with suggestions.

use leptos::{ev::KeyboardEvent, html, prelude::*};

use super::{icon::Icon, job_text::JobText};
use crate::{
    browser::dom,
    model::{
        query::{self, Known, Suggestion},
        visible::{isolated, visible},
    },
};

const INPUT: &str = "filter-text";
const LIST: &str = "filter-suggestions";

#[component]
pub fn FilterField(
    /// Filter in its text form.
    text: Memo<String>,
    /// Values for suggestions.
    known: Memo<Known>,
    /// Shows the list of another filter.
    go: Callback<String>,
) -> impl IntoView {
    let input = NodeRef::<html::Input>::new();
    let typed = RwSignal::new(String::new());
    let open = RwSignal::new(false);
    let active = RwSignal::new(None::<usize>);
    let wrong = RwSignal::new(None::<String>);
    let chips = Memo::new(move |_| text.with(|text| query::chips(text)));
    // The address may hold a text that is not understood.
    let wrong_text = Memo::new(move |_| text.with(|text| query::error("", text, dom::now())));
    let error = Memo::new(move |_| wrong.get().or_else(|| wrong_text.get()));
    let suggestions = Memo::new(move |_| known.with(|known| typed.with(|typed| query::suggestions(typed, known))));
    let shown = Memo::new(move |_| open.get() && !suggestions.with(Vec::is_empty));

    let apply = move || {
        let more = typed.get_untracked();
        let before = text.get_untracked();
        open.set(false);
        if more.trim().is_empty() {
            wrong.set(None);
            return;
        }
        if let Some(error) = query::error(&before, &more, dom::now()) {
            wrong.set(Some(error));
            return;
        }
        wrong.set(None);
        typed.set(String::new());
        go.run(query::with(&before, &more));
    };
    let take = move |suggestion: Suggestion| {
        typed.set(suggestion.text);
        active.set(None);
        wrong.set(None);
        // A key asks for its value next.
        open.set(!suggestion.whole);
        if let Some(input) = input.get_untracked() {
            let _ = input.focus();
        }
    };
    let remove = move |at: usize| {
        wrong.set(None);
        go.run(query::without(&text.get_untracked(), at));
        if let Some(input) = input.get_untracked() {
            let _ = input.focus();
        }
    };
    let step = move |by: isize| {
        let number = suggestions.with_untracked(Vec::len) as isize;
        open.set(true);
        active.update(|active| {
            let next = match *active {
                Some(at) => at as isize + by,
                None if by > 0 => 0,
                None => number - 1,
            };
            *active = (0..number).contains(&next).then_some(next as usize);
        });
    };
    let key = move |event: KeyboardEvent| {
        if event.is_composing() {
            return;
        }
        match event.key().as_str() {
            "ArrowDown" => step(1),
            "ArrowUp" => step(-1),
            "Escape" if shown.get_untracked() => open.set(false),
            "Enter" => {
                let chosen = active.get_untracked().filter(|_| shown.get_untracked());
                match chosen.and_then(|at| suggestions.with_untracked(|all| all.get(at).cloned())) {
                    Some(suggestion) => take(suggestion),
                    None => apply(),
                }
            }
            "Backspace" if typed.with_untracked(String::is_empty) => {
                let Some((at, last)) = chips.with_untracked(|chips| chips.iter().cloned().enumerate().next_back())
                else {
                    return;
                };
                typed.set(last);
                remove(at);
            }
            _ => return,
        }
        event.prevent_default();
    };
    let chip = move |(at, term): (usize, String)| {
        let label = format!("Remove {}", isolated(&term));
        let shown = visible(&term).into_owned();
        view! {
            <li class="chip">
                <JobText text=shown />
                <button type="button" aria-label=label on:click=move |_| remove(at)>
                    <Icon name="close" />
                </button>
            </li>
        }
    };
    let option = move |(at, it): (usize, Suggestion)| {
        let (word, help) = (visible(&it.word).into_owned(), it.help);
        view! {
            <li
                id=format!("{LIST}-{at}")
                role="option"
                aria-selected=move || (active.get() == Some(at)).to_string()
                on:mousedown=move |event| {
                    event.prevent_default();
                    take(it.clone());
                }
            >
                <span class="mono">
                    <JobText text=word />
                </span>
                <span class="muted">{help}</span>
            </li>
        }
    };
    view! {
        <div class="filter-field">
            <label class="unseen" for=INPUT>
                "Filter"
            </label>
            <div class="filter-box">
                <Icon name="search" />
                <ul class="chips" aria-label="Filter terms">
                    {move || chips.get().into_iter().enumerate().map(chip).collect_view()}
                </ul>
                <input
                    id=INPUT
                    node_ref=input
                    role="combobox"
                    aria-autocomplete="list"
                    aria-expanded=move || shown.get().to_string()
                    aria-controls=LIST
                    aria-activedescendant=move || {
                        active.get().filter(|_| shown.get()).map(|at| format!("{LIST}-{at}"))
                    }
                    aria-invalid=move || error.with(Option::is_some).then_some("true")
                    aria-describedby="filter-error"
                    aria-keyshortcuts="/"
                    placeholder=move || {
                        if chips.with(Vec::is_empty) { "status:failed error:timeout age:<1h" } else { "" }
                    }
                    autocomplete="off"
                    autocapitalize="off"
                    spellcheck="false"
                    prop:value=typed
                    on:input=move |event| {
                        typed.set(event_target_value(&event));
                        wrong.set(None);
                        active.set(None);
                        open.set(true);
                    }
                    on:keydown=key
                    on:click=move |_| open.set(true)
                    on:blur=move |_| open.set(false)
                />
                <Show when=move || !chips.with(Vec::is_empty)>
                    <button
                        type="button"
                        class="button quiet"
                        on:click=move |_| {
                            wrong.set(None);
                            go.run(String::new());
                        }
                    >
                        "Clear filters"
                    </button>
                </Show>
            </div>
            <ul
                id=LIST
                class="suggestions"
                role="listbox"
                aria-label="Suggestions"
                class:gone=move || !shown.get()
            >
                {move || {
                    shown.get().then(|| suggestions.get().into_iter().enumerate().map(option).collect_view())
                }}
            </ul>
            <p class="error" id="filter-error" role="alert">
                {move || error.get().map(|text| view! { <Icon name="warning" />{visible(&text).into_owned()} })}
            </p>
        </div>
    }
}
